package firewall

// ForwardingClosed is what is loaded where it is not known who may manage the box: nothing is forwarded, and the box itself speaks with
// whom it likes, since a border that nobody can reach is repaired by nobody. Its chains are hooked as every ruleset's are, so that the next
// one takes its place without a gap.
func ForwardingClosed() Ruleset {
	return Ruleset{Base: `	chain prerouting {
		type filter hook prerouting priority -300; policy accept;
	}
	chain forward {
		type filter hook forward priority 0; policy drop;
	}
	chain input {
		type filter hook input priority 0; policy accept;
	}
	chain output {
		type filter hook output priority 0; policy accept;
	}
`}
}

// IsForwardingClosed says whether the ruleset is that one: it has no Policy to compile for another engine.
func (r Ruleset) IsForwardingClosed() bool { return r.Base == ForwardingClosed().Base }
