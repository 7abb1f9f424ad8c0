package packet

import (
	"bytes"
	"context"
	"net/netip"
	"testing"
	"time"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"
	"github.com/gopacket/gopacket/pcapgo"
)

func TestShows(t *testing.T) {
	inside := []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("fd00::/8")}
	build := func(p Packet) []byte {
		data, err := p.Build(NewMarker())
		if err != nil {
			t.Fatal(err)
		}
		return data
	}
	four := build(Packet{Source: address("10.1.1.1"), Destination: address("192.0.2.2"), Protocol: "udp"})
	six := build(Packet{Source: address("2001:db8::1"), Destination: address("fd00::2"), Protocol: "tcp"})
	outer4 := build(Packet{Source: address("192.0.2.1"), Destination: address("192.0.2.2"), Protocol: "udp"})
	outer6 := build(Packet{Source: address("2001:db8::1"), Destination: address("2001:db8::2"), Protocol: "icmp"})
	wrapped := func(outer []byte, header int, protocol byte, middle, inner []byte) []byte {
		data := append(append([]byte{}, outer[:header]...), middle...)
		data[map[int]int{20: 9, 40: 6}[header]] = protocol
		return append(data, inner...)
	}
	echo := build(Packet{Source: address("192.0.2.1"), Destination: address("192.0.2.2"), Protocol: "icmp", Size: 80})
	copy(echo[28:], four) // an echo request may carry anything
	for name, c := range map[string]struct {
		data []byte
		want bool
	}{
		"source of IPv4":               {four, true},
		"destination of IPv6":          {six, true},
		"neither":                      {outer4, false},
		"neither, IPv6":                {outer6, false},
		"quoted by an ICMP error":      {wrapped(outer4, 20, 1, []byte{3, 1, 0, 0, 0, 0, 0, 0}, four), true},
		"quoted by an ICMPv6 error":    {wrapped(outer6, 40, 58, []byte{1, 0, 0, 0, 0, 0, 0, 0}, six), true},
		"in the payload of an echo":    {echo, false},
		"tunnelled in the clear":       {wrapped(outer4, 20, 4, nil, four), true},
		"tunnelled in the clear, IPv6": {wrapped(outer6, 40, 41, nil, six), true},
		"cut short":                    {four[:12], false},
	} {
		if got := shows(c.data, inside); got != c.want {
			t.Errorf("%s: %v", name, got)
		}
	}
}

// TestGuardSeesOnlyWhatLeaves: the same packet is counted where it leaves and not where it arrives.
func TestGuardSeesOnlyWhatLeaves(t *testing.T) {
	a, b := twoHosts(t)
	inside := []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}
	type result struct {
		seen, shown int
		err         error
		pcap        bytes.Buffer
	}
	ctx, cancel := context.WithCancel(t.Context())
	guard := func(place Place) chan *result {
		done, began := make(chan *result, 1), make(chan struct{})
		go func() {
			r := &result{}
			r.seen, r.shown, r.err = Guard(ctx, place, "eth0", inside, &r.pcap, func() { close(began) })
			done <- r
		}()
		select {
		case <-began:
		case <-time.After(20 * time.Second):
			t.Fatal("the guard does not begin")
		}
		return done
	}
	leaves, arrives := guard(a.Namespace), guard(b.Namespace)
	w, err := NewWatch(map[string]Place{"b": b.Namespace})
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	for _, source := range []string{"10.1.1.1", "192.0.2.1"} {
		p, marker := Packet{Source: address(source), Destination: address("192.0.2.2"), Protocol: "udp", Port: 9}, NewMarker()
		data, err := p.Build(marker)
		if err != nil {
			t.Fatal(err)
		}
		if err := Send(a.Namespace, "", data); err != nil {
			t.Fatal(err)
		}
		wait, stop := context.WithTimeout(t.Context(), 20*time.Second)
		if missing := w.Wait(wait, marker, []string{"b"}); len(missing) > 0 {
			t.Errorf("%s did not arrive", p)
		}
		stop()
	}
	cancel()
	out, in := <-leaves, <-arrives
	if out.err != nil || in.err != nil || out.shown != 1 || in.shown != 0 || in.seen < 2 {
		t.Errorf("left: %d shown (%v), arrived: %d of %d shown (%v)", out.shown, out.err, in.shown, in.seen, in.err)
	}
	reader, err := pcapgo.NewReader(&out.pcap)
	if err != nil {
		t.Fatal(err)
	}
	data, _, err := reader.ReadPacketData()
	if err != nil || gopacket.NewPacket(data, layers.LayerTypeEthernet, gopacket.Default).NetworkLayer().NetworkFlow().Src().String() != "10.1.1.1" {
		t.Errorf("what is written is not what was shown: %v", err)
	}
}
