// Package contour holds connections to the rules that the acts lay down for contours, gateways and cryptographic protection.
//
// rules.go is the whole of them, a row each: the paragraph, what is refused, the next step. They are judged twice: by validate on the
// documents, with their positions, and by compile on what was compiled from them, so that a mistake of the compiler is refused too.
//
// A rule speaks only of facts that are declared: where no document says whose an address is, rules about organisations and systems have
// nothing to say, and documents from before these kinds stay valid.
//
// Owns: the table of rules, waivers, the calendar by which they end; docs/contours.md is generated from the table.
// Never: decodes, finds positions in files, or looks at the host.
// Imports: provisioning/document; firewall for its vocabulary of services.
// Test: go test ./provisioning/contour (unprivileged); each rule is broken alone in provisioning/validate and provisioning/compile.
package contour
