package firewall_test

import (
	"net/netip"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/txtar"

	"shekara/firewall"
)

var boxAddresses = []netip.Addr{netip.MustParseAddr("203.0.113.10"), netip.MustParseAddr("2001:db8:113::10"), netip.MustParseAddr("10.20.0.1"),
	netip.MustParseAddr("fd00:20::1"), netip.MustParseAddr("192.168.100.1")}

func explainer(t testing.TB, p firewall.Policy) *firewall.Explainer {
	t.Helper()
	rules, err := firewall.Compile(p)
	if err != nil {
		t.Fatal(err)
	}
	e, err := firewall.NewExplainer(rules, boxAddresses)
	if err != nil {
		t.Fatal(err)
	}
	return e
}

// TestExplainerReadsWhatIsWritten: every rule of every golden is one that the explainer knows.
func TestExplainerReadsWhatIsWritten(t *testing.T) {
	files, err := filepath.Glob("testdata/*.txtar")
	if err != nil || len(files) == 0 {
		t.Fatalf("no goldens: %v", err)
	}
	for _, file := range files {
		archive, err := txtar.ParseFile(file)
		if err != nil {
			t.Fatal(err)
		}
		explainer(t, parse(t, archive.Files[0].Data))
	}
}

// TestExplainerRefusesWhatItDoesNotKnow: a rule with a word that is none of ours is an error, never passed over.
func TestExplainerRefusesWhatItDoesNotKnow(t *testing.T) {
	rules, err := firewall.Compile(site(t))
	if err != nil {
		t.Fatal(err)
	}
	for _, change := range []struct{ old, new string }{
		{"ct state invalid goto", "ct state invalid limit rate 1/second goto"},
		{"limit rate 5/second burst 20 packets log", "limit rate 5/second burst 20 packets drop"},
		{"meta nfproto ipv6 fib saddr type local", "meta nfproto ipv6 fib saddr type blackhole"},
		{`iifname "lo" accept`, `iifname "lo" queue`},
		{"policy drop;", "policy queue;"},
		{"udp length < 40", "udp length > 40"},
		{"hook forward", "hook ingress"},
		{"goto outer_0x534b0001", "goto nowhere"},
		{"@zone_links accept", "@nothing accept"},
	} {
		broken := rules
		broken.Base = strings.Replace(rules.Base, change.old, change.new, 1)
		if broken.Base == rules.Base {
			t.Fatalf("nothing to change: %q", change.old)
		}
		if _, err := firewall.NewExplainer(broken, nil); err == nil {
			t.Errorf("%q is taken", change.new)
		}
	}
}

