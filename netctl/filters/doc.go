// Package filters looks for what decides about packets beside the rules that nft lists: whoever proves those rules must know of it.
//
//	xtables  legacy tables of iptables, ip6tables and arptables (/proc/net/ip_tables_names and its like)
//	tc       filters on any queueing discipline of any interface: they drop, change and redirect before and behind netfilter
//	xdp      programs at the driver of any interface
//	bpf      programs attached by bpf(2): tcx on any interface, links to netfilter's hooks
//	bridge   an interface that is asked for is a port of a bridge, a bond or a VRF: its packets go another way
//	xfrm     policies that transform or block packets
//	ipvs     virtual services, which send packets elsewhere
//	mpls     labels that an interface takes, which are forwarded below IP
//	queue    programs that are asked about packets which rules send to a queue (NFQUEUE): without one the kernel drops these
//	source   an interface that is asked for takes IPv4 packets with a source of this box's own (accept_local), which the kernel drops else
//	helper   conntrack helpers that are given to connections without a rule, and so let others in as related
//
// What cannot be looked for is found too, with the reason; links to netfilter's hooks by one who lacks CAP_SYS_ADMIN (the kernel tells nobody else)
// are Unasked. A way around this namespace through another one cannot be seen from here.
//
// Owns: the looks. A table, filter or program is named, not read: what it does is for people to judge, and of legacy tables for firewall/engine,
// which reads them.
// Never: changes anything; looks at what nft lists (tables of netdev and bridge, flow tables).
// Imports: vishvananda/netlink, golang.org/x/sys/unix.
// Test: go test ./netctl/filters (needs root); each kind is planted for real, where the kernel can.
package filters
