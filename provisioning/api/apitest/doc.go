// Package apitest has an engine in memory, for tests of the API and of the command line.
//
// Owns: nothing on the host.
// Never: stands for the real engine where packets, devices or the filter matter: live tests run the daemon for that.
// Imports: provisioning and its documents, journal.
// Test: go test ./provisioning/api (its user).
package apitest
