package provisioning

import (
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"shekara/journal"
	"shekara/netctl"
	"shekara/netctl/nftables"
	"shekara/tunnels"
)

func (e *events) last(t journal.Type) journal.Event {
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, event := range slices.Backward(e.list) {
		if event.Type == t {
			return event
		}
	}
	return journal.Event{}
}

func transaction(pid int, table string) netctl.Heard {
	return netctl.Heard{Transactions: []nftables.Transaction{{PID: pid, Command: "nft", Objects: []nftables.Object{{Verb: "delete", Kind: "rule", Table: table, Name: "forward", Handle: 7}}}}}
}

// Each kind of change by another's hand is found within two seconds, with its author as far as the kernel tells, and repaired.
func TestDriftIsAttributedWithinTwoSeconds(t *testing.T) {
	for name, test := range map[string]struct {
		damage func(b *box)
		by     string
		did    string
	}{
		"filter": {func(b *box) {
			b.filter.Tamper(someElement(b))
			b.tell(transaction(1, "inet shekara-check").Merge(transaction(4711, "inet shekara")))
		}, "filter: nft (process 4711)", "delete rule inet shekara forward handle 7"},
		"filter of iptables": {func(b *box) {
			b.filter.Tamper(someElement(b))
			elsewhere, ours := transaction(4710, "ip mangle"), transaction(4711, "ip mangle")
			ours.Transactions[0].Objects[0].Name = "SHEKARA-a-forward"
			b.tell(elsewhere.Merge(ours))
		}, "filter: nft (process 4711)", "delete rule ip mangle SHEKARA-a-forward handle 7"},
		"route": {func(b *box) {
			b.breakRoute(agency{n: 0})
			b.tell(netctl.Heard{Changes: []netctl.Change{{Text: "delete route x", Port: 77}}})
		}, "routing: unknown (netlink port 77, often the process's number)", "delete route x"},
		"a route of others in the place of ours": {func(b *box) {
			b.network.ReplaceRoute(netctl.Route{Table: netctl.InnerTable, Prefix: netip.MustParsePrefix(agency{n: 0}.prefixText()), Link: "ext0"})
			b.look.poke()
		}, "routing: " + byNobody, ""},
		"an address on a device": {func(b *box) {
			b.network.AddAddress(b.device(), "192.0.2.99/32")
			b.look.poke()
		}, "routing: " + byNobody, ""},
		"allowed IPs": {func(b *box) {
			err := b.tunnels.Pass(b.device(), agency{n: 0}.publicKey(), func(p *tunnels.PeerState) {
				p.AllowedIPs = append(p.AllowedIPs, netip.MustParsePrefix("10.0.0.0/8"))
			})
			if err != nil {
				b.t.Error(err)
			}
		}, "tunnels: " + byUntold, ""},
		"what was lost": {func(b *box) {
			b.filter.Tamper(someElement(b))
			b.tell(netctl.Heard{Lost: 1})
		}, "filter: " + byLost, ""},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T, b *box) {
				b.wait(time.Minute)
				test.damage(b)
				b.wait(2 * time.Second)
				found := b.events.last(journal.DriftFind)
				if found.Fields["by"] != test.by || found.Fields["did"] != test.did || found.Fields["what"] == "" || !strings.Contains(found.Message, test.by) {
					t.Errorf("found: %+v", found)
				}
				b.mustBeAsAsked()
				b.wait(time.Minute)
				if finds, repairs, passes := b.events.count(journal.DriftFind), b.events.count(journal.DriftRepair), b.events.count(journal.DriftPass); finds != 1 || repairs != 1 || passes != 0 {
					t.Errorf("events: %v", b.events.types())
				}
				if gaps := b.events.count(journal.WatchGap); (gaps == 1) != strings.Contains(test.by, byLost) {
					t.Errorf("%d gaps", gaps)
				}
			})
		})
	}
}

