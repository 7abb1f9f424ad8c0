// Package swarm runs many WireGuard peers in one process, each with its own key, outer address and inner addresses, to stand at the
// far end of Shekara in tests: hundreds that behave, and one that misbehaves in as many ways as Breakages lists.
// A peer has no kernel interface: its inner packets are built and read here, so that it can also send what no kernel would.
//
//	swarm := swarm.New()
//	defer swarm.Close()
//	err := swarm.Add(swarm.Config{Name: "agency-7", PrivateKey: key, Local: ..., FarKey: ..., FarEndpoint: ..., Addresses: ..., AllowedIPs: ...})
//	err = swarm.Stream("agency-7", swarm.Stream{To: owner, Port: 7, Rate: 5})
//	err = swarm.Break("agency-7", swarm.Break{How: "initiations-forged", Rate: 5000})
//	reports := swarm.Report() // sent, answered, lost, longest gap, handshakes, bytes
//
// Main offers the same as a program, with commands as JSON lines on standard input and answers as JSON lines on standard output
// ("shekara testbed swarm"), for use inside the namespace of a testbed host. Client speaks to it from outside.
//
// Owns: the behaviour of test peers, good and bad.
// Never: shares code with tunnels/wireguard (it is the foreign end of it); touches links, addresses or routes.
// Imports: golang.zx2c4.com/wireguard and golang.org/x/crypto alone; nothing of Shekara.
// Test: go test ./testbed/swarm (unprivileged parts over loopback; the live part needs root).
package swarm
