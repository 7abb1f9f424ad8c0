// Package validate finds every problem of a document set at once, each with file, line, column, the offending value and a hint.
//
// Owns: the rules of the documents, each with its requirement id.
// Never: touches the host or resolves names; stops at the first problem.
// Imports: provisioning/document, provisioning/contour for the rules of the acts; tunnels, firewall and netctl for what a key, a service and a link of ours is; journal for the events that there are.
// Test: go test ./provisioning/validate (unprivileged; each rule is broken alone; a scoped check is held to what a full one finds).
package validate
