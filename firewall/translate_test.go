package firewall_test

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/txtar"
	"pgregory.net/rapid"

	"shekara/firewall"
)

func translatedSite(t testing.TB) firewall.Policy {
	t.Helper()
	archive, err := txtar.ParseFile("testdata/translated.txtar")
	if err != nil {
		t.Fatal(err)
	}
	return parse(t, archive.Files[0].Data)
}

// TestExplainTranslates: what is asked for in packets' own addresses, what it becomes, and that the answer goes the way back.
func TestExplainTranslates(t *testing.T) {
	rules, err := firewall.Compile(translatedSite(t))
	if err != nil {
		t.Fatal(err)
	}
	e, err := firewall.NewExplainer(rules, nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ name, from, to, source, destination, becomes, reason string }{
		{"mapped source", "sk-a", "lan0", "192.168.1.5", "10.30.0.18", "10.64.1.5 10.30.0.18", ""},
		{"the same source of the other", "sk-b", "lan0", "192.168.1.5", "10.20.0.18", "10.64.2.5 10.30.0.18", ""},
		{"past the shown address", "sk-b", "lan0", "192.168.1.5", "10.30.0.18", "", firewall.NoFlow},
		{"the first's way by the other", "sk-a", "lan0", "192.168.1.5", "10.20.0.18", "", firewall.NoFlow},
		{"a mapped source from outside", "sk-a", "lan0", "10.64.1.5", "10.30.0.18", "", firewall.Spoofed},
		{"to a mapped one, behind one address", "lan0", "sk-b", "10.30.1.77", "10.64.2.5", "10.20.0.254 192.168.1.5", ""},
		{"to the true range", "lan0", "sk-b", "10.30.1.77", "192.168.1.5", "", firewall.NoFlow},
		{"IPv6", "lan0", "sk-b", "fd00:30::7", "fd00:64:2::5", "fd00:20::fe fd00:1::5", ""},
		{"hidden alone", "lan0", "sk-c", "10.30.1.77", "10.64.3.5", "10.20.0.253 10.64.3.5", ""},
		{"to who is behind one address", "sk-c", "lan0", "10.64.3.5", "10.20.0.253", "", firewall.NoFlow},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := firewall.Packet{From: c.from, To: c.to, Source: netip.MustParseAddr(c.source), Destination: netip.MustParseAddr(c.destination), Protocol: firewall.TCP, SourcePort: 40000, DestinationPort: 443}
			x, err := e.Explain(p)
			if err != nil {
				t.Fatal(err)
			}
			became := ""
			if x.Becomes != nil && x.Pass {
				became = fmt.Sprint(x.Becomes.Source, " ", x.Becomes.Destination)
			}
			if x.Reason != c.reason || became != c.becomes {
				t.Fatalf("%v %q, becomes %q, want %q", x.Pass, x.Reason, became, c.becomes)
			}
			if !x.Pass {
				return
			}
			answer := p.Reply(x.Connection)
			if answer.Source != x.Becomes.Destination || answer.Destination != x.Becomes.Source {
				t.Errorf("the answer is from %s to %s", answer.Source, answer.Destination)
			}
			back, err := e.Explain(answer)
			if err != nil || !back.Pass || *back.Becomes != (firewall.Addresses{Source: p.Destination, Destination: p.Source}) {
				t.Errorf("the answer becomes %+v, pass %v, error %v", back.Becomes, back.Pass, err)
			}
		})
	}
}

// TestUnhiddenEndsWhatIsOlder: a connection that was not translated does not leave by a device that hides.
func TestUnhiddenEndsWhatIsOlder(t *testing.T) {
	rules, err := firewall.Compile(translatedSite(t))
	if err != nil {
		t.Fatal(err)
	}
	e, err := firewall.NewExplainer(rules, nil)
	if err != nil {
		t.Fatal(err)
	}
	p := firewall.Packet{From: "lan0", To: "sk-c", Source: netip.MustParseAddr("10.30.1.77"), Destination: netip.MustParseAddr("10.64.3.5"), Protocol: firewall.TCP, Flags: 0x10, DestinationPort: 443}
	p.Connection = firewall.Connection{State: firewall.StateEstablished, Source: p.Source, Destination: p.Destination}
	x, err := e.Explain(p)
	if err != nil || x.Pass || x.Reason != firewall.Unhidden || x.Hook != "postrouting" {
		t.Errorf("%+v, %v", x, err)
	}
	p.Connection.ToSource = netip.MustParseAddr("10.20.0.253")
	if x, err := e.Explain(p); err != nil || !x.Pass {
		t.Errorf("translated: %+v, %v", x, err)
	}
}

