// Package certificate reads certificates, their keys and authorities from files (PEM), for TLS at either end.
//
// Owns: which files are taken: regular ones of a bounded size, and no key that everybody may read or write.
// Never: writes, asks for or renews a certificate; listens or dials.
// Imports: netctl/durable.
// Test: go test ./netctl/certificate (unprivileged).
package certificate
