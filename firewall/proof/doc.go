// Package proof decides for all packets whether the rules that a kernel holds, in nftables and in the tables of iptables, let pass exactly what a
// policy allows, or shows a packet for which they do not.
//
//	loaded, err := proof.Kernel{…}.Decode()    // of "nft -n -j list ruleset", iptables-save, ip6tables-save and "ipset save": every table, also those of others
//	result, err := proof.Prove(loaded, policy) // proved, violated with witnesses, or indeterminate with reasons
//
// Who proves again and again keeps a Prover: after a small change it takes a fraction of the time. What it keeps is keyed by all that it
// was made from, never by what was believed to be unchanged.
//
// How. A set of packets is a binary decision diagram over the fields of the packet, its connection and its mark. Each class of packets that
// conntrack tells apart (new, established and related in both directions, invalid, untracked) walks once through all base chains of each
// path (prerouting, forward, postrouting; prerouting, input; output, postrouting) in the kernel's order, all its packets together. What
// comes out is compared with the policy, which is written down a second time in allowed.go, from its meaning and not from the compiler.
//
// What is proved, on each path:
//
//	opened      a packet that opens a connection passes if and only if a flow, probe, peer, offer or management lets it
//	living      a packet of a connection passes if and only if the policy lets that connection be opened between the places where the
//	            packet is now, whatever mark the connection can carry: one that rules loaded now write for such a connection, none, or
//	            any of another generation (as rules wrote that are gone)
//	errors      an ICMP error passes only if its connection might; where the connection was judged, it does pass
//	limits      exactly the packets of tunnels that the policy limits meet a limit; it counts as no prohibition, and by how much is not looked at
//	translated  what opens a connection leaves with the addresses that the policy says: of the far side by which it is known here, of this
//	            side those that are shown; nothing else is translated
//	kept        on a device whose far side is mapped, and from one to which this side is shown, a connection as the rules loaded now let
//	            it be opened goes on with these addresses, by whatever interface a packet of it arrives; its answers are of its conntrack zone
//	hidden      nothing leaves by a device that hides with another source than those that are shown: no packet, answer or ICMP error, of
//	            no connection, however it was translated by rules that are gone
//	sources     nothing passes that arrives from a source which its interface or device cannot have
//	this box    is reached by registered peers, management, probes, clients of what it offers, neighbours, answers and path MTU errors alone, and
//	            seals packets only from a device's own address; it sends into a tunnel only what flows and probes say,
//	            and what belongs to a zone behind tunnels alone by no other way
//
// What is not: routing (it also drops an IPv4 source of this box's own that comes for it, so such a witness may not arrive); WireGuard's allowed addresses
// (which peer a device hands a packet to); the zone of a forwarded destination, which flows do not name; to whom a packet goes that is routed
// past the device of its mapped address; flow tables, bridges, ingress hooks, other rates, conntrack helpers, translation of a target's port or to
// this box itself, and every expression, match or target that is not modelled: these make the result indeterminate where packets can meet them,
// and are named; what is in none of these listings (tc, XDP), for which the caller must look elsewhere; marks of the present generation that were
// written by rules which somebody added and removed by hand meanwhile (Generations in package firewall).
//
// How translation is modelled. What stands instead of a connection's two addresses are variables beside these. At the hook of each, the rules
// bind them for a packet that opens a connection; one that belongs to a living connection may have any. Which zone conntrack looks in is a
// register that rules write, once, before it looks. A source that the kernel chooses (a range, masquerade), and its port, may be any of those
// that it may choose. Where neither the rules that packets can meet nor the policy translate, no such variable exists, whatever empty chains of
// type nat there are.
//
// How xtables are modelled. A rule as iptables-save writes it becomes the same statements as one of nft's. What iptables-nft puts into nftables is
// in both listings: chains, their hooks, and rules without matches and targets of xtables are read from nft's, the others from the save's, rule by
// rule; both must have as many of them. Targets join marks by exclusive or. Of a set's prefixes the longest decides, with what it maps to, or with
// nomatch. A mark that a chain which is routed again leaves otherwise than it came makes the result indeterminate. conntrack knows by the hook at which
// a packet is whether its connection's target has a translation yet, and its source. Not modelled: REDIRECT, limits, and sets whose elements come and
// go by themselves; each is named.
//
// Taken for granted of xtables: raw runs behind defragmentation (raw_before_defrag is not set); a packet that is too short for a match is dropped
// by the kernel, here it only does not match; a WireGuard message over IPv6 comes without extension headers; nobody reads the queue in which what is
// not hidden ends (netctl/filters looks). What the engine for iptables drops and nftables' does not is not called stopped: a packet of this box into a
// tunnel that somebody else marked, or from an address that is not its own where anything translates, an echo whose code is not 0, and what is led past
// the device of its mapped address. Of a connection that is translated otherwise than the policy says, by rules that are gone, it is proved that where
// it goes is allowed.
//
// Taken for granted: nft lists what the kernel does; no IPv4 source that is this box's own is forwarded (fib_validate_source; where accept_local is set, netctl/filters says so); what this box sends to a mapped address and is then routed anew leaves by the interface
// that the rules saw; where nothing translates no living connection is translated (shekara verify looks at each); fragments are whole behind
// conntrack's defragmentation, and a packet whose transport header is cut off is invalid or untracked; an address of this box stays one as
// long as a connection to it lives.
//
// Owns: the model of the kernel's rules and the verdict on them.
// Never: touches the host, reads the clock, shares code with the compiler that it judges (it asks it only whether a policy is one).
// Imports: firewall, for Policy.
// Test: go test ./firewall/proof (unprivileged; mutations of loaded rulesets, and mistakes of compiler and loader, with root and nft; of saved tables of
// iptables without); random policies, and witnesses sent as packets, in firewall/nft and firewall/iptables.
package proof
