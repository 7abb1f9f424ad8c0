// Package client speaks to the edge daemon over its unix socket: one method for each operation of provisioning/api, errors
// that name the cause and carry the next step.
//
// Owns: finding the socket (the one that acts, else the one that only looks), retries of nothing, bounded answers.
// Never: prints; keeps state between calls; speaks to a network.
// Imports: provisioning/api for the messages, journal.
// Test: go test ./provisioning/client (unprivileged, over a real unix socket).
package client