// What was done and undone between two looks is on record, once; what we did is not.
func TestWhatLeftNoTraceIsRecorded(t *testing.T) {
	inBubble(t, func(t *testing.T, b *box) {
		b.wait(time.Minute)
		b.tell(transaction(1, "inet shekara"))
		b.tell(transaction(4711, "inet another"))
		b.tell(netctl.Heard{Changes: []netctl.Change{{Text: "delete route x", Port: 0}, {Text: "change link sk-agencies", Port: 9}}})
		b.wait(time.Minute)
		if n := b.events.count(journal.DriftPass); n != 0 {
			t.Errorf("events: %v", b.events.types())
		}
		b.tell(transaction(4711, "inet shekara"))
		b.wait(time.Minute)
		if n := b.events.count(journal.DriftPass); n != 1 || b.events.last(journal.DriftPass).Fields["by"] != "nft (process 4711)" || b.events.count(journal.DriftFind) != 0 {
			t.Errorf("events: %v", b.events.types())
		}
	})
}

func TestWhatStandsInTheWayIsNamedAndLeft(t *testing.T) {
	inBubble(t, func(t *testing.T, b *box) {
		b.wait(time.Minute)
		const chain = "table inet other chain c: type filter hook forward priority 0 policy drop: drops by its policy"
		stand := func(chains ...string) {
			b.heardMu.Lock()
			b.foreignChains = chains
			b.heardMu.Unlock()
			b.filter.Tamper("flow4_24_32_16", "0x01403000 . 10.65.0.0 . 10.20.0.11 . 6 . 80") // else the fake says that nobody touched nftables
			b.tell(transaction(812, "inet other"))
			b.wait(2 * time.Second)
		}
		stand(chain)
		found := b.events.last(journal.ForeignFind)
		if b.events.count(journal.ForeignFind) != 1 || found.Fields["what"] != chain || found.Fields["by"] != "nft (process 812)" {
			t.Errorf("events %v, found %+v", b.events.types(), found)
		}
		status, err := b.Status(t.Context())
		if err != nil || !slices.Contains(status.Drift, notOursSay+chain) {
			t.Errorf("status: %+v, %v", status, err)
		}
		b.network.AddForeignRoute(netctl.Route{Table: netctl.InnerTable, Prefix: netip.MustParsePrefix("10.64.0.1/32"), Link: "ext0"})
		b.wait(2 * lookEvery)
		if found = b.events.last(journal.ForeignFind); b.events.count(journal.ForeignFind) != 2 || !strings.HasPrefix(found.Fields["what"], "route 10.64.0.1/32 dev ext0") {
			t.Errorf("events %v, found %+v", b.events.types(), found)
		}
		stand()
		if b.events.count(journal.ForeignEnd) != 1 || b.events.last(journal.ForeignEnd).Fields["what"] != chain {
			t.Errorf("events: %v", b.events.types())
		}
	})
}

// TestLinesNameObjects: what engines say of the filter is of one table or, among the tables of iptables, of one chain.
func TestLinesNameObjects(t *testing.T) {
	for _, c := range []struct {
		line, table, chain string
		want               bool
	}{
		{"table inet other chain c: drops", "inet other", "c", true},
		{"table inet other chain c: drops", "inet other", "d", true},
		{"table inet other chain c: drops", "inet others", "c", false},
		{"IPv4 table mangle chain FORWARD: jump to our chain missing", "ip mangle", "FORWARD", true},
		{"IPv4 table mangle chain FORWARD: jump to our chain missing", "ip6 mangle", "FORWARD", false},
		{"IPv4 table mangle chain FORWARD: jump to our chain missing", "ip mangle", "FOR", false},
		{"IPv4 table mangle chain FORWARD: jump to our chain missing", "ip filter", "FORWARD", false},
		{"IPv6 table raw chain SHEKARA-a-prerouting missing", "ip6 raw", "SHEKARA-a-prerouting", true},
	} {
		if got := names(c.line, nftables.Object{Kind: "rule", Table: c.table, Name: c.chain}); got != c.want {
			t.Errorf("%q, table %s chain %s: %v", c.line, c.table, c.chain, got)
		}
	}
}
