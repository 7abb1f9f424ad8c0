package journal

// catalogueOfTraffic is what passes and what does not: tunnels, the filter, connections, flows and dropped packets.
func catalogueOfTraffic() []Entry {
	carried := []Field{
		always("packetsTo", "packets in the direction in which it was opened"), always("bytesTo", "their bytes, with the IP headers"),
		always("packetsBack", "packets of the answers"), always("bytesBack", "their bytes, with the IP headers"),
	}
	connection := []Field{
		maybe("flow", "name of the Flow document"), always("protocol", "tcp, udp, icmp, icmpv6, sctp, or a number"),
		always("source", "address from which it was opened"), always("destination", "address to which it was opened, as it was written then"),
		maybe("sourcePort", "of protocols with ports"), maybe("destinationPort", "of protocols with ports"), maybe("began", "when it began, where the kernel knows"),
	}
	in, out := maybe("in", "interface by which it came"), maybe("out", "interface by which it would have left")
	return []Entry{
		{
			Type: TunnelState, Severities: []Severity{Notice, Warning, Error},
			Meaning: "A tunnel's state changed; the message has the reason. Severity is error for down and failed, warning for one-way and stale.",
			Fields:  []Field{always("before", "state before"), always("after", "state now: configured, handshaking, idle, passing, one-way, stale, down or failed")},
			Do:      "shekara tunnel show NAME has reason and counters, and docs/getting-started.md what to look at when a tunnel does not pass; ask the far side, and look at the line.",
		},
		{
			Type: TunnelRoam, Severities: []Severity{Notice},
			Meaning: "The far end of a tunnel is at another address or port than before, as its last authenticated packet shows. Told once a minute for each tunnel.",
			Fields:  []Field{always("before", "address and port before"), always("after", "address and port now"), always("times", "how often it moved since the event before")},
			Do:      "If the far side did not move: somebody else may hold its key. Ask it, and change the key.",
		},
		{
			Type: TunnelFail, Severities: []Severity{Error},
			Meaning: "A tunnel has an error of its own, which the message tells, and is tried again later; the others go on.",
			Fields:  []Field{maybe("hint", "the next step")},
			Do:      "Follow the hint; a secret that is missing is brought by shekara secret import.",
		},
		{
			Type: TunnelRecover, Severities: []Severity{Notice},
			Meaning: "A tunnel's own error is gone.",
			Do:      nothing,
		},
		{
			Type: TunnelReset, Severities: []Severity{Warning, Error},
			Meaning: "A tunnel that was stuck in its handshake was reset alone (warning), or could not be (error).",
			Do:      "If it comes again: see whether the far side has our present public key, and whether its address and port are right.",
		},
		{
			Type: TunnelLimit, Severities: []Severity{Warning},
			Meaning: "A tunnel wants more than its limits let it, and what is beyond is dropped. Told once a minute for each tunnel.",
			Fields:  []Field{always("rule", "ID of what dropped it, as shekara explain names it"), always("reason", "which limit: the last part of the ID"), in, out},
			Do:      "Ask the far side what it sends, or raise the limits of the Tunnel document.",
		},
		{
			Type: FilterClose, Severities: []Severity{Notice, Alert},
			Meaning: "At boot, before the network, nothing is forwarded; management is let in as the last confirmed revision says. Where that cannot be read the box itself is open (alert). The daemon's first ruleset takes its place.",
			Do:      "At an alert: see the message and journalctl -u shekarad, and restore the state folder.",
		},
		{
			Type: ConnectionStart, Severities: []Severity{Info},
			Meaning: "A connection that a flow lets pass has begun. At most ten a minute for a flow and 120 for all are told one by one, of beginnings and of ends.",
			Fields:  connection,
			Do:      nothing,
		},
		{
			Type: ConnectionEnd, Severities: []Severity{Info},
			Meaning: "A connection that a flow lets pass has ended.",
			Fields:  append(append(connection[:len(connection):len(connection)], carried...), maybe("seconds", "how long it lived, where the kernel knows")),
			Do:      nothing,
		},
		{
			Type: ConnectionSum, Severities: []Severity{Info},
			Meaning: "So many more connections began and ended within a minute, counted exactly; what was carried is that of those that ended.",
			Fields: append([]Field{maybe("flow", "name of the Flow document; absent for many flows together"), always("began", "how many began"), always("ended", "how many ended")},
				carried...),
			Do: nothing,
		},
		{
			Type: ForwardStop, Severities: []Severity{Alert},
			Meaning: "Nothing is forwarded any more, as events cannot be recorded and the Site says `unrecorded: stop`. Tunnels stay up, and who may manage the box may go on.",
			Do:      "Make the journal's disk take writes again: free room, or see the daemon's log. Traffic then goes on by itself.",
		},
		{
			Type: ForwardResume, Severities: []Severity{Notice},
			Meaning: "What the flows let pass passes again: events are recorded.",
			Do:      nothing,
		},
		{
			Type: FlowRevoke, Severities: []Severity{Notice, Error},
			Meaning: "Connections that were established under a flow no longer declared were cut: by an apply, a revert or a waiver that ended, or because somebody let them in by hand. The object is the tunnel where all went through one, the actor who asked for the change. It is an error where some have passed packets since.",
			Fields: []Field{
				always("connections", "how many were cut"), maybe("list", "some of them; cut behind 1,000 bytes"), maybe("closed", "when the filter closed"),
				maybe("flows", "that allowed those that were cut, by name; cut behind 1,000 bytes"), maybe("tunnels", "of these flows; cut likewise"), maybe("peers", "at the far ends of these tunnels; cut likewise"),
				always("revision", "that allows them no more; of several applied at once the last"),
				maybe("lastPacket", "when a packet of them came last, to the second, by each connection's own last activity: conntrack counts a packet before the filter judges it, so one after `closed` may have been dropped"), always("checked", "when it was looked at whether they pass packets still"),
				maybe("since", "how many have passed packets since they were cut, as only a packet that passes makes an entry; absent where that could not be seen"),
				maybe("packets", "what they had carried, both ways"), maybe("bytes", "what they had carried, both ways, with the IP headers"),
			},
			Do: "Where since is not 0: shekara verify, and shekara explain with the addresses of the list, say what still lets them pass.",
		},
		{
			Type: FlowEnd, Severities: []Severity{Info},
			Meaning: "A flow is declared no more and its last connection has ended: its totals are let go, and are in the fields.",
			Fields:  append([]Field{always("opened", "how many connections were opened"), maybe("since", "from when on it was counted")}, carried...),
			Do:      nothing,
		},
		{
			Type: FlowMiss, Severities: []Severity{Warning, Error},
			Meaning: "What flows carried is not counted whole: connections ended while no daemon ran, or the kernel dropped news of them (warning), or gives none at all (error); then some that began or ended are on record neither. What they carried since they were looked at last is missing.",
			Fields: []Field{
				maybe("connections", "how many ended unheard, as far as is known yet; it may be 0"),
				maybe("since", "from when on the kernel dropped news"), maybe("until", "until when it did"),
			},
			Do: "At an error: mend what the message names, and systemctl restart shekarad. If it comes again while the daemon runs: see what opens so many connections at once, by the connection.sum and packet.drop of that time.",
		},
		{
			Type: PacketDrop, Severities: []Severity{Notice, Warning},
			Meaning: "The filter dropped a packet; or, of the rule's last minute, so many more. It is a warning where a source is forged, or an outer packet would leave from a wrong address or into a tunnel.",
			Fields: []Field{
				always("rule", "ID of what dropped it, as shekara explain names it"), always("reason", "the last part of the ID: no_flow, no_peer, spoofed …"), in, out,
				maybe("source", "address, of a packet of IP"), maybe("destination", "address, of a packet of IP"), maybe("protocol", "tcp, udp, icmp, icmpv6, sctp, or a number"),
				maybe("length", "bytes, with the IP header"), maybe("fragment", "true where it is a later fragment"),
				maybe("sourcePort", "of protocols with ports"), maybe("destinationPort", "of protocols with ports"), maybe("type", "of ICMP"), maybe("code", "of ICMP"),
				maybe("suppressed", "how many more the rule dropped within the last minute; then nothing is told of a single packet"),
			},
			Do: "shekara explain says what would have to be declared for it to pass. From inside: find a host that is misconfigured or lacks a flow; from outside it is mostly noise, and incidents tell a scan.",
		},
		{
			Type: PacketMiss, Severities: []Severity{Warning, Error},
			Meaning: "Records of dropped packets were lost, because they came faster than they were read (warning), or cannot be read (error, until a warning says that they can again); the packets are counted all the same.",
			Fields: []Field{
				maybe("records", "how many there was no room for in the daemon"), maybe("kernel", "how often the kernel had no room, which does not say for how many"),
				maybe("since", "records from here on are missing"), maybe("until", "records until here are missing"),
			},
			Do: "At a warning: see by packet.drop who sends so much. At an error: see who else reads them, such as ulogd in the same group (/proc/net/netfilter/nfnetlink_log).",
		},
	}
}