func TestTranslationsThatCannotBe(t *testing.T) {
	for _, c := range []struct {
		change func(*firewall.Policy)
		say    string
	}{
		{func(p *firewall.Policy) { p.Devices[1].Translation.Zone = 1 }, `device "sk-b": conntrack zone 1 or marks`},
		{func(p *firewall.Policy) { p.Devices[1].Translation.Mark = p.Devices[0].Translation.Mark }, "are also another device's"},
		{func(p *firewall.Policy) { p.Devices[0].Translation.Zone = 0 }, "needs a conntrack zone and two marks"},
		{func(p *firewall.Policy) { p.Devices[0].Sources = nil }, "without the sources that it has"},
		{func(p *firewall.Policy) { p.Devices[0].Translation = &firewall.Translation{} }, "without anything to translate"},
		{func(p *firewall.Policy) {
			p.Devices[1].Translation.Far[0].Inside = netip.MustParsePrefix("10.64.1.0/28")
		}, "mapped range 10.64.1.0/28 overlaps"},
		{func(p *firewall.Policy) {
			p.Devices[0].Translation.Far[0].Outside = netip.MustParsePrefix("192.168.1.0/29")
		}, "neither of one length nor behind one address"},
		{func(p *firewall.Policy) { p.Devices[0].Translation.Far[0].Outside = netip.MustParsePrefix("fd00::/28") }, "neither of one length"},
		{func(p *firewall.Policy) {
			p.Devices[1].Translation.Local[1].Inside = netip.MustParsePrefix("10.30.0.0/16")
		}, "overlaps that of"},
		{func(p *firewall.Policy) {
			p.Flows = append(p.Flows, firewall.Flow{Name: "in", From: firewall.Place{Device: "sk-c"}, To: firewall.Place{Zone: "archive"},
				Sources: []netip.Prefix{netip.MustParsePrefix("10.64.3.5/32")}, Destinations: []netip.Prefix{netip.MustParsePrefix("10.30.1.7/32")}, Services: []firewall.Service{{Protocol: firewall.TCP}}})
		}, `flow "in": destination 10.30.1.7/32 is hidden behind 10.20.0.253/32`},
	} {
		p := translatedSite(t)
		c.change(&p)
		if _, err := firewall.Compile(p); err == nil || !strings.Contains(err.Error(), c.say) {
			t.Errorf("%v, want ...%s...", err, c.say)
		}
	}
}

// TestOutAndIn: one to one is there and back again, address by address.
func TestOutAndIn(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		bits := rapid.IntRange(0, 32).Draw(t, "bits")
		draw := func(name string) netip.Addr {
			return netip.AddrFrom4([4]byte(rapid.SliceOfN(rapid.Byte(), 4, 4).Draw(t, name)))
		}
		m := []firewall.Mapping{{Inside: netip.PrefixFrom(draw("inside"), bits).Masked(), Outside: netip.PrefixFrom(draw("outside"), bits).Masked()}}
		a := netip.PrefixFrom(draw("address"), 32)
		out, addressable := firewall.Out(m, a)
		if !addressable || !m[0].Inside.Contains(a.Addr()) && out != a {
			t.Fatalf("%s by %v is %s", a, m, out)
		}
		if m[0].Inside.Contains(a.Addr()) && (!m[0].Outside.Contains(out.Addr()) || firewall.In(m, out) != a) {
			t.Fatalf("%s by %v is %s, and back %s", a, m, out, firewall.In(m, out))
		}
	})
}
