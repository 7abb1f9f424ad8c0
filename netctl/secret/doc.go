// Package secret keeps keys from being printed and keeps them on disk.
//
// Owns: type Key, the store /var/lib/shekara/keys (files 0600 in folders 0700, written durably), sealing to a recipient
// (age X25519).
// Never: shows a secret through fmt, slog, JSON or YAML; takes one from an argument or the environment.
// Imports: netctl/durable, filippo.io/age.
// Test: go test ./netctl/secret (unprivileged).
package secret
