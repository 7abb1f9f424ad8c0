package datagram_test

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"
	"sync"
	"testing"
	"time"

	"shekara/netctl/datagram"
	"shekara/netctl/nstest"
)

const patience = 20 * time.Second

func listen(t testing.TB, at string) *datagram.Conn {
	t.Helper()
	c, err := datagram.Listen(netip.MustParseAddrPort(at))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() }) // it may be closed already
	return c
}

// dial is a peer that has an address of its own and a bounded wait.
func dial(t testing.TB, to netip.AddrPort) *net.UDPConn {
	t.Helper()
	c, err := net.DialUDP("udp", nil, net.UDPAddrFromAddrPort(to))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	if err := c.SetDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	return c
}

func read(t testing.TB, c *net.UDPConn) string {
	t.Helper()
	buffer := make([]byte, 4096)
	n, err := c.Read(buffer)
	if err != nil {
		t.Fatal(err)
	}
	return string(buffer[:n])
}

func write(t testing.TB, c *net.UDPConn, data string) {
	t.Helper()
	if _, err := c.Write([]byte(data)); err != nil {
		t.Fatal(err)
	}
}

// wildcard is a socket as systemd would hand it over, bound to all addresses of one family or of both.
func wildcard(t testing.TB, network, at string) *datagram.Conn {
	t.Helper()
	address, err := net.ResolveUDPAddr(network, at)
	if err != nil {
		t.Fatal(err)
	}
	opened, err := net.ListenUDP(network, address)
	if err != nil {
		t.Fatal(err)
	}
	defer opened.Close()
	file, err := opened.File()
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	c, err := datagram.FromFile(file)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

// TestAnswers sends datagrams to sockets of every kind, and has answers come back from where they were sent to, with the times of both.
// stamping waits until the kernel notes when it gets a datagram, and has it go on until the test ends. It begins some time after the first socket that asks (net_enable_timestamp, net/core/dev.c).
func stamping(t *testing.T) {
	t.Helper()
	server := listen(t, "127.0.0.1:0")
	batch, peer := server.NewBatch(1), dial(t, server.Local())
	for deadline := time.Now().Add(patience); ; time.Sleep(time.Millisecond) {
		write(t, peer, "x")
		if _, err := receive(batch); err != nil {
			t.Fatal(err)
		}
		if !batch.Message(0).At.IsZero() {
			return
		}
		if time.Now().After(deadline) {
			t.Fatal("the kernel never says when it got a datagram")
		}
	}
}

func TestAnswers(t *testing.T) {
	stamping(t)
	for name, c := range map[string]struct {
		open func(*testing.T) *datagram.Conn
		to   string
	}{
		"IPv4":                  {func(t *testing.T) *datagram.Conn { return listen(t, "127.0.0.1:0") }, "127.0.0.1"},
		"IPv6":                  {func(t *testing.T) *datagram.Conn { return listen(t, "[::1]:0") }, "::1"},
		"all of IPv4":           {func(t *testing.T) *datagram.Conn { return wildcard(t, "udp4", "0.0.0.0:0") }, "127.0.0.5"},
		"all of IPv6":           {func(t *testing.T) *datagram.Conn { return wildcard(t, "udp6", "[::]:0") }, "::1"},
		"all of both, IPv4":     {func(t *testing.T) *datagram.Conn { return wildcard(t, "udp", "[::]:0") }, "127.0.0.5"},
		"all of both, IPv6":     {func(t *testing.T) *datagram.Conn { return wildcard(t, "udp", "[::]:0") }, "::1"},
		"all, opened by itself": {func(t *testing.T) *datagram.Conn { return listen(t, "0.0.0.0:0") }, "127.0.0.7"},
	} {
		t.Run(name, func(t *testing.T) {
			server := c.open(t)
			to := netip.AddrPortFrom(netip.MustParseAddr(c.to), server.Local().Port())
			batch := server.NewBatch(4)
			peers := []*net.UDPConn{dial(t, to), dial(t, to), dial(t, to)} // connected: an answer from elsewhere would not reach them
			for round := range 3 {
				before := time.Now()
				for i, peer := range peers {
					write(t, peer, fmt.Sprintf("request %d of %d", round, i))
				}
				left := map[uint64]time.Time{}
				for got := 0; got < len(peers); {
					n, err := receive(batch)
					if err != nil {
						t.Fatal(err)
					}
					for i := range n {
						m := batch.Message(i)
						if m.To != to.Addr() || !m.Whole || m.At.Before(before) || m.At.After(time.Now()) {
							t.Errorf("%+v, sent to %s between %s and now", m, to, before)
						}
						if want := peers[got].LocalAddr().(*net.UDPAddr).AddrPort(); m.From.Port() != want.Port() || m.From.Addr() != want.Addr() {
							t.Errorf("from %s, want %s", m.From, want)
						}
						batch.AnswerStamped(i, append(append(batch.Room(i), "answer to "...), m.Data...), uint64(100*round+got))
						got++
					}
					sent, err := batch.Send()
					if err != nil || sent != n {
						t.Fatalf("sent %d of %d: %v", sent, n, err)
					}
				}
				for i, peer := range peers {
					if got, want := read(t, peer), fmt.Sprintf("answer to request %d of %d", round, i); got != want {
						t.Errorf("%q, want %q", got, want)
					}
				}
				for deadline := time.Now().Add(patience); len(left) < len(peers); {
					if err := batch.Stamps(func(tag uint64, at time.Time) { left[tag] = at }); err != nil {
						t.Fatal(err)
					}
					if time.Now().After(deadline) {
						t.Fatalf("left: %v", left)
					}
				}
				for i := range peers {
					if at := left[uint64(100*round+i)]; at.Before(before) || at.After(time.Now()) {
						t.Errorf("answer %d left at %s", i, at)
					}
				}
			}
		})
	}
}

func TestServes(t *testing.T) {
	for _, c := range []struct {
		conn          *datagram.Conn
		serves, never []string
	}{
		{listen(t, "127.0.0.1:0"), []string{"127.0.0.1"}, []string{"127.0.0.2", "::1"}},
		{wildcard(t, "udp4", "0.0.0.0:0"), []string{"127.0.0.1", "192.0.2.1"}, []string{"::1"}},
		{wildcard(t, "udp6", "[::]:0"), []string{"::1", "2001:db8::1"}, []string{"127.0.0.1"}},
		{wildcard(t, "udp", "[::]:0"), []string{"::1", "127.0.0.1"}, nil},
	} {
		port := c.conn.Local().Port()
		for _, address := range append(c.serves, c.never...) {
			to := netip.AddrPortFrom(netip.MustParseAddr(address), port)
			if want := slices.Contains(c.serves, address); c.conn.Serves(to) != want {
				t.Errorf("%s serves %s: %v", c.conn.Local(), to, !want)
			}
			if c.conn.Serves(netip.AddrPortFrom(to.Addr(), port+1)) {
				t.Errorf("%s serves another port", c.conn.Local())
			}
		}
	}
}

func TestLongDatagramsAreTold(t *testing.T) {
	server := listen(t, "127.0.0.1:0")
	batch := server.NewBatch(2)
	peer := dial(t, server.Local())
	for _, c := range []struct {
		sent, got int
		whole     bool
	}{{datagram.MaxLen, datagram.MaxLen, true}, {datagram.MaxLen + 1, datagram.MaxLen, false}, {0, 0, true}} {
		write(t, peer, string(bytes.Repeat([]byte("x"), c.sent)))
		n, err := receive(batch)
		if m := batch.Message(0); err != nil || n != 1 || len(m.Data) != c.got || m.Whole != c.whole {
			t.Errorf("%d bytes: %d datagrams, %d bytes, whole %v, %v", c.sent, n, len(m.Data), m.Whole, err)
		}
		if sent, err := batch.Send(); err != nil || sent != 0 {
			t.Errorf("without an answer %d were sent: %v", sent, err)
		}
	}
}

// TestOneIsNotSent has an answer that the kernel refuses in the middle of a batch: the others leave, and the times of later ones are not mixed up.
func TestOneIsNotSent(t *testing.T) {
	server := wildcard(t, "udp4", "0.0.0.0:0")
	to := netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), server.Local().Port())
	batch := server.NewBatch(8)
	peers := []*net.UDPConn{dial(t, to), dial(t, to), dial(t, to)}
	exchange := func(damage bool) (left []uint64) {
		for i, peer := range peers {
			write(t, peer, fmt.Sprint(i))
		}
		for got := 0; got < len(peers); {
			n, err := receive(batch)
			if err != nil {
				t.Fatal(err)
			}
			refused := 0
			for i := range n {
				m := batch.Message(i)
				if damage && string(m.Data) == "1" {
					m.To, refused = netip.MustParseAddr("203.0.113.1"), 1 // no address of this host
				}
				batch.AnswerStamped(i, append(batch.Room(i), m.Data...), uint64(m.Data[0]))
			}
			if sent, err := batch.Send(); sent != n-refused || (err != nil) != (refused > 0) {
				t.Fatalf("sent %d of %d, %d of them wrong: %v", sent, n, refused, err)
			}
			got += n
		}
		for i, peer := range peers {
			if damage && i == 1 {
				continue
			}
			if got := read(t, peer); got != fmt.Sprint(i) {
				t.Errorf("%q, want %d", got, i)
			}
		}
		for deadline := time.Now().Add(patience); !damage && len(left) < len(peers) && time.Now().Before(deadline); {
			if err := batch.Stamps(func(tag uint64, _ time.Time) { left = append(left, tag) }); err != nil {
				t.Fatal(err)
			}
		}
		return left
	}
	exchange(true)
	if err := batch.Stamps(func(uint64, time.Time) {}); err != nil { // of what was sent before the one that was not
		t.Fatal(err)
	}
	if left := slices.Sorted(slices.Values(exchange(false))); fmt.Sprint(left) != "[48 49 50]" {
		t.Errorf("times are of %v", left)
	}
}

