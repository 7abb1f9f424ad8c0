// Package certificatetest makes authorities and certificates for tests of TLS, in files of the test's own folder.
//
// Owns: what it makes; all of it goes with the test.
// Never: is imported by a program, since it brings testing along.
// Imports: the standard library.
// Test: go test ./netctl/certificate (unprivileged).
package certificatetest