func TestExplain(t *testing.T) {
	e := explainer(t, site(t))
	at := netip.MustParseAddr
	// The connections of replies are those that their openings leave behind.
	for _, c := range []struct {
		name         string
		packet       firewall.Packet
		reply        bool
		pass         bool
		hook, reason string
		builtIn, set string
		mss          int
	}{
		{name: "a flow", packet: firewall.Packet{From: "sk-agencies", To: "dmz0.100", Source: at("10.64.1.5"), Destination: at("10.20.0.10"), Protocol: firewall.TCP, DestinationPort: 443},
			pass: true, hook: "forward", set: "flow4_28_32_16", mss: 1380},
		{name: "its reply", packet: firewall.Packet{From: "sk-agencies", To: "dmz0.100", Source: at("10.64.1.5"), Destination: at("10.20.0.10"), Protocol: firewall.TCP, DestinationPort: 443},
			reply: true, pass: true, hook: "forward"},
		{name: "a flow, IPv6", packet: firewall.Packet{From: "sk-agencies", To: "dmz0.100", Source: at("fd00:64:1::5"), Destination: at("fd00:20::10"), Protocol: firewall.TCP, DestinationPort: 443},
			pass: true, hook: "forward", set: "flow6_48_128_16", mss: 1360},
		{name: "another port", packet: firewall.Packet{From: "sk-agencies", To: "dmz0.100", Source: at("10.64.1.5"), Destination: at("10.20.0.10"), Protocol: firewall.TCP, DestinationPort: 444},
			hook: "forward", reason: firewall.NoFlow},
		{name: "the last port of a range", packet: firewall.Packet{From: "sk-agencies", To: "dmz0.100", Source: at("10.64.1.5"), Destination: at("10.20.0.10"), Protocol: firewall.UDP, DestinationPort: 8100},
			pass: true, hook: "forward", set: "flow4_28_32_16"},
		{name: "behind the range", packet: firewall.Packet{From: "sk-agencies", To: "dmz0.100", Source: at("10.64.1.5"), Destination: at("10.20.0.10"), Protocol: firewall.UDP, DestinationPort: 8101},
			hook: "forward", reason: firewall.NoFlow},
		{name: "through another device", packet: firewall.Packet{From: "sk-agencies6", To: "dmz0.100", Source: at("10.64.1.5"), Destination: at("10.20.0.10"), Protocol: firewall.TCP, DestinationPort: 443},
			hook: "forward", reason: firewall.NoFlow},
		{name: "spoofed from the internet", packet: firewall.Packet{From: "ext0", To: "dmz0.100", Source: at("10.64.1.5"), Destination: at("10.20.0.10"), Protocol: firewall.TCP, DestinationPort: 443},
			hook: "prerouting", reason: firewall.Spoofed, builtIn: "anti-spoofing"},
		{name: "our own IPv6 address from outside", packet: firewall.Packet{From: "ext0", Source: at("2001:db8:113::10"), Destination: at("2001:db8:113::10"), Protocol: firewall.UDP, DestinationPort: 51820},
			hook: "prerouting", reason: firewall.Spoofed, builtIn: "anti-spoofing"},
		{name: "our own IPv4 address from outside", packet: firewall.Packet{From: "ext0", Source: at("203.0.113.10"), Destination: at("203.0.113.10"), Protocol: firewall.UDP, DestinationPort: 51820},
			hook: "routing", reason: firewall.Martian},
		{name: "DHCP", packet: firewall.Packet{From: "dmz0.100", Source: at("0.0.0.0"), Destination: at("255.255.255.255"), Protocol: firewall.UDP, SourcePort: 68, DestinationPort: 67}, hook: "input", reason: firewall.NoFlow},
		{name: "out to the internet, no clamp", packet: firewall.Packet{From: "dmz0.100", To: "ext0", Source: at("10.20.0.7"), Destination: at("198.51.100.9"), Protocol: firewall.TCP, DestinationPort: 443},
			pass: true, hook: "forward", set: "flow4_24_0_16"},
		{name: "SYN and ACK without an opening", packet: firewall.Packet{From: "sk-agencies", To: "dmz0.100", Source: at("10.64.1.5"), Destination: at("10.20.0.10"), Protocol: firewall.TCP, DestinationPort: 443, Flags: 0x12},
			hook: "forward", reason: firewall.Invalid},
		{name: "a tunnel's port, its peer", packet: firewall.Packet{From: "ext0", Source: at("198.51.100.20"), Destination: at("203.0.113.10"), Protocol: firewall.UDP, DestinationPort: 51820},
			pass: true, hook: "input", builtIn: "tunnel ports", set: "tunnel_peer4"},
		{name: "a tunnel's port, nobody's peer", packet: firewall.Packet{From: "ext0", Source: at("198.51.100.21"), Destination: at("203.0.113.10"), Protocol: firewall.UDP, DestinationPort: 51820},
			hook: "input", reason: firewall.NoPeer, builtIn: "tunnel ports"},
		{name: "a tunnel's port, a peer behind NAT", packet: firewall.Packet{From: "ext0", Source: at("2001:db8::1"), Destination: at("2001:db8:113::10"), Protocol: firewall.UDP, DestinationPort: 51820},
			pass: true, hook: "input", builtIn: "tunnel ports", set: "tunnel_any6"},
		{name: "no message", packet: firewall.Packet{From: "ext0", Source: at("198.51.100.20"), Destination: at("203.0.113.10"), Protocol: firewall.UDP, DestinationPort: 51820, UDPLength: 39},
			hook: "input", reason: firewall.NoMessage, builtIn: "tunnel ports"},
		{name: "management", packet: firewall.Packet{From: "adm0", Source: at("192.168.100.7"), Destination: at("192.168.100.1"), Protocol: firewall.TCP, DestinationPort: 22},
			pass: true, hook: "input", builtIn: "management tcp/22"},
		{name: "management from elsewhere", packet: firewall.Packet{From: "dmz0.100", Source: at("10.20.0.7"), Destination: at("192.168.100.1"), Protocol: firewall.TCP, DestinationPort: 22},
			hook: "input", reason: firewall.NoFlow},
		{name: "probe in", packet: firewall.Packet{From: "sk-agencies", Source: at("10.64.1.1"), Destination: at("10.20.0.10"), Protocol: firewall.ICMP, ICMPType: firewall.EchoRequest},
			pass: true, hook: "input", builtIn: "probe", set: "probe_in4"},
		{name: "probe in, answered", packet: firewall.Packet{From: "sk-agencies", Source: at("10.64.1.1"), Destination: at("10.20.0.10"), Protocol: firewall.ICMP, ICMPType: firewall.EchoRequest},
			reply: true, pass: true, hook: "output"},
		{name: "probe out", packet: firewall.Packet{To: "sk-agencies", Source: at("10.20.0.10"), Destination: at("10.64.1.1"), Protocol: firewall.ICMP, ICMPType: firewall.EchoRequest},
			pass: true, hook: "output", builtIn: "probe", set: "probe_out4"},
		{name: "the time, from a tunnel", packet: firewall.Packet{From: "sk-agencies", Source: at("10.64.1.5"), Destination: at("10.20.0.1"), Protocol: firewall.UDP, DestinationPort: 123},
			pass: true, hook: "input", builtIn: firewall.OwnService, set: "flow4_28_32_16"},
		{name: "the time, told into a tunnel", packet: firewall.Packet{From: "sk-agencies", Source: at("10.64.1.5"), Destination: at("10.20.0.1"), Protocol: firewall.UDP, DestinationPort: 123},
			reply: true, pass: true, hook: "output"},
		{name: "keys for the time, IPv6", packet: firewall.Packet{From: "sk-agencies", Source: at("fd00:64:1::5"), Destination: at("fd00:20::1"), Protocol: firewall.TCP, DestinationPort: 4460},
			pass: true, hook: "input", builtIn: firewall.OwnService, set: "flow6_48_128_16"},
		{name: "the time, from a zone", packet: firewall.Packet{From: "dmz0.100", Source: at("10.20.0.7"), Destination: at("10.20.0.1"), Protocol: firewall.UDP, DestinationPort: 123},
			pass: true, hook: "input", builtIn: firewall.OwnService, set: "flow4_24_32_16"},
		{name: "the time, from another host", packet: firewall.Packet{From: "sk-agencies", Source: at("10.64.1.16"), Destination: at("10.20.0.1"), Protocol: firewall.UDP, DestinationPort: 123},
			hook: "input", reason: firewall.NoFlow},
		{name: "the time, through another tunnel", packet: firewall.Packet{From: "sk-agencies6", Source: at("10.64.1.5"), Destination: at("10.20.0.1"), Protocol: firewall.UDP, DestinationPort: 123},
			hook: "input", reason: firewall.NoFlow},
		{name: "the time, at another address", packet: firewall.Packet{From: "sk-agencies", Source: at("10.64.1.5"), Destination: at("192.168.100.1"), Protocol: firewall.UDP, DestinationPort: 123},
			hook: "input", reason: firewall.NoFlow},
		{name: "the time, from the internet", packet: firewall.Packet{From: "ext0", Source: at("198.51.100.9"), Destination: at("10.20.0.1"), Protocol: firewall.UDP, DestinationPort: 123},
			hook: "input", reason: firewall.NoFlow},
		{name: "a flow to the subnet is none to the box", packet: firewall.Packet{From: "sk-agencies", Source: at("10.64.1.5"), Destination: at("10.20.0.1"), Protocol: firewall.TCP, DestinationPort: 443},
			hook: "input", reason: firewall.NoFlow},
		{name: "what is for the box, led past it", packet: firewall.Packet{From: "sk-agencies", To: "unplaced0", Source: at("10.64.1.5"), Destination: at("10.20.0.1"), Protocol: firewall.UDP, DestinationPort: 123},
			hook: "forward", reason: firewall.NoFlow},
		{name: "into a tunnel without a flow", packet: firewall.Packet{To: "sk-agencies", Source: at("10.20.0.10"), Destination: at("10.64.1.1"), Protocol: firewall.TCP, DestinationPort: 80},
			hook: "output", reason: firewall.NoFlow, builtIn: "this box into tunnels"},
		{name: "the box to a zone", packet: firewall.Packet{To: "ext0", Source: at("203.0.113.10"), Destination: at("198.51.100.9"), Protocol: firewall.TCP, DestinationPort: 443},
			pass: true, hook: "output"},
		{name: "the box to a zone, answered", packet: firewall.Packet{To: "ext0", Source: at("203.0.113.10"), Destination: at("198.51.100.9"), Protocol: firewall.TCP, DestinationPort: 443},
			reply: true, pass: true, hook: "input", builtIn: "answers to this box", set: "zone_links"},
		{name: "the box to its resolver", packet: firewall.Packet{To: "ext0", Source: at("203.0.113.10"), Destination: at("198.51.100.53"), Protocol: firewall.UDP, DestinationPort: 53},
			pass: true, hook: "output", builtIn: "resolvers", set: "zone_links"},
		{name: "sealed", packet: firewall.Packet{To: "ext0", Source: at("203.0.113.10"), Destination: at("198.51.100.20"), Protocol: firewall.UDP, DestinationPort: 51820, Mark: 0x534b0001},
			pass: true, hook: "output", builtIn: "outer packets"},
		{name: "sealed, wrong source", packet: firewall.Packet{To: "ext0", Source: at("203.0.113.11"), Destination: at("198.51.100.20"), Protocol: firewall.UDP, DestinationPort: 51820, Mark: 0x534b0001},
			hook: "output", reason: firewall.WrongSource, builtIn: "outer packets"},
		{name: "sealed, other family", packet: firewall.Packet{To: "ext0", Source: at("2001:db8:113::10"), Destination: at("2001:db8::1"), Protocol: firewall.UDP, DestinationPort: 51820, Mark: 0x534b0001},
			hook: "output", reason: firewall.WrongSource, builtIn: "outer packets"},
		{name: "sealed, into a tunnel", packet: firewall.Packet{To: "sk-agencies", Source: at("203.0.113.10"), Destination: at("10.64.1.1"), Protocol: firewall.UDP, DestinationPort: 51820, Mark: 0x534b0001},
			hook: "output", reason: firewall.Loop, builtIn: "outer packets"},
		{name: "neighbour solicitation", packet: firewall.Packet{From: "dmz0.100", Source: at("fd00:20::7"), Destination: at("ff02::1:ff00:1"), Protocol: firewall.ICMPv6, ICMPType: 135, HopLimit: 255},
			pass: true, hook: "input", builtIn: "neighbour discovery", set: "zone_links"},
		{name: "neighbour solicitation through a router", packet: firewall.Packet{From: "dmz0.100", Source: at("fd00:20::7"), Destination: at("ff02::1:ff00:1"), Protocol: firewall.ICMPv6, ICMPType: 135, HopLimit: 254},
			hook: "input", reason: firewall.NoFlow},
		{name: "neighbour solicitation through a tunnel", packet: firewall.Packet{From: "sk-agencies", Source: at("fd00:64::7"), Destination: at("ff02::1:ff00:1"), Protocol: firewall.ICMPv6, ICMPType: 135, HopLimit: 255},
			hook: "input", reason: firewall.NoFlow},
		{name: "packet too big", packet: firewall.Packet{From: "ext0", Source: at("2001:db8::5"), Destination: at("2001:db8:113::10"), Protocol: firewall.ICMPv6, ICMPType: 2,
			Connection: firewall.Connection{State: firewall.StateRelated, Source: at("2001:db8:113::10"), Destination: at("2001:db8::6")}}, pass: true, hook: "input", builtIn: "path MTU"},
		{name: "packet too big about nothing", packet: firewall.Packet{From: "ext0", Source: at("2001:db8::5"), Destination: at("2001:db8:113::10"), Protocol: firewall.ICMPv6, ICMPType: 2},
			hook: "input", reason: firewall.Invalid},
		{name: "GRE", packet: firewall.Packet{From: "sk-agencies", To: "dmz0.100", Source: at("10.64.1.5"), Destination: at("10.20.0.10"), Protocol: 47}, hook: "forward", reason: firewall.NoFlow},
		{name: "ping, a flow without ports", packet: firewall.Packet{From: "dmz0.100", To: "sk-agencies", Source: at("10.20.0.10"), Destination: at("10.64.1.5"), Protocol: firewall.ICMP, ICMPType: firewall.EchoRequest},
			pass: true, hook: "forward", set: "flow4_32_28"},
		{name: "loopback", packet: firewall.Packet{From: "lo", Source: at("127.0.0.1"), Destination: at("127.0.0.1"), Protocol: firewall.TCP, DestinationPort: 9}, pass: true, hook: "input"},
	} {
		t.Run(c.name, func(t *testing.T) {
			x, err := e.Explain(c.packet)
			if err != nil {
				t.Fatal(err)
			}
			if c.reply {
				if !x.Pass {
					t.Fatalf("the opening is dropped: %+v", x)
				}
				connection := x.Connection
				if x, err = e.Explain(c.packet.Reply(connection)); err != nil {
					t.Fatal(err)
				}
				connection.Mark &^= firewall.Generations // judged before something was removed
				if anew, err := e.Explain(c.packet.Reply(connection)); err != nil || anew.Pass != x.Pass || anew.Chain == "verify" {
					t.Errorf("judged anew, the reply is explained as %+v, %v", anew, err)
				}
			}
			if id := x.Hook + "." + x.Reason; !x.Pass && x.ID != id && x.Reason != firewall.Martian {
				t.Errorf("what drops is %s, want %s", x.ID, id)
			}
			if x.Pass != c.pass || x.Hook != c.hook || x.Reason != c.reason || x.BuiltIn != c.builtIn && !c.reply || c.set != "" && x.Set != c.set || c.mss != 0 && x.MSS != c.mss {
				t.Errorf("explained as %+v", x)
			}
			if c.pass && c.set != "" && !slices.ContainsFunc(x.Trace, func(h firewall.Hit) bool { return h.Rule == x.Rule }) {
				t.Errorf("the rule that decides, %q, is not in the trace", x.Rule)
			}
		})
	}
}

