package nflog_test

import (
	"context"
	"net"
	"net/netip"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"shekara/netctl/nflog"
	"shekara/netctl/nstest"
	"shekara/netctl/probe"
	"shekara/netctl/probe/probetest"
)

const (
	group   = 7
	patient = 60 * time.Second // only a broken kernel or listener takes so long
)

// open makes a host that logs what it sends to UDP port 9, and its listener.
func open(t *testing.T) (*nstest.H, *nflog.Listener) {
	t.Helper()
	probetest.Need(t, probe.NFTables)
	h := nstest.Host(t, "h")
	h.Run("ip", "link", "set", "lo", "up")
	h.RunInput(`table inet t { chain c { type filter hook output priority 0; udp dport 9 log prefix "output.discard" group 7 snaplen 128 drop; }; }`, "nft", "-f", "-")
	var l *nflog.Listener
	h.Do(func() {
		var err error
		if l, err = nflog.Open(group); err != nil {
			t.Fatal(err)
		}
	})
	return h, l
}

// run listens until the test ends, or the returned function is called.
func run(t *testing.T, l *nflog.Listener, got func(nflog.Record), lost func()) (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	var ended sync.WaitGroup
	ended.Go(func() {
		if err := l.Run(ctx, got, lost); err != nil {
			t.Error(err)
		}
	})
	stop = sync.OnceFunc(func() {
		cancel()
		ended.Wait()
		if err := l.Close(); err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(stop)
	return stop
}

// sender sends one byte to port 9 of the loopback address, from port 4000.
func sender(t *testing.T, h *nstest.H, address string) func() {
	var c *net.UDPConn
	h.Do(func() {
		var err error
		to := netip.AddrPortFrom(netip.MustParseAddr(address), 9)
		if c, err = net.DialUDP("udp", &net.UDPAddr{IP: net.ParseIP(address), Port: 4000}, net.UDPAddrFromAddrPort(to)); err != nil {
			t.Fatal(err)
		}
	})
	t.Cleanup(func() { c.Close() })
	return func() { _, _ = c.Write([]byte("x")) } // dropped, and so refused
}

// TestRecords: each packet that a rule logs comes as one record, with the rule's prefix, the link and what the packet says.
func TestRecords(t *testing.T) {
	h, l := open(t)
	records := make(chan nflog.Record, 100)
	run(t, l, func(r nflog.Record) { records <- r }, func() { t.Error("records were lost") })
	for _, address := range []string{"127.0.0.1", "::1"} {
		send := sender(t, h, address)
		a := netip.MustParseAddr(address)
		want := nflog.Record{Prefix: "output.discard", Out: "lo", Head: nflog.Head{Source: a, Destination: a, Protocol: 17, Length: 29, SourcePort: 4000, DestinationPort: 9, Transport: true}}
		if a.Is6() {
			want.Head.Length = 49
		}
		// The listener binds while it begins to run: until then nobody hears.
		deadline := time.After(patient)
		again := time.NewTicker(50 * time.Millisecond)
		for heard := false; !heard; {
			send()
			select {
			case got := <-records:
				if got.Head.Source != a {
					continue // one more of the address before
				}
				if diff := cmp.Diff(want, got, cmp.Comparer(func(a, b netip.Addr) bool { return a == b })); diff != "" {
					t.Errorf("%s (- want, + got)\n%s", address, diff)
				}
				heard = true
			case <-again.C:
			case <-deadline:
				t.Fatal("no record")
			}
		}
		again.Stop()
	}
}

// TestGap: records that nobody reads are lost sooner or later; that is told, and later ones come again.
func TestGap(t *testing.T) {
	h, l := open(t)
	first, release, lost := make(chan struct{}), make(chan struct{}), make(chan struct{}, 1)
	var once sync.Once
	after := make(chan struct{}, 1)
	run(t, l, func(nflog.Record) {
		once.Do(func() { close(first) })
		<-release
		select {
		case after <- struct{}{}:
		default:
		}
	}, func() {
		select {
		case lost <- struct{}{}:
		default:
		}
	})
	send := sender(t, h, "127.0.0.1")
	deadline := time.After(patient)
	wait := func(what string, happens <-chan struct{}, do func()) {
		t.Helper()
		for {
			do()
			select {
			case <-happens:
				return
			case <-deadline:
				t.Fatal(what)
			case <-time.After(time.Millisecond):
			}
		}
	}
	wait("no record", first, send)
	for range 50_000 { // more than a socket holds
		send()
	}
	close(release)
	wait("the gap is not told", lost, func() {})
	for len(after) > 0 {
		<-after
	}
	wait("nothing after the gap", after, send)
}

// TestSecondListener: a group has one listener; another is refused, and the first goes on.
func TestSecondListener(t *testing.T) {
	h, l := open(t)
	records := make(chan nflog.Record, 1)
	run(t, l, func(r nflog.Record) {
		select {
		case records <- r:
		default:
		}
	}, func() {})
	send := sender(t, h, "127.0.0.1")
	hears := func() {
		t.Helper()
		deadline := time.After(patient)
		for {
			send()
			select {
			case <-records:
				return
			case <-time.After(10 * time.Millisecond):
			case <-deadline:
				t.Fatal("no record")
			}
		}
	}
	hears()
	h.Do(func() {
		second, err := nflog.Open(group)
		if err != nil {
			t.Fatal(err)
		}
		defer second.Close()
		if err := second.Run(t.Context(), func(nflog.Record) {}, func() {}); err == nil {
			t.Error("a second listener is taken")
		}
	})
	hears()
}
