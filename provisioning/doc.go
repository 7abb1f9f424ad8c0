// Package provisioning turns documents into what the host holds: decode -> validate -> compile -> plan -> apply -> observe.
// Its folders: document (kinds, strict decoding, the set), validate (every problem at once), compile (set -> Desired),
// api and client (HTTP over the unix socket).
//
// One function changes the host, converge: applies, reverts, the start, repairs and retries all go through it. It compares what the
// documents ask (intent) with the last look at the host (world) within a scope, and does the steps in an order in which the filter never
// allows more than both the old and the new do. What a revision is, and which one boots, is in the store.
//
// Owns: revisions under /var/lib/shekara/revisions, the plan, the apply with its way back, the loop that finds drift.
// Never: touches the host but through netctl, tunnels and firewall; shows a secret; applies a document that did not validate.
// Imports: tunnels, firewall, netctl, journal.
// Test: go test ./provisioning/... (unprivileged, with fakes that refuse what the kernel refuses; live in testbed).
package provisioning
