package main_test

import (
	"encoding/json"
	"fmt"
	"net"
	"net/netip"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"shekara/journal"
	"shekara/netctl/nstest"
	"shekara/netctl/probe"
	"shekara/netctl/probe/probetest"
	"shekara/provisioning"
	"shekara/provisioning/api"
)

const crossing = `
apiVersion: shekara/v1
kind: Peer
metadata: {name: owner-edge}
spec: {side: owner, publicIP: 203.0.113.10, wireguard: [{farZone: %[1]s, environment: production, port: 51820}]}
---
apiVersion: shekara/v1
kind: Site
metadata: {name: owner}
spec:
  lab: true%[3]s
  peers: [owner-edge]
  interfaces: [{name: ext0, zone: internet, addresses: [203.0.113.10/24]}, {name: lan0, zone: %[1]s}, {name: dmz0, zone: %[2]s}]
`

// passage is a flow between two hosts, and what was really sent in it.
type passage struct {
	flow   string
	client net.PacketConn
	want   provisioning.FlowStatus
}

// counters is a daemon between a client's and a server's host.
type counters struct {
	*box
	t              *testing.T
	partners, zone string
	outside        *nstest.H
	server         net.PacketConn
	passages       map[string]*passage
}

func newCounters(t *testing.T) *counters {
	t.Helper()
	probetest.NeedTime(t, "it takes a minute")
	probetest.Need(t, probe.Root, probe.Namespaces, probe.NFTables, probe.TUN, probe.Conntrack, probe.Tool("conntrack"), probe.Tool("iptables"), probe.Tool("ipset"))
	mark := fmt.Sprintf("%x", time.Now().UnixNano()&0xffff) // in the name of the device, whose socket lies where all namespaces see it
	c := &counters{box: newBox(t, programs(t), "owner"), t: t, partners: "p" + mark, zone: "s" + mark, outside: nstest.Host(t, "outside"), passages: map[string]*passage{}}
	inside := nstest.Host(t, "inside")
	nstest.Link(t, c.H, "ext0", []string{"203.0.113.10/24"}, c.outside, "eth1", []string{"203.0.113.99/24"})
	nstest.Link(t, c.H, "lan0", []string{"10.64.0.1/24"}, c.outside, "eth0", []string{"10.64.0.5/24", "10.64.0.6/24"})
	nstest.Link(t, c.H, "dmz0", []string{"10.20.0.1/24"}, inside, "eth0", []string{"10.20.0.10/24"})
	c.outside.Route("10.20.0.0/24", "10.64.0.1")
	inside.Route("default", "10.20.0.1")
	inside.Do(func() {
		var err error
		if c.server, err = net.ListenPacket("udp4", "10.20.0.10:9000"); err != nil {
			t.Fatal(err)
		}
	})
	t.Cleanup(func() { c.server.Close() })
	c.write("etc/site", "owner\n")
	c.write("first/zones.yaml", fmt.Sprintf(zones, c.partners, c.zone))
	c.site("")
	c.start()
	return c
}

func (c *counters) site(extra string) string {
	return c.write("first/site.yaml", fmt.Sprintf(crossing, c.partners, c.zone, extra))
}

// flow is the document of a flow from one of the client's addresses.
func (c *counters) flow(name, source, service string) string {
	return c.write("first/"+name+".yaml", fmt.Sprintf("apiVersion: shekara/v1\nkind: Flow\nmetadata: {name: %s}\nspec: {fromZone: %s, toZone: %s, from: [%s/32], to: [10.20.0.10/32], allow: [%s]}\n",
		name, c.partners, c.zone, source, service))
}

// passage opens a client's socket.
func (c *counters) passage(flow, source string) *passage {
	c.t.Helper()
	p := &passage{flow: flow, want: provisioning.FlowStatus{Name: flow}}
	c.outside.Do(func() {
		var err error
		if p.client, err = net.ListenPacket("udp4", source+":0"); err != nil {
			c.t.Fatal(err)
		}
	})
	c.t.Cleanup(func() { p.client.Close() })
	c.passages[flow] = p
	return p
}

