// Package generate writes the documents of an owner with any number of agencies, for benchmarks and the scale scenario. The same
// seed gives the same bytes.
//
//	estate, err := generate.New(1, 10_000)
//	base := estate.Base()            // Zones, the owner's Site and Peer
//	all := estate.Tunnels(0, 10_000) // a Peer, a Tunnel and a Flow for each agency
//	one := estate.Changed(7, 3)      // the Tunnel and Flow of agency 7, third variation
//
// Outside: the owner is 198.18.0.1, agency i is 198.18.1.0 + i (RFC 2544's range, all on one link). Inside: the owner's gateway is
// 10.20.0.10, agency i has the i-th /28 of 10.64.0.0/12.
//
// Owns: the addresses, names and keys of such an estate.
// Never: touches the host; uses a private key of a real device (they are derived from the seed, and so known to all).
// Imports: golang.org/x/crypto alone, so that documents are written as people write them, not by the code that reads them.
// Test: go test ./testbed/generate (unprivileged).
package generate
