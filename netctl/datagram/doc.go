// Package datagram is UDP for servers that answer many: datagrams are taken from the kernel and given to it by the batch (recvmmsg(2), sendmmsg(2)), with the time at which
// it got each, and, for those that ask, the time at which it handed the answer to the device. Nothing is allocated for a datagram.
//
// Several sockets listen at one address and port (SO_REUSEPORT): the kernel spreads peers over them, one goroutine reads each. Each waits until there is something, and goes on until Close ends it.
//
// An answer goes out from the address at which its request came. A socket of one address is bound to it, also before the host has it (IP_FREEBIND). One that was handed over by
// systemd may be bound to all; there the kernel says for each datagram where it came (IP_PKTINFO). Answers are never put into fragments by what others say of the path
// (IP_PMTUDISC_INTERFACE): a forged ICMP message could have that done to them, and fragments can be forged.
//
// Owns: sockets that it opened or was handed.
// Never: reads what a datagram says.
// Imports: golang.org/x/sys/unix.
// Test: go test ./netctl/datagram (unprivileged; addresses that come later need root).
package datagram
