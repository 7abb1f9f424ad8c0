// Package tamper does to a copy of a journal what somebody might who wants the record to say something else: with nothing but the files, with all
// but the key, and with the key. It is written from docs/journal-format.md.
//
// Owns: the list of manipulations, and what verification has to say of each.
// Never: verifies; touches files; shares code with the journal, whose verification is tested by it.
// Imports: nothing of the project.
// Test: go test ./testbed/tamper (each manipulation changes something); bin/shekara testbed run tamper (each is found).
package tamper