func TestCloseEndsEach(t *testing.T) {
	for _, at := range []string{"127.0.0.1:0", "[::1]:0", "0.0.0.0:0"} {
		server := listen(t, at)
		ended := make(chan error)
		started := make(chan struct{})
		go func() {
			batch := server.NewBatch(1)
			close(started)
			_, err := receive(batch)
			ended <- err
		}()
		<-started
		if err := server.Close(); err != nil {
			t.Error(err)
		}
		select {
		case err := <-ended:
			if !errors.Is(err, net.ErrClosed) {
				t.Errorf("%s: %v", at, err)
			}
		case <-time.After(patience):
			t.Fatalf("%s: Each goes on", at)
		}
		if err := server.Close(); !errors.Is(err, net.ErrClosed) {
			t.Errorf("%s: closed again: %v", at, err)
		}
		if _, err := receive(server.NewBatch(1)); !errors.Is(err, net.ErrClosed) {
			t.Errorf("%s: %v", at, err)
		}
	}
}

func TestSeveralSocketsShareAPort(t *testing.T) {
	first := listen(t, "127.0.0.1:0")
	sockets := []*datagram.Conn{first, listen(t, first.Local().String()), listen(t, first.Local().String())}
	heard := make(chan int, 1000)
	for i, s := range sockets {
		go func() {
			for batch := s.NewBatch(8); ; {
				n, err := receive(batch)
				if err != nil {
					return
				}
				for range n {
					heard <- i
				}
			}
		}()
	}
	const many = 200
	for range many {
		write(t, dial(t, first.Local()), "x")
	}
	counts := map[int]int{}
	deadline := time.After(patience)
	for range many {
		select {
		case i := <-heard:
			counts[i]++
		case <-deadline:
			t.Fatalf("heard %v", counts)
		}
	}
	if len(counts) != len(sockets) {
		t.Errorf("of %d datagrams the sockets got %v", many, counts)
	}
}

