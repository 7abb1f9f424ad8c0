// Package echo asks addresses whether they answer: ICMP echo (RFC 792, RFC 4443), from a given source address, to probe
// through tunnels.
//
// Owns: one raw socket for each address family, shared by all requests.
// Never: says that silence means anything but silence; takes an answer that it did not ask for.
// Imports: golang.org/x/sys/unix.
// Test: go test ./netctl/echo (live, needs root).
package echo
