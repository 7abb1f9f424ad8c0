package firewall_test

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/tools/txtar"

	"shekara/firewall"
)

func limited(t testing.TB) firewall.Policy {
	t.Helper()
	archive, err := txtar.ParseFile("testdata/limited.txtar")
	if err != nil {
		t.Fatal(err)
	}
	return parse(t, archive.Files[0].Data)
}

// TestListedLimit: chains are read as nft lists them, and no others are taken for one.
func TestListedLimit(t *testing.T) {
	bytes := "limit rate over 1 mbytes/second burst 64 kbytes goto forward.bandwidth"
	open := []string{"limit rate over 20/second burst 20 packets goto forward.too_many_new", "ct count over 100 goto forward.too_many_connections"}
	plain := "limit rate over 1000000 bytes/second burst 64 kbytes goto forward.bandwidth"
	kilo := "limit rate over 15625 kbytes/second burst 64 kbytes goto forward.bandwidth"
	for _, c := range []struct {
		chains map[string][]string
		want   string // "": none
	}{
		{map[string][]string{"limit_in": {plain}, "limit_out": {plain}, "limit_open": open}, "a . 20 . 100 . 8"},
		{map[string][]string{"limit_in": {kilo}, "limit_out": {kilo}}, "a . 0 . 0 . 128"},
		{map[string][]string{"limit_open": open[1:]}, "a . 0 . 100 . 0"},
		{map[string][]string{"limit_in": {plain}}, ""},
		{map[string][]string{"limit_in": {plain}, "limit_out": {kilo}}, ""},
		{map[string][]string{"limit_in": {bytes}, "limit_out": {bytes}}, ""}, // no whole number of Mbit/s
		{map[string][]string{"limit_open": {open[1], open[0]}}, ""},
		{map[string][]string{"limit_open": append(open[:2:2], "accept")}, ""},
		{map[string][]string{"limit_open": {"ct count over 100 accept"}}, ""},
		{map[string][]string{"limit_open": {"ct count over 99999999999999999999 goto forward.too_many_connections"}}, ""},
		{map[string][]string{"limit_open": {}}, ""},
	} {
		if got, ok := firewall.ListedLimit("a", c.chains); got != c.want || ok != (c.want != "") {
			t.Errorf("%v: %q, %v, want %q", c.chains, got, ok, c.want)
		}
	}
}

// TestLimitOfOneTunnel: a change of one tunnel's limits touches its chains alone, no more of them than differ, and no connection is judged again.
func TestLimitOfOneTunnel(t *testing.T) {
	before := limited(t)
	compiled := func(p firewall.Policy) firewall.Ruleset {
		t.Helper()
		rules, err := firewall.Compile(p)
		if err != nil {
			t.Fatal(err)
		}
		return rules
	}
	change := func(change func(*firewall.Policy)) string {
		t.Helper()
		p := limited(t)
		change(&p)
		old, next := compiled(before), compiled(p)
		if old.Base != next.Base {
			t.Error("the base differs")
		}
		add, remove := old.Elements.Diff(next.Elements)
		text, err := firewall.Change(old.Elements, next.Elements, add, remove, 7)
		if err != nil {
			t.Fatal(err)
		}
		return text
	}
	got := change(func(p *firewall.Policy) { p.Limits[0].Connections = 50 })
	want := `add chain inet shekara limit_open_agency-a
flush chain inet shekara limit_open_agency-a
add rule inet shekara limit_open_agency-a limit rate over 20/second burst 20 packets goto forward.too_many_new
add rule inet shekara limit_open_agency-a ct count over 50 goto forward.too_many_connections
`
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	got = change(func(p *firewall.Policy) { // a range goes from one tunnel to another
		p.Limits[0].Prefixes, p.Limits[2].Prefixes = p.Limits[0].Prefixes[1:], append(p.Limits[2].Prefixes, p.Limits[0].Prefixes[0])
	})
	gone, come := strings.Index(got, `delete element inet shekara limit_open4_28`), strings.Index(got, `"sk-agencies" . 10.64.1.0 : jump limit_open_agency-c`)
	if gone < 0 || come < gone || strings.Contains(got, "rule inet shekara limit_") || strings.Contains(got, "verify") {
		t.Error(got)
	}
	got = change(func(p *firewall.Policy) { p.Limits = p.Limits[:2] })
	for _, want := range []string{"delete element inet shekara limit_open4_24", "delete map inet shekara limit_open4_24\n", "delete chain inet shekara limit_open_agency-c\n", "flush chain inet shekara limited_open\n"} {
		if !strings.Contains(got, want) {
			t.Errorf("no %q in\n%s", want, got)
		}
	}
}

