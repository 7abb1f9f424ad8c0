package provisioning

import (
	"fmt"
	"net/netip"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"shekara/firewall"
	"shekara/journal"
	"shekara/netctl/conntrack"
)

// TestConnectionsAreTold: of each connection of a flow is told when it begins and when it ends, under its tunnel, with what it carried.
func TestConnectionsAreTold(t *testing.T) {
	one := agency{n: 0}
	whileCounting(t, func(b *box, table *counter) {
		table.pass(one, 1000, 5)
		b.wait(endsEvery)
		began := b.events.last(journal.ConnectionStart)
		from := netip.MustParsePrefix(one.prefixText()).Addr().Next().String()
		want := map[string]string{"flow": "agency-0-https", "protocol": "tcp", "source": from, "sourcePort": "1000", "destination": "10.20.0.10", "destinationPort": "443"}
		if diff := cmp.Diff(want, began.Fields); diff != "" || began.Object != "tunnel/"+one.name() || began.Message != "tcp/443 from "+from+" to 10.20.0.10 began" {
			b.t.Errorf("%+v\n%s", began, diff)
		}
		b.wait(10 * time.Second)
		table.end(1000, true)
		b.wait(endsEvery)
		ended := b.events.last(journal.ConnectionEnd)
		for field, value := range map[string]string{"packetsTo": "5", "bytesTo": "500", "packetsBack": "10", "bytesBack": "15000"} {
			want[field] = value
		}
		seconds, err := strconv.ParseFloat(ended.Fields["seconds"], 64)
		at, badly := time.Parse(time.RFC3339, ended.Fields["began"])
		if badly != nil || time.Since(at) < 10*time.Second || time.Since(at) > 11*time.Second {
			b.t.Errorf("it began at %q", ended.Fields["began"])
		}
		delete(ended.Fields, "seconds")
		delete(ended.Fields, "began")
		if diff := cmp.Diff(want, ended.Fields); diff != "" || err != nil || seconds < 10 || seconds > 11 || ended.Object != "tunnel/"+one.name() {
			b.t.Errorf("%+v, %v\n%s", ended, err, diff)
		}
		// What no flow let in is nobody's: management, probes, the tunnels' own packets.
		table.pass(one, 1001, 1)
		table.mu.Lock()
		table.live[1001].Mark, table.news[0].Mark = 0, 0
		table.mu.Unlock()
		b.wait(endsEvery)
		table.end(1001, true)
		b.wait(2 * connectionWindow)
		if starts, ends, sums := b.events.count(journal.ConnectionStart), b.events.count(journal.ConnectionEnd), b.events.count(journal.ConnectionSum); starts != 1 || ends != 1 || sums != 0 {
			b.t.Errorf("%d beginnings, %d ends, %d sums", starts, ends, sums)
		}
	})
}

// TestConnectionsAreBounded: however many there are, a minute has few records, and none is uncounted.
func TestConnectionsAreBounded(t *testing.T) {
	one := agency{n: 0}
	whileCounting(t, func(b *box, table *counter) {
		const all = 5000
		for port := range uint16(all) {
			table.pass(one, 1000+port, 1)
			table.end(1000+port, true)
		}
		b.wait(endsEvery)
		if starts, ends := b.events.count(journal.ConnectionStart), b.events.count(journal.ConnectionEnd); starts != connectionsShown || ends != connectionsShown {
			b.t.Errorf("%d beginnings and %d ends at once, want %d each", starts, ends, connectionsShown)
		}
		b.wait(connectionWindow + endsEvery)
		sum := b.events.last(journal.ConnectionSum)
		const more = all - connectionsShown
		want := map[string]string{"flow": "agency-0-https", "began": fmt.Sprint(more), "ended": fmt.Sprint(more), "packetsTo": fmt.Sprint(more), "bytesTo": fmt.Sprint(100 * more),
			"packetsBack": fmt.Sprint(2 * more), "bytesBack": fmt.Sprint(3000 * more)}
		if diff := cmp.Diff(want, sum.Fields); diff != "" || sum.Object != "tunnel/"+one.name() || b.events.count(journal.ConnectionSum) != 1 {
			b.t.Errorf("%+v\n%s", sum, diff)
		}
		// A new minute begins with single ones again. What a daemon holds when it stops is told too.
		for port := range uint16(20) {
			table.pass(one, 9000+port, 1)
		}
		b.wait(endsEvery)
		b.kill() // in a test it ends in order
		if starts := b.events.count(journal.ConnectionStart); starts != 2*connectionsShown {
			b.t.Errorf("%d beginnings, want %d", starts, 2*connectionsShown)
		}
		if sum := b.events.last(journal.ConnectionSum); sum.Fields["began"] != "10" || sum.Fields["ended"] != "0" {
			b.t.Errorf("at the end: %+v", sum)
		}
	})
}

