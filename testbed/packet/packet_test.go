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

	"shekara/netctl/nstest"
)

func address(s string) netip.Addr { return netip.MustParseAddr(s) }

func TestBuildMakesWhatOthersRead(t *testing.T) {
	four, six := [2]netip.Addr{address("192.0.2.1"), address("198.51.100.2")}, [2]netip.Addr{address("2001:db8::1"), address("2001:db8::2")}
	for _, pair := range [][2]netip.Addr{four, six} {
		for _, protocol := range []string{"tcp", "udp", "icmp", "sctp", "gre", "253"} {
			for _, options := range []bool{false, true} {
				p := Packet{Source: pair[0], Destination: pair[1], Protocol: protocol, Port: 443, Size: 100, Options: options}
				marker := NewMarker()
				data, err := p.Build(marker)
				if err != nil {
					t.Fatalf("%s: %v", p, err)
				}
				first := gopacket.LayerType(layers.LayerTypeIPv4)
				if pair[0].Is6() {
					first = layers.LayerTypeIPv6
				}
				read := gopacket.NewPacket(data, first, gopacket.Default)
				want, known := map[string]gopacket.LayerType{"tcp": layers.LayerTypeTCP, "udp": layers.LayerTypeUDP, "sctp": layers.LayerTypeSCTP, "icmp": layers.LayerTypeICMPv4, "gre": layers.LayerTypeGRE}[protocol]
				if read.ErrorLayer() != nil && protocol != "gre" && known { // what GRE and the others carry is no packet
					t.Errorf("%s: %v", p, read.ErrorLayer().Error())
				}
				if protocol == "icmp" && pair[0].Is6() {
					want = layers.LayerTypeICMPv6
				}
				if known && read.Layer(want) == nil {
					t.Errorf("%s: no %v in %v", p, want, read)
				}
				if found, ok := findMarker(data); !ok || found != marker {
					t.Errorf("%s: marker %q is read as %q", p, marker, found)
				}
			}
		}
	}
	if _, err := (Packet{Source: four[0], Destination: six[0], Protocol: "tcp"}).Build(NewMarker()); err == nil {
		t.Error("a packet of two families was made")
	}
}

func TestEveryPieceCarriesTheMarkerAndTheWholeIsTheSame(t *testing.T) {
	for _, pair := range [][2]netip.Addr{{address("192.0.2.1"), address("198.51.100.2")}, {address("2001:db8::1"), address("2001:db8::2")}} {
		marker := NewMarker()
		p := Packet{Source: pair[0], Destination: pair[1], Protocol: "udp", Port: 53, Pieces: Both}
		both, err := p.Frames(marker)
		if err != nil || len(both) != 2 {
			t.Fatalf("%d frames: %v", len(both), err)
		}
		for i, data := range both {
			if found, ok := findMarker(data); !ok || found != marker {
				t.Errorf("%s: fragment %d has no marker", p, i)
			}
		}
		if p.Pieces = Later; pair[0].Is4() {
			first := gopacket.NewPacket(both[0], layers.LayerTypeIPv4, gopacket.Default).Layer(layers.LayerTypeIPv4).(*layers.IPv4)
			second := gopacket.NewPacket(both[1], layers.LayerTypeIPv4, gopacket.Default).Layer(layers.LayerTypeIPv4).(*layers.IPv4)
			if first.Flags != layers.IPv4MoreFragments || second.Flags != 0 || second.FragOffset*8 != firstPiece || first.Id != second.Id {
				t.Errorf("fragments %v and %v", first, second)
			}
		}
		later, err := p.Frames(marker)
		if err != nil || len(later) != 1 || !bytes.Equal(later[0], both[1]) {
			t.Errorf("the later fragment alone: %v", err)
		}
	}
}

func TestAnswersAreNotArrivals(t *testing.T) {
	data, err := Packet{Source: address("192.0.2.1"), Destination: address("192.0.2.2"), Protocol: "icmp"}.Build(NewMarker())
	if err != nil {
		t.Fatal(err)
	}
	if isAnswer(data) {
		t.Error("an echo request is taken for an answer")
	}
	for _, kind := range []byte{0, 3, 11} {
		data[20] = kind
		if !isAnswer(data) {
			t.Errorf("ICMP type %d is not taken for an answer", kind)
		}
	}
}

