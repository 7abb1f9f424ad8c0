// Package scenario is the YAML form of a testbed scenario: hosts, links, what runs on them, and steps. Decode is strict: unknown
// fields, names that nothing bears and checks that prove nothing are refused, each with its line.
//
// Owns: the form of scenarios and what makes one valid.
// Never: runs anything.
// Imports: go.yaml.in/yaml/v4, testbed/wire for the words of an impairment.
// Test: go test ./testbed/scenario (unprivileged, with a fuzz target).
package scenario
