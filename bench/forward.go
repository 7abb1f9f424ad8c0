package main

import (
	"context"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"shekara/firewall"
	"shekara/firewall/iptables"
	"shekara/firewall/nft"
	netiptables "shekara/netctl/iptables"
	"shekara/testbed/lab"
)

// box is a host that forwards between two others under one filter.
type box struct {
	filter            string
	flows             int // 0: no filter
	send              int // packets of a round
	left, host, right *lab.Host
	packets           [][]byte
	speed             []float64 // thousand packets a second, a round each
}

const (
	noFilter     = "no filter"
	ourFilter    = "nftables"
	ourIPTables  = "iptables"
	linearLegacy = "linear iptables-legacy" // the faster of the two variants
	linearNFT    = "linear iptables-nft"    // what Debian calls iptables

	windowPackets = 200              // sent ahead of what has arrived: fewer than any queue on the way holds
	givenUpAfter  = 20 * time.Second // without a packet that arrives
)

// forward measures how many packets a second, each of a new connection, go through filters that exist at once, in turns.
func (b *bench) forward(ctx context.Context) ([]row, error) {
	network := b.network()
	defer network.Close()
	boxes := []*box{{filter: noFilter, send: 60000}}
	for _, n := range b.sizes {
		boxes = append(boxes, &box{filter: ourFilter, flows: n, send: 60000})
		if n <= 10000 { // by iptables every further flow costs every packet, or every load seconds
			for _, linear := range []string{linearLegacy, linearNFT} {
				boxes = append(boxes, &box{filter: linear, flows: n, send: min(60000, max(2000, 2000000/n))})
			}
			boxes = append(boxes, &box{filter: ourIPTables, flows: n, send: 60000})
		}
	}
	for i, x := range boxes {
		b.say("%s, %d flows: set up", x.filter, x.flows)
		if err := x.setUp(ctx, network, fmt.Sprint(i, "-")); err != nil {
			return nil, fmt.Errorf("%s, %d flows: %w", x.filter, x.flows, err)
		}
	}
	rounds := max(atLeast, b.runs)
	for round := range rounds {
		if round%5 == 0 {
			b.say("round %d of %d", round+1, rounds)
		}
		for _, i := range rand.Perm(len(boxes)) {
			if err := boxes[i].round(ctx); err != nil {
				return nil, fmt.Errorf("%s, %d flows: %w", boxes[i].filter, boxes[i].flows, err)
			}
		}
	}
	return forwardRows(boxes), nil
}

func forwardRows(boxes []*box) []row {
	find := func(filter string, n int) *box {
		i := slices.IndexFunc(boxes, func(x *box) bool { return x.filter == filter && x.flows == n })
		if i < 0 {
			return nil
		}
		return boxes[i]
	}
	var rows []row
	add := func(name string, ours, peer *box, peerName string, least float64) {
		if ours == nil || peer == nil {
			return
		}
		r := paired(name, "kpps", ours.speed, peer.speed, peerName)
		if r.N = ours.flows; least > 0 {
			r = r.should(fmt.Sprintf("ratio >= %v", least), float64(r.Ratio) >= least)
		}
		rows = append(rows, r)
	}
	for _, x := range boxes {
		if x.filter == ourFilter {
			add("packets forwarded", x, find(noFilter, 0), noFilter, 0)
		}
	}
	add("packets forwarded, at 10,000 flows / at 10", find(ourFilter, 10000), find(ourFilter, 10), "ours at 10", 0.85)
	for _, x := range boxes {
		if x.filter == ourFilter {
			least := map[int]float64{10000: 20}[x.flows]
			for _, linear := range []string{linearLegacy, linearNFT} {
				add("packets forwarded, beside the same policy by hand", x, find(linear, x.flows), linear, least)
			}
		}
	}
	for _, x := range boxes {
		if x.filter == ourIPTables {
			add("packets forwarded, our iptables engine", x, find(linearLegacy, x.flows), linearLegacy, 0)
		}
	}
	return rows
}

// setUp makes left, box and right, and loads the filter. Behind right0 nobody answers: what arrives is counted and thrown away.
func (x *box) setUp(ctx context.Context, network *lab.Network, prefix string) error {
	var err error
	for _, h := range []struct {
		to     **lab.Host
		name   string
		router bool
	}{{&x.left, "left", false}, {&x.host, "box", true}, {&x.right, "right", false}} {
		if *h.to, err = network.AddHost(prefix+h.name, h.router); err != nil {
			return err
		}
	}
	for _, side := range []struct {
		iface   string
		far     *lab.Host
		between string
		behind  netip.Prefix
	}{{boxLeft, x.left, "198.18.1.", leftNetwork}, {boxRight, x.right, "198.18.2.", rightNetwork}} {
		if _, err := network.AddLink(lab.LinkSpec{Name: prefix + side.iface, Ends: []lab.End{
			{Host: x.host.Name, Interface: side.iface, Addresses: []netip.Prefix{netip.MustParsePrefix(side.between + "1/30")}},
			{Host: side.far.Name, Interface: "eth0", Addresses: []netip.Prefix{netip.MustParsePrefix(side.between + "2/30")}},
		}}); err != nil {
			return err
		}
		if err := x.host.AddRoute(lab.Route{To: side.behind, Via: netip.MustParseAddr(side.between + "2")}); err != nil {
			return err
		}
	}
	// What right0's neighbour is must not be asked in the middle of a round.
	hardware := strings.TrimSpace(readText(x.right.Path("/sys/class/net/eth0/address")))
	if err := commands(ctx, x.host, "ip neigh replace 198.18.2.2 lladdr "+hardware+" dev "+boxRight+" nud permanent"); err != nil {
		return err
	}
	if x.packets, err = openers(max(x.flows, 10), x.send); err != nil {
		return err
	}
	return x.load(ctx)
}