const udpHeaders = 28 // of IPv4 and UDP

// pass sends datagrams of a size, and lets the first of them be answered. All arrive.
func (c *counters) pass(p *passage, count, size, answers int) {
	c.t.Helper()
	server := net.UDPAddrFromAddrPort(netip.MustParseAddrPort("10.20.0.10:9000"))
	buffer := make([]byte, 2000)
	for i := range count {
		if _, err := p.client.WriteTo(make([]byte, size), server); err != nil {
			c.t.Fatal(err)
		}
		from := c.arrived(buffer)
		p.want.PacketsTo++
		p.want.BytesTo += uint64(udpHeaders + size)
		if i >= answers {
			continue
		}
		if _, err := c.server.WriteTo(buffer[:2*size], from); err != nil {
			c.t.Fatal(err)
		}
		must(c.t, p.client.SetReadDeadline(time.Now().Add(patience)))
		if _, _, err := p.client.ReadFrom(buffer); err != nil {
			c.t.Fatalf("the answer to %s: %v", p.flow, err)
		}
		p.want.PacketsBack++
		p.want.BytesBack += uint64(udpHeaders + 2*size)
	}
}

func (c *counters) arrived(buffer []byte) net.Addr {
	c.t.Helper()
	must(c.t, c.server.SetReadDeadline(time.Now().Add(patience)))
	_, from, err := c.server.ReadFrom(buffer)
	if err != nil {
		c.t.Fatalf("nothing arrives: %v", err)
	}
	return from
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// check waits until the flows have carried exactly what was sent.
func (c *counters) check(after string) {
	c.t.Helper()
	var report provisioning.FlowReport
	differ := func() (list []string) {
		var err error
		if report, err = c.client.Flows(c.t.Context(), ""); err != nil {
			return []string{err.Error()}
		}
		for _, got := range report.Flows {
			want := provisioning.FlowStatus{Name: got.Name}
			if p := c.passages[got.Name]; p != nil {
				want = p.want
			}
			got.Since, got.LastSeen, got.From, got.To = nil, nil, "", ""
			if got != want {
				list = append(list, fmt.Sprintf("%+v; really %+v", got, want))
			}
		}
		return list
	}
	deadline := time.Now().Add(patience)
	for len(differ()) > 0 {
		if time.Now().After(deadline) {
			c.t.Fatalf("after %s: %s\n%+v\n%s", after, strings.Join(differ(), "\n"), report, c.log)
		}
		time.Sleep(100 * time.Millisecond)
	}
	if report.Missed+report.Unattributed+uint64(report.Uncounted) > 0 {
		c.t.Errorf("after %s: %+v", after, report)
	}
}

// TestFlowsCarryWhatWasSent: what is counted is what was really sent, to the packet and the byte, in each flow alone, whatever happens to the
// documents, the filter and the daemon meanwhile.
func TestFlowsCarryWhatWasSent(t *testing.T) {
	c := newCounters(t)
	c.flow("one", "10.64.0.5", "udp/9000")
	c.flow("two", "10.64.0.6", "udp/9000-9010")
	c.must("apply", filepath.Join(c.dir, "first"), "--yes")
	c.must("confirm")
	for _, of := range []string{"udp_timeout", "udp_timeout_stream"} { // no connection ends by itself, however slow the machine is
		c.Sysctl("net.netfilter.nf_conntrack_"+of, "3600")
	}
	one, two := c.passage("one", "10.64.0.5"), c.passage("two", "10.64.0.6")
	one.want.Opened, two.want.Opened = 1, 1
	one.want.Connections, two.want.Connections = 1, 1
	c.pass(one, 7, 100, 3)
	c.pass(two, 3, 1000, 3)
	// What is refused counts nowhere: a port that flow one does not have, and flow two has.
	for _, p := range []*passage{one, two} {
		if _, err := p.client.WriteTo([]byte("x"), net.UDPAddrFromAddrPort(netip.MustParseAddrPort("10.20.0.10:9001"))); err != nil {
			t.Fatal(err)
		}
	}
	two.want.Opened, two.want.Connections = 2, 2
	two.want.PacketsTo, two.want.BytesTo = two.want.PacketsTo+1, two.want.BytesTo+udpHeaders+1
	c.check("the first packets")

	c.flow("three", "10.64.0.5", "udp/9100")
	c.must("apply", c.flow("two", "10.64.0.6", "udp/9000-9005"), filepath.Join(c.dir, "first", "three.yaml"), "--yes")
	c.pass(one, 2, 100, 1)
	c.pass(two, 2, 100, 1)
	c.Run("nft", "delete", "table", "inet", "shekara") // the daemon loads it anew
	c.await("the filter is repaired", func() bool { _, err := c.Try("nft", "list", "chain", "inet", "shekara", "verify"); return err == nil })
	c.pass(one, 2, 100, 1)
	c.must("apply", c.site("\n  firewall: {engine: iptables}"), "--yes")
	c.must("confirm")
	c.pass(one, 2, 100, 2)
	c.pass(two, 2, 100, 2)
	c.must("apply", c.site(""), "--yes")
	c.must("confirm")
	c.pass(two, 1, 100, 1)
	c.check("changes of flows, of the filter and of its engine")

	c.stop(syscall.SIGTERM)
	c.pass(one, 3, 100, 1)
	c.start()
	c.check("a restart")
	c.pass(one, 3, 100, 1)
	c.stop(syscall.SIGKILL)
	c.pass(one, 3, 100, 1)
	c.pass(two, 3, 100, 1)
	c.start()
	c.check("a kill")
	// Of one that has ended nothing is left but what was counted.
	c.pass(one, 3, 100, 1)
	c.Run("conntrack", "-D", "-p", "udp", "-s", "10.64.0.5", "--dport", "9000")
	one.want.Connections = 0
	c.check("the end of a connection")
	c.stop(syscall.SIGKILL)
	c.start()
	c.check("a kill after the end of a connection")

	text := c.must("flows", "one", "--json")
	var report provisioning.FlowReport
	if err := json.Unmarshal([]byte(text), &report); err != nil || len(report.Flows) != 1 || report.Flows[0].BytesTo != one.want.BytesTo || report.Flows[0].From != c.partners {
		t.Errorf("%v: %s", err, text)
	}
	if out := c.must("metrics"); !strings.Contains(out, fmt.Sprintf(`shekara_flow_bytes_total{direction="back",flow="two"} %d`+"\n", two.want.BytesBack)) {
		t.Errorf("the metrics lack flow two's bytes:\n%s", out)
	}
	c.removed(one, two)
}

// removed: a flow's totals go with it, and are on record.
func (c *counters) removed(one, two *passage) {
	c.t.Helper()
	c.write("first/two.yaml", "")
	c.must("apply", "--whole", filepath.Join(c.dir, "first"), "--yes")
	var event journal.Event
	c.await("flow two has ended", func() bool {
		events, err := c.client.Events(c.t.Context(), 0, 10000, api.EventFilter{})
		if err != nil {
			c.t.Fatal(err)
		}
		for _, e := range events.Events {
			if e.Type == journal.FlowEnd {
				event = e
			}
		}
		return event.Type != ""
	})
	for field, want := range map[string]uint64{"packetsTo": two.want.PacketsTo, "bytesTo": two.want.BytesTo, "packetsBack": two.want.PacketsBack, "bytesBack": two.want.BytesBack} {
		if event.Object != "flow/two" || event.Fields[field] != fmt.Sprint(want) {
			c.t.Errorf("%s of %s is %s, want %d", field, event.Object, event.Fields[field], want)
		}
	}
	delete(c.passages, two.flow)
	c.check("the end of a flow")
}