// TestConnectionSumsAreBounded: also over many flows a window has at most so many records, and they add up.
func TestConnectionSumsAreBounded(t *testing.T) {
	c := connectionRecords{concerns: func([]placed) []string { return nil }}
	const flows, each = 1000, 30
	for i := range flows {
		for range each {
			a := &conntrack.Account{Entry: conntrack.Entry{Source: netip.MustParseAddr("10.64.1.5"), Destination: netip.MustParseAddr("10.20.0.10"), Protocol: 17}, Original: conntrack.Counter{Packets: 1, Bytes: 10}}
			flow := firewall.Flow{Name: fmt.Sprint("flow-", i)}
			c.began(a, flow)
			c.ended(a, flow)
		}
	}
	events := c.take(time.Now().Add(connectionWindow))
	count := map[journal.Type]int{}
	var began, ended, bytes int
	for _, e := range events {
		count[e.Type]++
		number := func(field string) (n int) { n, _ = strconv.Atoi(e.Fields[field]); return n }
		began, ended, bytes = began+number("began"), ended+number("ended"), bytes+number("bytesTo")
	}
	want := map[journal.Type]int{journal.ConnectionStart: connectionsShownAll, journal.ConnectionEnd: connectionsShownAll, journal.ConnectionSum: connectionSums + 1}
	if diff := cmp.Diff(want, count); diff != "" {
		t.Error(diff)
	}
	if began+connectionsShownAll != flows*each || ended+connectionsShownAll != flows*each || bytes != 10*flows*each {
		t.Errorf("of %d connections %d began, %d ended beside those told one by one, %d bytes", flows*each, began, ended, bytes)
	}
	if more := c.take(time.Now().Add(2 * connectionWindow)); len(more) != 0 {
		t.Errorf("told again: %v", more)
	}
}

// TestEventsOfATunnelNameItsOrganisation: the legal entity at the far end, as the documents have it.
func TestEventsOfATunnelNameItsOrganisation(t *testing.T) {
	one := agency{n: 0}
	whileCounting(t, func(b *box, table *counter) {
		b.mustApply(request(strings.Replace(one.yaml(), "  side: initiator", "  side: initiator\n  organisation: Agency Zero", 1)))
		table.pass(one, 1000, 1)
		table.pass(agency{n: 1}, 1001, 1)
		b.wait(2 * endsEvery)
		b.events.mu.Lock()
		defer b.events.mu.Unlock()
		got := map[string]string{}
		for _, e := range b.events.list {
			if e.Type == journal.ConnectionStart {
				got[e.Object] = e.Organisation
			}
		}
		if diff := cmp.Diff(map[string]string{"tunnel/agency-0": "Agency Zero", "tunnel/agency-1": ""}, got); diff != "" {
			b.t.Error(diff)
		}
	})
}

// registers are a system behind agency 0, and the one that all agencies reach.
const registers = `---
apiVersion: shekara/v1
kind: Organisation
metadata: {name: body}
spec: {name: {kk: b, ru: b, en: Body}, kind: state-body, bin: "250140000013"}
---
apiVersion: shekara/v1
kind: System
metadata: {name: service}
spec: {name: {kk: s, ru: s, en: Service}, organisation: body, class: 3, contour: integration, zone: gateway-dmz, prefixes: [10.20.0.10/32]}
---
apiVersion: shekara/v1
kind: System
metadata: {name: registry}
spec: {name: {kk: r, ru: r, en: Registry}, organisation: body, class: 3, contour: external, zone: agencies, prefixes: [10.64.0.0/28]}
`

// TestEventsNameSystems: of a connection those that have its addresses, of a tunnel all that it reaches.
func TestEventsNameSystems(t *testing.T) {
	one, two := agency{n: 0}, agency{n: 1}
	whileCounting(t, func(b *box, table *counter) {
		b.mustApply(request(registers))
		table.pass(one, 1000, 1)
		table.pass(two, 1001, 1)
		b.wait(2 * endsEvery)
		table.end(1000, true)
		for port := range uint16(connectionsShown) {
			table.pass(two, 2000+port, 1)
		}
		b.wait(connectionWindow + endsEvery)
		b.options.Journal.Post(journal.Event{Type: journal.TunnelReset, Severity: journal.Warning, Object: "tunnel/agency-0"})
		b.events.mu.Lock()
		defer b.events.mu.Unlock()
		got := map[string][]string{}
		for _, e := range b.events.list {
			if ofConnections(e.Type) || e.Type == journal.TunnelReset {
				got[string(e.Type)+" "+e.Object] = e.Systems
			}
		}
		want := map[string][]string{"connection.start tunnel/agency-0": {"registry", "service"}, "connection.end tunnel/agency-0": {"registry", "service"}, "connection.start tunnel/agency-1": {"service"},
			"connection.sum tunnel/agency-1": {"service"}, "tunnel.reset tunnel/agency-0": {"registry", "service"}}
		if diff := cmp.Diff(want, got); diff != "" {
			b.t.Error(diff)
		}
	})
}

// TestSystemsOfTranslatedConnections: the far end of a tunnel writes addresses that may be somebody else's here.
func TestSystemsOfTranslatedConnections(t *testing.T) {
	at := netip.MustParseAddr
	asked := ""
	c := connectionRecords{concerns: func(p []placed) []string {
		asked = fmt.Sprint(p[0].prefix, " ", p[1].prefix)
		return nil
	}}
	a := &conntrack.Account{Entry: conntrack.Entry{Source: at("192.168.1.5"), Destination: at("192.0.2.7"), AnswersFrom: at("10.20.0.10"), AnswersTo: at("10.64.9.5")}}
	for _, way := range []struct {
		flow firewall.Flow
		want string
	}{
		{firewall.Flow{Name: "far", From: firewall.Place{Device: "sk-a"}}, "10.64.9.5/32 10.20.0.10/32"},
		{firewall.Flow{Name: "near", To: firewall.Place{Device: "sk-a"}}, "192.168.1.5/32 192.0.2.7/32"},
	} {
		if c.began(a, way.flow); asked != way.want {
			t.Errorf("opened from the %s side it is looked for systems at %s, want %s", way.flow.Name, asked, way.want)
		}
	}
}