func (x *box) load(ctx context.Context) error {
	switch x.filter {
	case noFilter:
		return nil
	case linearLegacy, linearNFT:
		if err := x.host.WriteFile(workFolder+"/linear", []byte(linear(x.flows)), 0o600); err != nil {
			return err
		}
		return commands(ctx, x.host, strings.TrimPrefix(x.filter, "linear ")+"-restore "+workFolder+"/linear")
	}
	rules, err := firewall.Compile(flowsPolicy(x.flows))
	if err != nil {
		return err
	}
	return x.host.Do(func() error {
		var l interface {
			Load(context.Context, firewall.Ruleset) error
		}
		if x.filter == ourFilter {
			l, err = nft.New(ctx)
		} else {
			l, err = iptables.New(ctx, netiptables.Legacy)
		}
		if err != nil {
			return err
		}
		return l.Load(ctx, rules)
	})
}

// round sends all packets and waits until all have arrived.
func (x *box) round(ctx context.Context) error {
	if x.filter != noFilter {
		if err := commands(ctx, x.host, "conntrack -F"); err != nil {
			return err
		}
	}
	arrived, err := os.Open(x.right.Path("/sys/class/net/eth0/statistics/rx_packets"))
	if err != nil {
		return err
	}
	defer arrived.Close()
	before, err := readCounter(arrived)
	if err != nil {
		return err
	}
	var took time.Duration
	err = x.left.Do(func() error {
		fd, to, err := openLink("eth0", readText(x.host.Path("/sys/class/net/"+boxLeft+"/address")))
		if err != nil {
			return err
		}
		defer unix.Close(fd)
		start := time.Now()
		for i, data := range x.packets {
			if err := unix.Sendto(fd, data, 0, to); err != nil {
				return os.NewSyscallError("sendto", err)
			}
			// Filters that are slower than the sender must not lose what a queue cannot hold.
			if ahead := i + 1; ahead%windowPackets == 0 || ahead == len(x.packets) {
				if err := await(ctx, arrived, before+uint64(ahead)); err != nil {
					return err
				}
			}
		}
		took = time.Since(start)
		return nil
	})
	if err != nil {
		return err
	}
	x.speed = append(x.speed, float64(len(x.packets))/took.Seconds()/1000)
	return nil
}

// await waits until a counter has come to a value.
func await(ctx context.Context, counter *os.File, value uint64) error {
	last, since := uint64(0), time.Now()
	for {
		now, err := readCounter(counter)
		if err != nil || now >= value {
			return err
		}
		if now != last {
			last, since = now, time.Now()
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if time.Since(since) > givenUpAfter {
			return fmt.Errorf("%d packets did not arrive: %w", value-now, errNothingMeasured)
		}
	}
}

func readCounter(file *os.File) (uint64, error) {
	var buffer [32]byte
	n, err := file.ReadAt(buffer[:], 0)
	if n == 0 {
		return 0, err
	}
	return strconv.ParseUint(strings.TrimSpace(string(buffer[:n])), 10, 64)
}

// openLink opens an interface for whole IPv4 packets to a neighbour: past routes, filter and queues of the sending host.
func openLink(name, neighbour string) (int, unix.Sockaddr, error) {
	i, err := net.InterfaceByName(name)
	if err != nil {
		return 0, nil, err
	}
	hardware, err := net.ParseMAC(strings.TrimSpace(neighbour))
	if err != nil {
		return 0, nil, err
	}
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return 0, nil, os.NewSyscallError("socket", err)
	}
	if err := unix.SetsockoptInt(fd, unix.SOL_PACKET, unix.PACKET_QDISC_BYPASS, 1); err != nil {
		unix.Close(fd)
		return 0, nil, os.NewSyscallError("setsockopt", err)
	}
	to := &unix.SockaddrLinklayer{Ifindex: i.Index, Protocol: binary.NativeEndian.Uint16([]byte{8, 0}), Halen: 6} // ETH_P_IP, in network order
	copy(to.Addr[:], hardware)
	return fd, to, nil
}
