// Command bench measures Shekara beside the bare tools, on hosts out of namespaces, and prints a table.
//
//	go run ./bench                        # the area tunnels: some seven minutes
//	go run ./bench -area firewall         # as long
//	go run ./bench -area journal          # seven minutes
//	go run ./bench -area time             # two minutes
//	go run ./bench -only apply -n 10,1000 # a part, quickly
//
// It writes bench/AREA.json, a list of {name, n, unit, ours, peer, peer_name, ratio, target, ok, runs}, and bench/AREA.machine.json,
// what it ran on. Ours and the peer are measured in one run, in turns, and the figures are medians. docs/benchmarks.md says how
// to read them. The programs measured are those in bin/: make build first.
//
// Owns: what is measured and how; bench/*.json.
// Never: fails because something is slow (a missed target is a row that says so); runs in the machine's own namespace but for a NATS and a syslog server on loopback.
// Imports: testbed/lab and testbed/generate for hosts and documents, testbed/swarm for foreign peers, provisioning/client;
// firewall and its engines and proof, journal, and timesync/server, which their areas measure without a daemon; netctl/multicast for the size of the daemon's buffer.
// Test: go test ./bench (unprivileged: the statistics); go run ./bench -only apply -n 10 (live).
package main
