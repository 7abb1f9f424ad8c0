// Package tunnelstest has a driver of tunnels without a kernel: Kernel keeps devices in memory, for tests of those who use a driver.
//
// Owns: nothing outside the process.
// Never: is imported by a program.
// Imports: tunnels.
// Test: go test ./tunnels ./tunnels/tunnelstest (unprivileged).
package tunnelstest
