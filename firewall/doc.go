// Package firewall compiles contours, zones and flows (Policy) to rules (Ruleset). Its folder nft loads them in
// one transaction; its folder iptables makes the same Policy real on older kernels, and engine chooses.
//
// A Ruleset has two parts. The base depends on zones, interfaces, devices, management and resolvers alone. All that belongs to one tunnel or
// one flow is elements of sets, so that a change of one tunnel is a few elements in one transaction, never a reload. The maps of a base have names that
// say what they hold (lookup), so that those of two bases stand side by side while one takes the place of the other.
//
// How a packet is judged that passes through this box, and one that the box itself sends into a tunnel or gets as an answer from there:
//
//	prerouting  is its source one that this interface or device may send?                 else counted as spoofed
//	verify      does the connection's mark say that it was judged under the present       accept, the common case
//	            generation, to run between just this place and that one?
//	judge       the pair of places, the addresses with which the connection was opened,   accept, and mark the connection
//	            protocol and port are looked up in the flows                              else counted as no_flow
//
// A place is a zone (its interfaces) or a tunnel device; the box itself opens from the zone of its address. What others open to the box
// itself no flow admits: only tunnel ports, management and probes, each judged packet by packet, and offers (the time), which are judged as flows to a
// place of its own, BoxPlace, that no interface has. The connection mark is only a cache of the judgement: 10 bits of the
// place it was opened from, 10 bits of the place it goes to, 12 bits of generation. Whatever takes something away begins a new
// generation, so connections under way are judged again, once each: those still allowed go on, the others end at that moment.
//
// What was let pass through the box meets the limits of its tunnel (Limit) in a chain behind those, on the shortcut too: two maps, from the
// device and the far prefix of each side, lead to the tunnel's own chains. Limits only take away, and connections are not judged again by them.
//
// What is dropped ends in one chain for each hook and reason. Its name, as "forward.no_flow", is the ID of what drops: of the counter that
// counts all of it, and of the records that the kernel sends to LogGroup of a few packets a second.
//
// A device may translate addresses (Translation). Rules judge by conntrack's original addresses, those of the opener, which no translation
// changes; the Policy is in this side's notation throughout, and flows that the far side opens are compiled into the far side's. Nothing
// leaves by a device that hides addresses with another source than those that are shown.
//
// Limits: connection marks are ours alone on this host. A packet that is judged (the first of a connection or of a generation)
// loses the packet mark that others gave it. An ICMP error about a connection that was not judged since the last removal is
// dropped; the next packet of the connection cures that. Generations repeat after 4,095 removals (see Generations).
//
// An Explainer reads a Ruleset's text back, by the words that this package writes and no others, and follows a packet through it: which
// rule decides, and why. It is no second compiler: a mistake in a rule shows in what is explained, and tests hold both against
// the kernel and against a reference that knows only the meaning of a Policy.
//
// Owns: the meaning of a Policy, the text of every rule of the nftables table "inet shekara", connection marks, why a packet passes or not.
// Never: touches the host (nft/ and iptables/ do, for what bears our name); reads documents; names a rule that no document asked for, except
// the named built-in ones (neighbour discovery, path MTU, management, resolvers, tunnel ports, probes).
// Imports: netctl and its folders.
// Test: go test ./firewall (unprivileged, goldens in nft syntax); go test ./firewall/nft ./firewall/iptables (live; firewalltest is their contract), where
// random documents are held against the oracle, Explain, the kernel and the proof.
package firewall