// TestExplainRefusesNonsense: what is no packet is an error.
func TestExplainRefusesNonsense(t *testing.T) {
	e, at := explainer(t, site(t)), netip.MustParseAddr
	for name, p := range map[string]firewall.Packet{
		"nowhere":      {Source: at("192.0.2.1"), Destination: at("192.0.2.2"), Protocol: firewall.TCP},
		"two families": {From: "ext0", Source: at("192.0.2.1"), Destination: at("2001:db8::1"), Protocol: firewall.TCP},
		"no address":   {From: "ext0", Source: at("192.0.2.1"), Protocol: firewall.TCP},
		"no protocol":  {From: "ext0", Source: at("192.0.2.1"), Destination: at("192.0.2.2")},
	} {
		if x, err := e.Explain(p); err == nil {
			t.Errorf("%s is explained as %+v", name, x)
		}
	}
}

// TestFarZonesAreReachedThroughTunnelsAlone: what this box itself sends to a zone behind tunnels leaves by no other interface, whatever the
// routes say; a zone of its own inside such a zone's prefix is reached as any other.
func TestFarZonesAreReachedThroughTunnelsAlone(t *testing.T) {
	p := site(t)
	p.Zones = append(p.Zones, firewall.Zone{Name: "inner", Prefixes: []netip.Prefix{netip.MustParsePrefix("10.64.9.0/24")}})
	p.Interfaces = append(p.Interfaces, firewall.Interface{Name: "inn0", Zone: "inner"})
	e := explainer(t, p)
	for _, c := range []struct {
		to, destination, source string
		mark                    uint32
		want                    bool
	}{
		{"ext0", "198.51.100.7", "203.0.113.10", 0, true}, // the control: the internet
		{"ext0", "10.64.1.1", "203.0.113.10", 0, false},
		{"ext0", "fd00:64:1::1", "2001:db8:113::10", 0, false},
		{"unplaced0", "10.64.1.1", "203.0.113.10", 0, false},
		{"inn0", "10.64.9.7", "203.0.113.10", 0, true},
		{"ext0", "10.64.1.1", "203.0.113.10", 0x534b0001, true}, // sealed by a device
	} {
		x, err := e.Explain(firewall.Packet{To: c.to, Source: netip.MustParseAddr(c.source), Destination: netip.MustParseAddr(c.destination), Protocol: firewall.UDP,
			SourcePort: 40000, DestinationPort: 9, Mark: c.mark})
		if err != nil {
			t.Fatal(err)
		}
		if x.Pass != c.want {
			t.Errorf("to %s by %s, mark %#x: pass %v by %s, want %v", c.destination, c.to, c.mark, x.Pass, x.Rule, c.want)
		}
	}
}
