// Package lab makes hosts and the links between them on one machine: Open, Network.Host, Network.Link, then Host.Run and Host.Start.
//
// A host is a network, mount, PID, IPC and UTS namespace held by an agent: process 1 of the host, started from this same
// binary (Agent). The agent owns private /run, /etc, /var/lib, /proc and /sys, starts programs as its own children, and
// ends as soon as its control socket closes. So whatever happens to the program that made the network, kill -9 too, the
// kernel closes the socket, the agent ends, and with it every process, mount, link and namespace of the host.
//
// Owns: namespaces, links, addresses and routes of the hosts that it made. Nothing has a name outside.
// Never: touches the namespace that it was called in; judges what happens inside the hosts.
// Imports: netctl/ns, testbed/wire, vishvananda/netlink, golang.org/x/sys.
// Test: go test ./testbed/lab (needs root).
package lab