func twoHosts(t *testing.T) (a, b *nstest.H) {
	a, b = nstest.Host(t, "a"), nstest.Host(t, "b")
	nstest.Link(t, a, "eth0", []string{"192.0.2.1/24", "2001:db8::1/64"}, b, "eth0", []string{"192.0.2.2/24", "2001:db8::2/64"})
	return a, b
}

func TestCraftedPacketIsSeenWhereItArrivesAndNowhereElse(t *testing.T) {
	a, b := twoHosts(t)
	c := nstest.Host(t, "c")
	w, err := NewWatch(map[string]Place{"a": a.Namespace, "b": b.Namespace, "c": c.Namespace})
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	for _, p := range []Packet{
		{Source: address("192.0.2.1"), Destination: address("192.0.2.2"), Protocol: "tcp", Port: 443},
		{Source: address("203.0.113.9"), Destination: address("192.0.2.2"), Protocol: "udp", Port: 53}, // spoofed
		{Source: address("2001:db8::1"), Destination: address("2001:db8::2"), Protocol: "icmp"},
	} {
		marker := NewMarker()
		data, err := p.Build(marker)
		if err != nil {
			t.Fatal(err)
		}
		if err := Send(a.Namespace, "", data); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
		if missing := w.Wait(ctx, marker, []string{"b/eth0"}); len(missing) > 0 {
			t.Errorf("%s did not arrive at %v", p, missing)
		}
		cancel()
		for _, s := range w.Seen(marker) {
			if s.Place != "b" {
				t.Errorf("%s was seen at %s", p, s)
			}
		}
	}
}

func TestStreamCountsWhatIsLost(t *testing.T) {
	a, b := twoHosts(t)
	for name, s := range map[string]Stream{
		"udp":   {Source: address("192.0.2.1"), Destination: address("192.0.2.2"), Port: 7},
		"udp6":  {Source: address("2001:db8::1"), Destination: address("2001:db8::2"), Port: 7},
		"icmp":  {Source: address("192.0.2.1"), Destination: address("192.0.2.2")},
		"icmp6": {Source: address("2001:db8::1"), Destination: address("2001:db8::2")},
	} {
		t.Run(name, func(t *testing.T) {
			s.From, s.To, s.Rate = a.Namespace, b.Namespace, 1000
			r, err := s.Start()
			if err != nil {
				t.Fatal(err)
			}
			until(t, func() bool { return r.Account().Received >= 200 })
			if got := r.Stop(); got.Lost() != 0 || got.Sent < 200 || got.Duplicated != 0 {
				t.Errorf("on a good link: %s", got)
			}
			r, err = s.Start()
			if err != nil {
				t.Fatal(err)
			}
			until(t, func() bool { return r.Account().Received >= 50 })
			// Not by taking the link down: the neighbour's queue would keep the packets until it is up again.
			b.RunInput("table inet cut {\n chain cut { type filter hook input priority 0; policy drop; }\n}\n", "nft", "-f", "-")
			sent := r.Account().Sent
			until(t, func() bool { return r.Account().Sent >= sent+100 })
			b.Run("nft", "delete", "table", "inet", "cut")
			received := r.Account().Received
			until(t, func() bool { return r.Account().Received >= received+20 })
			if got := r.Stop(); got.Lost() < 50 || got.LongestGap < 50*time.Millisecond {
				t.Errorf("over a cut: %s", got)
			}
		})
	}
}

func until(t *testing.T, done func() bool) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); !done(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("it does not come to pass")
		}
	}
}

func TestCaptureIsReadable(t *testing.T) {
	a, b := twoHosts(t)
	var out bytes.Buffer
	ctx, cancel := context.WithCancel(t.Context())
	began, ended := make(chan struct{}), make(chan error, 1)
	go func() {
		_, err := Capture(ctx, b.Namespace, "eth0", &out, func() { close(began) })
		ended <- err
	}()
	<-began
	a.Run("ping", "-c2", "-i0.2", "192.0.2.2")
	cancel()
	if err := <-ended; err != nil {
		t.Fatal(err)
	}
	reader, err := pcapgo.NewReader(&out)
	if err != nil {
		t.Fatal(err)
	}
	echoes := 0
	for {
		data, _, err := reader.ReadPacketData()
		if err != nil {
			break
		}
		if gopacket.NewPacket(data, reader.LinkType(), gopacket.Default).Layer(layers.LayerTypeICMPv4) != nil {
			echoes++
		}
	}
	if echoes != 4 {
		t.Errorf("%d ICMP packets captured, want 2 requests and 2 answers", echoes)
	}
}