func TestAnAddressThatComesLater(t *testing.T) {
	server := nstest.Host(t, "server")
	for _, late := range []string{"198.51.100.1", "2001:db8::1"} {
		var c *datagram.Conn
		server.Do(func() { c = listen(t, netip.AddrPortFrom(netip.MustParseAddr(late), 123).String()) })
		server.Address("lo", netip.PrefixFrom(netip.MustParseAddr(late), netip.MustParseAddr(late).BitLen()).String())
		heard := make(chan struct{})
		var sending sync.WaitGroup
		sending.Go(func() {
			server.Do(func() {
				for tick := time.NewTicker(10 * time.Millisecond); ; {
					if peer, err := net.Dial("udp", c.Local().String()); err == nil { // anew, since the route that a socket has found first it keeps
						_, _ = peer.Write([]byte("late")) // the test waits for one that arrives: an address can be reached some time after it is there (addrconf_dad_work, net/ipv6/addrconf.c)
						peer.Close()
					}
					select {
					case <-heard:
						tick.Stop()
						return
					case <-tick.C:
					}
				}
			})
		})
		batch := c.NewBatch(1)
		if n, err := receive(batch); err != nil || n != 1 || string(batch.Message(0).Data) != "late" {
			t.Errorf("%s: %v", late, err)
		}
		close(heard)
		sending.Wait()
	}
}

