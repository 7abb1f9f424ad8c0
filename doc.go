// Package shekara holds no code: it is the root of the tree and the home of the test that guards its shape.
//
// Owns: arch_test.go, which checks import directions, package documents, and file and function sizes.
// Never: runs anything on a host.
// Imports: nothing.
// Test: go test . (unprivileged, seconds).
package shekara
