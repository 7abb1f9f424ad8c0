package echo

import (
	"bytes"
	"context"
	"errors"
	"net"
	"net/netip"
	"os"
	"sync"
	"testing"
	"time"

	"shekara/netctl/nstest"
	"shekara/netctl/probe"
	"shekara/netctl/probe/probetest"
)

// The seeds are replies in both families.
func FuzzParseReply(f *testing.F) {
	t := tag{id: 0x1234, sequence: 7, nonce: [16]byte{1, 2, 3}}
	for _, ipv6 := range []bool{false, true} {
		m := request(t, ipv6)
		if _, ok := parseReply(m, ipv6); ok {
			f.Error("a request is taken for a reply")
		}
		m[0] = replyV4
		if ipv6 {
			m[0] = replyV6
		} else {
			m[2], m[3] = 0, 0
			sum := checksum(m)
			m[2], m[3] = byte(sum>>8), byte(sum)
		}
		if got, ok := parseReply(m, ipv6); !ok || got != t {
			f.Errorf("reply comes back as %+v, %v", got, ok)
		}
		f.Add(m, ipv6)
	}
	f.Fuzz(func(t *testing.T, m []byte, ipv6 bool) {
		if got, ok := parseReply(m, ipv6); ok {
			back := request(got, ipv6)
			if !bytes.Equal(back[4:], m[4:]) {
				t.Errorf("%x comes back as %x", m, back)
			}
		}
	})
}

func TestChecksum(t *testing.T) {
	// RFC 1071, section 3.
	if got := checksum([]byte{0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7}); got != ^uint16(0xddf2) {
		t.Errorf("checksum is %x", got)
	}
}

func TestEcho(t *testing.T) {
	probetest.Need(t, probe.RawICMP)
	a, b := nstest.Host(t, "a"), nstest.Host(t, "b")
	nstest.Link(t, a, "eth0", []string{"192.0.2.1/24", "192.0.2.11/24", "2001:db8::1/64", "2001:db8::11/64"},
		b, "eth0", []string{"192.0.2.2/24", "2001:db8::2/64"})
	var p *Prober
	a.Do(func() {
		var err error
		if p, err = Open(); err != nil {
			t.Fatal(err)
		}
	})
	defer p.Close()

	// Each source is asked from; then b lets only one through, to show that it is that one which the packets have.
	for _, c := range []struct{ from, other, to, rule string }{
		{"192.0.2.11", "192.0.2.1", "192.0.2.2", "ip saddr != 192.0.2.11 meta l4proto 1 drop"},
		{"2001:db8::11", "2001:db8::1", "2001:db8::2", "ip6 saddr != 2001:db8::11 icmpv6 type echo-request drop"},
	} {
		from, other, to := netip.MustParseAddr(c.from), netip.MustParseAddr(c.other), netip.MustParseAddr(c.to)
		for _, source := range []netip.Addr{from, other, {}} {
			if _, err := p.Echo(within(t, 20*time.Second), source, to); err != nil {
				t.Errorf("from %s: %v", source, err)
			}
		}
		b.RunInput("add table inet t\nadd chain inet t c { type filter hook input priority 0; }\nadd rule inet t c "+c.rule+"\n", "nft", "-f", "-")
		if latency, err := p.Echo(within(t, 20*time.Second), from, to); err != nil || latency <= 0 {
			t.Errorf("from %s: %v, %v", from, latency, err)
		}
		if _, err := p.Echo(within(t, 200*time.Millisecond), other, to); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("from %s, which b drops: %v", other, err)
		}
		b.Run("nft", "flush", "ruleset")
	}

	for _, c := range []struct{ from, to string }{{"192.0.2.99", "192.0.2.2"}, {"192.0.2.1", "2001:db8::2"}, {"", "203.0.113.1"}, {"", "2001:db8:ff::1"}, {"", ""}} {
		from, _ := netip.ParseAddr(c.from)
		to, _ := netip.ParseAddr(c.to)
		if _, err := p.Echo(within(t, 20*time.Second), from, to); err == nil || errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("from %q to %q: %v", c.from, c.to, err)
		}
	}
	if len(p.waiting) != 0 {
		t.Errorf("%d requests are remembered", len(p.waiting))
	}
}

func within(t *testing.T, d time.Duration) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), d)
	t.Cleanup(cancel)
	return ctx
}

func TestManyAtOnce(t *testing.T) {
	probetest.Need(t, probe.RawICMP)
	a, b := nstest.Host(t, "a"), nstest.Host(t, "b")
	nstest.Link(t, a, "eth0", []string{"192.0.2.1/24"}, b, "eth0", []string{"192.0.2.2/24"})
	b.Sysctl("net.ipv4.icmp_ratelimit", "0")
	var p *Prober
	a.Do(func() {
		var err error
		if p, err = Open(); err != nil {
			t.Fatal(err)
		}
	})
	// The first finds the neighbour: the kernel drops most of 300 packets that wait for its hardware address.
	if _, err := p.Echo(within(t, 20*time.Second), netip.Addr{}, netip.MustParseAddr("192.0.2.2")); err != nil {
		t.Fatal(err)
	}
	var group sync.WaitGroup
	for range 300 {
		group.Go(func() {
			if _, err := p.Echo(within(t, 20*time.Second), netip.Addr{}, netip.MustParseAddr("192.0.2.2")); err != nil {
				t.Error(err)
			}
		})
	}
	group.Wait()
	// One that waits ends when the prober is closed.
	b.Sysctl("net.ipv4.icmp_echo_ignore_all", "1")
	ended := make(chan error)
	go func() {
		_, err := p.Echo(t.Context(), netip.Addr{}, netip.MustParseAddr("192.0.2.2"))
		ended <- err
	}()
	for registered := false; !registered; {
		p.mu.Lock()
		registered = len(p.waiting) == 1
		p.mu.Unlock()
	}
	if err := p.Close(); err != nil {
		t.Error(err)
	}
	if err := <-ended; !errors.Is(err, os.ErrClosed) && !errors.Is(err, net.ErrClosed) {
		t.Errorf("after Close: %v", err)
	}
	if _, err := p.Echo(t.Context(), netip.Addr{}, netip.MustParseAddr("192.0.2.2")); !errors.Is(err, os.ErrClosed) {
		t.Errorf("a closed prober: %v", err)
	}
}

// TestForgedAnswers: answers with a wrong nonce, from the wrong host, or twice, are not taken.
func TestForgedAnswers(t *testing.T) {
	p := &Prober{id: 9, waiting: map[uint16]*wait{}}
	to := netip.MustParseAddr("192.0.2.2")
	w, err := p.register(to)
	if err != nil {
		t.Fatal(err)
	}
	forged := w.tag
	forged.nonce[15] ^= 1
	p.answered(forged, to, time.Now())
	p.answered(w.tag, netip.MustParseAddr("192.0.2.3"), time.Now())
	select {
	case <-w.answer:
		t.Error("a forged answer was taken")
	default:
	}
	p.answered(w.tag, to, time.Now())
	p.answered(w.tag, to, time.Now()) // must not block
	<-w.answer
}
