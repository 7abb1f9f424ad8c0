// Program shekara is the command line: everything that the daemon's API can do, and what needs no daemon (init, validate, a look at a
// time server, the testbed, man pages).
//
// Owns: verbs, flags, tables, exit codes. Only terminal.go prints.
// Never: touches the host's network itself; takes a secret as an argument.
// Imports: provisioning/client, provisioning/document and validate, testbed, timesync/source, netctl/terminal, cobra.
// Test: go test ./cmd/shekara (unprivileged transcripts in testdata; one live test needs root and makes its own namespace).
package main
