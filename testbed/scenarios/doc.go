// Package scenarios holds the scenarios that ship, as YAML, and the documents that they apply: each in NAME.yaml and NAME/.
//
// Owns: its files.
// Never: runs anything.
// Imports: the standard library.
// Test: go test ./testbed (each scenario is decoded); bin/shekara testbed run NAME (needs root).
package scenarios
