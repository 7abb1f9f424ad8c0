package main

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"strings"

	"shekara/firewall"
	"shekara/testbed/packet"
)

// Where the packets of the area "firewall" go through the box, and the one port that its flows open.
const (
	boxLeft, boxRight = "left0", "right0"
	openPort          = 443
)

var (
	leftNetwork  = netip.MustParsePrefix("10.64.0.0/12")
	rightNetwork = netip.MustParsePrefix("10.20.0.0/17")
)

// flow is number i of a policy's: one agency's prefix to one of some thousand services. Addresses are scattered, since those that follow
// each other are cheaper to hold and to prove, and nobody has such; prefixes are of three lengths.
func flow(i int) (source, destination netip.Prefix) {
	bits := [3]int{28, 30, 32}[i%3]
	host := uint32(uint16(i*40503)) << 4 // odd: no two of 65,536 are the same
	return netip.PrefixFrom(plus(leftNetwork.Addr(), host), bits), netip.PrefixFrom(plus(rightNetwork.Addr(), 1+uint32(i*7919%30000)), 32)
}

func plus(a netip.Addr, n uint32) netip.Addr {
	b := a.As4()
	binary.BigEndian.PutUint32(b[:], binary.BigEndian.Uint32(b[:])+n)
	return netip.AddrFrom4(b)
}

// flowsPolicy lets n flows through from one side to the other and nothing else.
func flowsPolicy(n int) firewall.Policy {
	p := firewall.Policy{
		Zones:      []firewall.Zone{{Name: "left", Prefixes: []netip.Prefix{leftNetwork}}, {Name: "right", Prefixes: []netip.Prefix{rightNetwork}}},
		Interfaces: []firewall.Interface{{Name: boxLeft, Zone: "left"}, {Name: boxRight, Zone: "right"}},
	}
	for i := range n {
		p.Flows = append(p.Flows, flowOf(i))
	}
	return p
}

func flowOf(i int) firewall.Flow {
	source, destination := flow(i)
	return firewall.Flow{Name: fmt.Sprint("flow-", i), From: firewall.Place{Zone: "left"}, To: firewall.Place{Zone: "right"},
		Sources: []netip.Prefix{source}, Destinations: []netip.Prefix{destination},
		Services: []firewall.Service{{Protocol: firewall.UDP, FirstPort: openPort, LastPort: openPort}}}
}

// linear is the same policy as it is often written by hand, for iptables-restore: established connections first, then one rule for each flow.
func linear(n int) string {
	var w strings.Builder
	w.WriteString("*filter\n:INPUT ACCEPT\n:FORWARD DROP\n:OUTPUT ACCEPT\n-A FORWARD -m conntrack --ctstate ESTABLISHED,RELATED -j ACCEPT\n")
	for i := range n {
		source, destination := flow(i)
		fmt.Fprintf(&w, "-A FORWARD -i %s -o %s -s %s -d %s -p udp --dport %d -j ACCEPT\n", boxLeft, boxRight, source, destination, openPort)
	}
	return w.String() + "COMMIT\n"
}

// openers are packets that each open a connection of their own, spread over all of n flows in an order without pattern: no shortcut
// for connections that are known helps any of them.
func openers(n, count int) ([][]byte, error) {
	order := rand.New(rand.NewPCG(1, uint64(n))).Perm(n)
	out := make([][]byte, count)
	for k := range out {
		source, destination := flow(order[k%n])
		var err error
		if out[k], err = (packet.Packet{Source: source.Addr(), Destination: destination.Addr(), Protocol: "udp",
			SourcePort: uint16(1024 + k/n), Port: openPort}).Build(""); err != nil {
			return nil, err
		}
	}
	return out, nil
}
