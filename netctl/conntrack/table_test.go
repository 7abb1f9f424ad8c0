package conntrack_test

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"shekara/netctl/conntrack"
	"shekara/netctl/nstest"
	"shekara/netctl/probe"
	"shekara/netctl/probe/probetest"
)

// sources are the clients' addresses, two of each family.
func sources() []string { return []string{"192.0.2.2", "192.0.2.3", "2001:db8:1::2", "2001:db8:1::3"} }

// server is the address that a client of that family talks to.
func server(from string) string {
	return map[bool]string{true: "198.51.100.2", false: "2001:db8:2::2"}[netip.MustParseAddr(from).Is4()]
}

// connect makes one established connection from each source through a router that accepts what is established, and new
// connections as long as a set has the destination port.
func connect(t *testing.T) (r *nstest.H, table *conntrack.Table, servers map[string]net.PacketConn, conns map[string]net.Conn) {
	t.Helper()
	a, b := nstest.Host(t, "a"), nstest.Host(t, "b")
	r = nstest.Host(t, "r")
	nstest.Link(t, a, "eth0", []string{"192.0.2.2/24", "192.0.2.3/24", "2001:db8:1::2/64", "2001:db8:1::3/64"}, r, "a", []string{"192.0.2.1/24", "2001:db8:1::1/64"})
	nstest.Link(t, r, "b", []string{"198.51.100.1/24", "2001:db8:2::1/64"}, b, "eth0", []string{"198.51.100.2/24", "2001:db8:2::2/64"})
	r.Forwarding()
	r.Sysctl("net.netfilter.nf_conntrack_acct", "1")
	r.Sysctl("net.netfilter.nf_conntrack_timestamp", "1")
	r.Sysctl("net.netfilter.nf_conntrack_events", "1") // ends are told of connections that were opened before somebody listened
	for _, gateway := range []string{"192.0.2.1", "2001:db8:1::1"} {
		a.Route("default", gateway)
	}
	for _, gateway := range []string{"198.51.100.1", "2001:db8:2::1"} {
		b.Route("default", gateway)
	}
	r.RunInput(`table inet t {
	set allowed { type inet_service; elements = { 9000 } }
	chain c { type filter hook forward priority 0; policy drop;
		ct state established accept
		meta l4proto 58 accept
		udp dport @allowed accept
	}
}`, "nft", "-f", "-")

	r.Do(func() {
		var err error
		if table, err = conntrack.Open(); err != nil {
			t.Fatal(err)
		}
	})
	t.Cleanup(func() { table.Close() })

	servers, conns = map[string]net.PacketConn{}, map[string]net.Conn{}
	for _, from := range sources() {
		to := netip.AddrPortFrom(netip.MustParseAddr(server(from)), 9000).String()
		b.Do(func() {
			if servers[to] != nil {
				return
			}
			listener, err := net.ListenPacket("udp", to)
			if err != nil {
				t.Fatal(err)
			}
			servers[to] = listener
			t.Cleanup(func() { listener.Close() })
		})
		a.Do(func() {
			dialer := net.Dialer{LocalAddr: net.UDPAddrFromAddrPort(netip.AddrPortFrom(netip.MustParseAddr(from), 0))}
			conn, err := dialer.Dial("udp", to)
			if err != nil {
				t.Fatal(err)
			}
			conns[from] = conn
			t.Cleanup(func() { conn.Close() })
		})
		// Both ways, so that the connection is established.
		say(t, conns[from], "hello")
		buffer := make([]byte, 10)
		_, back, err := servers[to].ReadFrom(buffer)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := servers[to].WriteTo([]byte("hello"), back); err != nil {
			t.Fatal(err)
		}
		if _, err := conns[from].Read(buffer); err != nil {
			t.Fatal(err)
		}
	}
	return r, table, servers, conns
}