// TestLimitsThatCannotBe: refused, with an error that names tunnel and number.
func TestLimitsThatCannotBe(t *testing.T) {
	for name, c := range map[string]struct {
		change func(*firewall.Limit)
		want   string
	}{
		"nothing":          {func(l *firewall.Limit) { l.NewPerSecond, l.Connections, l.MbitPerSecond = 0, 0, 0 }, "limits nothing"},
		"negative":         {func(l *firewall.Limit) { l.NewPerSecond = -1 }, "-1 new connections a second"},
		"too many":         {func(l *firewall.Limit) { l.Connections = firewall.MaxConnections + 1 }, "10001 connections"},
		"too fast":         {func(l *firewall.Limit) { l.MbitPerSecond = firewall.MaxMbitPerSecond + 1 }, "100001 Mbit/s"},
		"no device":        {func(l *firewall.Limit) { l.Device = "sk-nobody" }, `no device "sk-nobody"`},
		"no prefixes":      {func(l *firewall.Limit) { l.Prefixes = nil }, "without the prefixes"},
		"host bits":        {func(l *firewall.Limit) { l.Prefixes = []netip.Prefix{netip.MustParsePrefix("10.64.1.1/28")} }, "host bits"},
		"name ends a rule": {func(l *firewall.Limit) { l.Tunnel = "a;flush" }, `tunnel "a;flush"`},
	} {
		p := limited(t)
		c.change(&p.Limits[0])
		if _, err := firewall.Compile(p); err == nil || !strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), p.Limits[0].Tunnel) {
			t.Errorf("%s: %v, want %q", name, err, c.want)
		}
	}
	for _, e := range []firewall.Elements{{firewall.Limits: {"a . 1 . 1"}}, {firewall.Limits: {"a . 1 . 1 . x"}}, {"limit_in4_28": {`"sk-a" . 10.64.1.0 : accept`}},
		{"limit_in4_28": {`"sk-a" . 10.64.1.0 : jump limit_out_a`}}, {"limit_in4_28": {`"sk-a" . 10.64.1.0 : jump limit_in_a; accept`}}, {"limit_in4_33": nil}} {
		if err := e.Check(); err == nil {
			t.Errorf("%v is taken", e)
		}
	}
}

// TestExplainLimits: what meets a limit passes as far as anybody can tell beforehand, and it is said whose it is.
func TestExplainLimits(t *testing.T) {
	e := explainer(t, limited(t))
	at := netip.MustParseAddr
	in := firewall.Packet{From: "sk-agencies", To: "dmz0.100", Source: at("10.64.1.5"), Destination: at("10.20.0.10"), Protocol: firewall.TCP, DestinationPort: 443}
	other := firewall.Packet{From: "dmz0.100", To: "ext0", Source: at("10.20.0.7"), Destination: at("198.51.100.9"), Protocol: firewall.TCP, DestinationPort: 443}
	refused := in
	refused.DestinationPort = 444
	for _, c := range []struct {
		packet firewall.Packet
		pass   bool
		want   []string
	}{{in, true, []string{"agency-a"}}, {other, true, nil}, {refused, false, nil}} {
		x, err := e.Explain(c.packet)
		if err != nil || x.Pass != c.pass {
			t.Fatalf("%+v, %v", x, err)
		}
		if diff := cmp.Diff(c.want, x.Limited); diff != "" {
			t.Error(diff)
		}
		if !x.Pass {
			continue
		}
		back, err := e.Explain(c.packet.Reply(x.Connection))
		if err != nil || !back.Pass || !cmp.Equal(c.want, back.Limited) {
			t.Errorf("%+v, %v", back, err)
		}
	}
}
