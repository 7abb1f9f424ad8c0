// Package wire is a line between two hosts that can be made bad: delay, jitter, loss, duplication, reordering, corruption,
// rate and partition, changed while it runs. It stands in for tc-netem, which not every kernel has.
//
// Owns: the impairment of frames (Line, pure and deterministic by its seed) and the pump between two taps (Wire).
// Never: makes interfaces (testbed/lab does); looks into frames.
// Imports: the standard library.
// Test: go test ./testbed/wire (unprivileged).
package wire