func TestDelete(t *testing.T) {
	probetest.Need(t, probe.NFTables, probe.Conntrack, probe.Tool("conntrack"))
	r, table, servers, conns := connect(t)
	for _, family := range []string{"ipv4", "ipv6"} {
		out := r.Run("conntrack", "-L", "-f", family, "-p", "udp", "--dport", "9000")
		if strings.Count(out, "\n") != 2 {
			t.Fatalf("want 2 entries of %s:\n%s", family, out)
		}
	}

	// The hole is closed, and yet all go on: that is why entries must be deleted.
	r.Run("nft", "flush", "set", "inet", "t", "allowed")
	for _, from := range sources() {
		say(t, conns[from], "still")
		expect(t, servers, server(from), "still")
	}
	// The first of each family is revoked. Something else still allows the last of those that the wide one takes.
	every := func(source string) conntrack.Selector {
		return conntrack.Selector{Source: netip.MustParsePrefix(source), Destination: netip.MustParsePrefix(map[bool]string{true: "0.0.0.0/0", false: "::/0"}[strings.Contains(source, ".")])}
	}
	to9000 := func(s conntrack.Selector) conntrack.Selector {
		s.Protocol, s.FirstPort, s.LastPort = 17, 9000, 9000
		return s
	}
	other := every("0.0.0.0/0")
	other.Protocol, other.FirstPort, other.LastPort = 17, 9001, 65535
	gone := conntrack.Selection{
		Revoked: []conntrack.Selector{every("192.0.2.0/24"), to9000(every("2001:db8:1::2/128")), other},
		Kept:    []conntrack.Selector{to9000(every("192.0.2.3/32")), {Source: netip.MustParsePrefix("192.0.2.2/32"), Destination: netip.MustParsePrefix("198.51.100.2/32"), Protocol: 6}},
	}
	if n, err := table.Count(t.Context(), gone); n != 2 || err != nil {
		t.Errorf("%d counted, %v", n, err)
	}
	cut, err := table.Delete(t.Context(), gone)
	if cut.Count != 2 || err != nil || len(cut.Some) != 2 || cut.Packets != 6 || cut.Bytes == 0 || time.Since(cut.LastSeen) > time.Minute {
		t.Errorf("%+v, %v", cut, err)
	}
	if len(cut.Taken) != 2 || cut.Taken[gone.Revoked[0]] != 1 || cut.Taken[gone.Revoked[1]] != 1 {
		t.Errorf("taken by %v", cut.Taken)
	}
	if text := cut.Some[0].String(); !strings.HasPrefix(text, "udp 192.0.2.2:") || !strings.HasSuffix(text, " to 198.51.100.2:9000") {
		t.Errorf("the first is %s", text)
	}
	if cut, err := table.Delete(t.Context(), gone); cut.Count != 0 || err != nil {
		t.Errorf("again: %+v, %v", cut, err)
	}
	for i, from := range sources() {
		deleted := i%2 == 0
		say(t, conns[from], fmt.Sprint("after", i))
		if !deleted { // arrives, and the one before it did not
			expect(t, servers, server(from), fmt.Sprint("after", i))
		}
	}
	// What passes no more has no entry again: the kernel forgets a connection whose first packet is dropped.
	if n, err := table.Count(t.Context(), gone); n != 0 || err != nil {
		t.Errorf("%d counted after packets that were dropped, %v", n, err)
	}
	if cut, err := table.Delete(t.Context(), conntrack.Selection{Kept: gone.Kept}); cut.Count != 0 || err != nil {
		t.Errorf("nothing revoked: %+v, %v", cut, err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	all := conntrack.Selection{Revoked: []conntrack.Selector{every("0.0.0.0/0")}}
	if cut, err := table.Delete(ctx, all); cut.Count != 0 || err == nil {
		t.Errorf("canceled: %+v, %v", cut, err)
	}
	if cut, err := table.Delete(t.Context(), all); cut.Count != 1 || err != nil {
		t.Errorf("all of IPv4: %+v, %v", cut, err)
	}
}

func say(t *testing.T, conn net.Conn, text string) {
	t.Helper()
	if _, err := conn.Write([]byte(text)); err != nil {
		t.Fatal(err)
	}
}

// expect reads one datagram at the server. Datagrams keep their order here, so one that should not have come would be read first.
func expect(t *testing.T, servers map[string]net.PacketConn, server, want string) {
	t.Helper()
	buffer := make([]byte, 20)
	n, _, err := servers[netip.AddrPortFrom(netip.MustParseAddr(server), 9000).String()].ReadFrom(buffer)
	if err != nil || string(buffer[:n]) != want {
		t.Errorf("server got %q, %v, want %q", buffer[:n], err, want)
	}
}

// TestEach: every connection is told as it was opened, until nobody wants more.
func TestEach(t *testing.T) {
	probetest.Need(t, probe.NFTables, probe.Conntrack)
	r, table, _, _ := connect(t)
	var told []conntrack.Entry
	each := func(most int) (n int) {
		told = nil
		r.Do(func() {
			if err := table.Each(t.Context(), func(a *conntrack.Account) bool {
				if a.Protocol == 17 {
					told = append(told, a.Entry)
				}
				n++
				return n < most
			}); err != nil {
				t.Fatal(err)
			}
		})
		return n
	}
	each(1000)
	for _, from := range sources() {
		found := slices.ContainsFunc(told, func(e conntrack.Entry) bool {
			return e.Source == netip.MustParseAddr(from) && e.Destination == netip.MustParseAddr(server(from)) && e.SourcePort != 0 && e.DestinationPort == 9000 &&
				!e.AnswersFrom.IsValid() && !e.Closed && !e.Helped && e.Zone == 0
		})
		if !found {
			t.Errorf("the connection from %s is not among %v", from, told)
		}
	}
	if len(told) != len(sources()) {
		t.Errorf("%d connections are told, want %d: %v", len(told), len(sources()), told)
	}
	if n := each(2); n != 2 {
		t.Errorf("%d were told after no more than 2 were wanted", n)
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	r.Do(func() {
		if err := table.Each(ended, func(*conntrack.Account) bool { return true }); err == nil {
			t.Error("a context that ended is no error")
		}
	})

}

// counted says what is wrong with the account of a connection of one packet of 5 bytes each way and i more of 12, opened since a time.
func counted(t *testing.T, since time.Time, from string, i int, a conntrack.Account) {
	t.Helper()
	headers := uint64(28) // of IPv4 and UDP
	if a.Source.Is6() {
		headers = 48
	}
	want := conntrack.Account{Entry: a.Entry, ID: a.ID, Counted: true, Original: conntrack.Counter{Packets: 1 + uint64(i), Bytes: headers + 5 + uint64(i)*(headers+12)},
		Reply: conntrack.Counter{Packets: 1, Bytes: headers + 5}, Began: a.Began, Ended: a.Ended}
	if a.Began.Before(since) || a.Began.After(time.Now()) || !a.Ended.IsZero() && (a.Ended.Before(a.Began) || a.Ended.After(time.Now())) {
		t.Errorf("that of %s lived from %s to %s, the test since %s", from, a.Began, a.Ended, since)
	}
	if a != want || a.ID == 0 || a.Source.String() != from || a.DestinationPort != 9000 {
		t.Errorf("of %s was counted %+v, want %+v", from, a, want)
	}
}

func heard(t *testing.T, listener *conntrack.Listener) (began, ended []conntrack.Account) {
	t.Helper()
	lost, err := listener.Heard(func(a *conntrack.Account) { began = append(began, *a) }, func(a *conntrack.Account) { ended = append(ended, *a) })
	if lost || err != nil {
		t.Fatal(lost, err)
	}
	return began, ended
}

// TestWhatIsCounted: each connection's packets and bytes, each way, while it lives and when it ends.
func TestWhatIsCounted(t *testing.T) {
	probetest.Need(t, probe.NFTables, probe.Conntrack)
	before := time.Now()
	r, table, servers, conns := connect(t)
	var listener *conntrack.Listener
	r.Do(func() {
		var err error
		if listener, err = conntrack.Listen(); err != nil {
			t.Fatal(err)
		}
	})
	t.Cleanup(func() { listener.Close() })
	for i, from := range sources() {
		for range i {
			say(t, conns[from], "twelve bytes")
			expect(t, servers, server(from), "twelve bytes")
		}
	}
	live := map[string]conntrack.Account{}
	r.Do(func() {
		if err := table.Each(t.Context(), func(a *conntrack.Account) bool {
			if a.Protocol == 17 {
				live[a.Source.String()] = *a
			}
			return true
		}); err != nil {
			t.Fatal(err)
		}
	})
	keys := map[uint64]string{}
	for i, from := range sources() {
		a := live[from]
		counted(t, before, from, i, a)
		keys[a.Key()] = from
	}
	if len(keys) != len(sources()) {
		t.Errorf("%d keys of %d connections", len(keys), len(sources()))
	}
	if began, ended := heard(t, listener); len(began)+len(ended) != 0 {
		t.Errorf("nothing happened, and yet: %+v, %+v", began, ended)
	}
	for i, from := range sources() {
		say(t, conns[from], "twelve bytes")
		expect(t, servers, server(from), "twelve bytes")
		all := netip.PrefixFrom(netip.MustParseAddr(from), 0).Masked()
		if _, err := table.Delete(t.Context(), conntrack.Selection{Revoked: []conntrack.Selector{{Source: netip.PrefixFrom(netip.MustParseAddr(from), netip.MustParseAddr(from).BitLen()),
			Destination: all, Protocol: 17}}}); err != nil {
			t.Fatal(err)
		}
		began, list := heard(t, listener)
		if len(began) != 0 || len(list) != 1 {
			t.Fatalf("after that of %s was deleted began %+v, ended %+v", from, began, list)
		}
		counted(t, before, from, i+1, list[0])
		if keys[list[0].Key()] != from || list[0].Ended.IsZero() {
			t.Errorf("the connection from %s has another key at its end, or no time: %+v", from, list[0])
		}
		// Its next packet opens another.
		say(t, conns[from], "once more")
		expect(t, servers, server(from), "once more")
		began, list = heard(t, listener)
		if len(began) != 1 || len(list) != 0 || began[0].Source.String() != from || began[0].DestinationPort != 9000 {
			t.Errorf("when that of %s sends again began %+v, ended %+v", from, began, list)
		}
	}
}

// TestEachTellsWhatIsSpecial: translation, zone, helper and the end of a TCP connection, as the kernel has them.
func TestEachTellsWhatIsSpecial(t *testing.T) {
	probetest.Need(t, probe.NFTables, probe.Conntrack, probe.Tool("conntrack"))
	r := nstest.Host(t, "r")
	for _, argv := range []string{
		"-s 192.0.2.1 -d 198.51.100.1 -p tcp --sport 1 --dport 2 --state ESTABLISHED -t 100 -m 7",
		"-s 192.0.2.2 -d 198.51.100.1 -p tcp --sport 1 --dport 2 --state TIME_WAIT -t 100",
		"-s 192.0.2.3 -d 198.51.100.1 -p udp --sport 1 --dport 2 -t 100 --src-nat 203.0.113.1",
		"-s 192.0.2.4 -d 198.51.100.1 -p udp --sport 1 --dport 2 -t 100 -w 5",
		"-s 192.0.2.5 -d 198.51.100.1 -p icmp --icmp-type 8 --icmp-code 0 --icmp-id 9 -t 100",
	} {
		r.Run(append([]string{"conntrack", "-I"}, strings.Fields(argv)...)...)
	}
	told := map[string]conntrack.Entry{}
	r.Do(func() {
		table, err := conntrack.Open()
		if err != nil {
			t.Fatal(err)
		}
		defer table.Close()
		if err := table.Each(t.Context(), func(a *conntrack.Account) bool { told[a.Source.String()] = a.Entry; return true }); err != nil {
			t.Fatal(err)
		}
	})
	to := netip.MustParseAddr("198.51.100.1")
	for _, want := range []conntrack.Entry{
		{Source: netip.MustParseAddr("192.0.2.1"), Destination: to, Protocol: 6, SourcePort: 1, DestinationPort: 2, Mark: 7},
		{Source: netip.MustParseAddr("192.0.2.2"), Destination: to, Protocol: 6, SourcePort: 1, DestinationPort: 2, Closed: true},
		{Source: netip.MustParseAddr("192.0.2.3"), Destination: to, Protocol: 17, SourcePort: 1, DestinationPort: 2, AnswersFrom: to, AnswersTo: netip.MustParseAddr("203.0.113.1")},
		{Source: netip.MustParseAddr("192.0.2.4"), Destination: to, Protocol: 17, SourcePort: 1, DestinationPort: 2, Zone: 5},
		{Source: netip.MustParseAddr("192.0.2.5"), Destination: to, Protocol: 1, ICMPType: 8},
	} {
		if got := told[want.Source.String()]; got != want {
			t.Errorf("told %+v, want %+v", got, want)
		}
	}
}