func TestWhatIsNoSocketForUs(t *testing.T) {
	for _, at := range []string{"[fe80::1%lo]:0"} {
		if _, err := datagram.Listen(netip.MustParseAddrPort(at)); err == nil {
			t.Errorf("listens at %s", at)
		}
	}
	if _, err := datagram.Listen(netip.AddrPort{}); err == nil {
		t.Error("listens nowhere")
	}
	tcp, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer tcp.Close()
	file, err := tcp.(*net.TCPListener).File()
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	if _, err := datagram.FromFile(file); err == nil {
		t.Error("a TCP socket was taken")
	}
	plain, err := os.CreateTemp(t.TempDir(), "f")
	if err != nil {
		t.Fatal(err)
	}
	defer plain.Close()
	if _, err := datagram.FromFile(plain); err == nil {
		t.Error("a file was taken")
	}
}

func TestNothingAllocates(t *testing.T) {
	server := listen(t, "127.0.0.1:0")
	batch := server.NewBatch(8)
	peer := dial(t, server.Local())
	request := []byte("request")
	buffer := make([]byte, 64)
	left := func(uint64, time.Time) {}
	const many = 1000
	exchanges := func() {
		rounds := 0
		send := func() error {
			_, err := peer.Write(request)
			return err
		}
		if err := send(); err != nil {
			t.Fatal(err)
		}
		err := batch.Each(func(int) error {
			batch.AnswerStamped(0, append(batch.Room(0), batch.Message(0).Data...), 1)
			if _, err := batch.Send(); err != nil {
				return err
			}
			if err := batch.Stamps(left); err != nil {
				return err
			}
			if _, err := peer.Read(buffer); err != nil {
				return err
			}
			if rounds++; rounds == many {
				return errEnough
			}
			return send()
		})
		if !errors.Is(err, errEnough) {
			t.Fatal(err)
		}
	}
	if n := testing.AllocsPerRun(1, exchanges); n > many/50 {
		t.Errorf("%v allocations for %d datagrams", n, many)
	}
}

var errEnough = errors.New("enough")

// receive takes what comes first.
func receive(b *datagram.Batch) (n int, err error) {
	err = b.Each(func(got int) error { n = got; return errEnough })
	if errors.Is(err, errEnough) {
		err = nil
	}
	return n, err
}
