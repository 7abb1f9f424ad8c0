package nts

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	beevikntp "github.com/beevik/ntp"
	beevik "github.com/beevik/nts"

	"shekara/netctl/certificate"
	"shekara/netctl/certificate/certificatetest"
	"shekara/timesync/ntp"
)

const (
	patience = 20 * time.Second
	here     = "127.0.0.1"
)

// served is a server of keys and, as small as can be, one of NTP.
type served struct {
	*Server
	authority *certificatetest.Authority
	ends      chan error // of connections
	ntp       *net.UDPConn
	seen      func(error) // of each request
}

// end waits for the end of a connection, and gives what it came to.
func (v *served) end(t *testing.T) error {
	t.Helper()
	select {
	case err := <-v.ends:
		return err
	case <-time.After(patience):
		t.Fatalf("no connection ended within %s", patience)
		return nil
	}
}

// serve lets both run at an address and ports (0: any free) until the test ends. In a namespace it must be called inside.
func serve(t *testing.T, keys *Keys, authority *certificatetest.Authority, address string, port, ntpPort uint16) *served {
	t.Helper()
	made, key := authority.Leaf("time.example.org", address)
	conn, err := net.ListenUDP("udp", net.UDPAddrFromAddrPort(netip.AddrPortFrom(netip.MustParseAddr(address), ntpPort)))
	if err != nil {
		t.Fatal(err)
	}
	if port == 0 {
		l, err := net.Listen("tcp", net.JoinHostPort(address, "0"))
		if err != nil {
			t.Fatal(err)
		}
		port = l.Addr().(*net.TCPAddr).AddrPort().Port()
		l.Close()
	}
	v := &served{authority: authority, ends: make(chan error, 1000), ntp: conn, seen: func(error) {}, Server: &Server{
		Addresses: []netip.Addr{netip.MustParseAddr(address)}, Port: port, NTPPort: conn.LocalAddr().(*net.UDPAddr).AddrPort().Port(),
		Files: certificate.Files{Certificate: made, Key: key}, Keys: keys,
		Admit: func(netip.Addr) bool { return true }, Log: slog.New(slog.NewTextHandler(t.Output(), nil)),
	}}
	v.Done = func(_ netip.Addr, err error) { v.ends <- err }
	return v
}

// start runs what serve made; do has it listen, in whatever namespace.
func (v *served) start(t *testing.T, do func(func())) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	var running sync.WaitGroup
	running.Go(func() { v.answer() })
	running.Go(func() {
		do(func() {
			if err := v.Run(ctx); err != nil {
				t.Error(err)
			}
		})
	})
	t.Cleanup(func() {
		cancel()
		v.ntp.Close()
		running.Wait()
	})
	for end := time.Now().Add(patience); ; time.Sleep(10 * time.Millisecond) {
		var conn net.Conn
		var err error
		do(func() { conn, err = net.Dial("tcp", v.at()) })
		if err == nil {
			conn.Close()
			<-v.ends
			return
		}
		if time.Now().After(end) {
			t.Fatal(err)
		}
	}
}

func directly(f func()) { f() }

func (v *served) at() string {
	return net.JoinHostPort(v.Addresses[0].String(), strconv.Itoa(int(v.Port)))
}

func (v *served) config() *tls.Config { return &tls.Config{RootCAs: v.authority.Pool()} }

func (v *served) establish(t *testing.T) (*Session, error) {
	return Establish(t.Context(), tls.Dialer{Config: v.config()}, v.at())
}

// answer is an NTP server, of stratum 1 by its own account, that answers who uses NTS.
func (v *served) answer() {
	request := make([]byte, 2048)
	for {
		n, client, err := v.ntp.ReadFromUDPAddrPort(request)
		if err != nil {
			return
		}
		now := ntp.TimestampOf(time.Now())
		var asked ntp.Header
		if asked.Decode(request[:n]) != nil {
			continue
		}
		x, err := v.Keys.Open(request[:n])
		v.seen(err)
		h := ntp.Header{Version: 4, Mode: ntp.Server, Stratum: 1, Poll: asked.Poll, Precision: -20, ReferenceID: 0x47505300, Reference: now, Origin: asked.Transmit, Receive: now, Transmit: now}
		var answer []byte
		switch {
		case err == nil:
			answer = x.Seal(h.Append(nil))
		case errors.Is(err, ErrCookie):
			h.Stratum, h.ReferenceID = 0, ntp.KissNTSN
			answer = x.Echo(h.Append(nil))
		default:
			continue
		}
		_, _ = v.ntp.WriteToUDPAddrPort(answer, client)
	}
}

func TestEstablish(t *testing.T) {
	k := openKeys(t)
	v := serve(t, k, certificatetest.New(t, "authority"), here, 0, 0)
	v.start(t, directly)
	s, err := v.establish(t)
	if err != nil {
		t.Fatal(err)
	}
	if err := <-v.ends; err != nil {
		t.Error(err)
	}
	if s.Server != v.ntp.LocalAddr().String() || s.Cookies() != maxCookies {
		t.Errorf("server %s, %d cookies", s.Server, s.Cookies())
	}
	exchange(t, k, s, nil)

	if _, err := Establish(t.Context(), tls.Dialer{Config: &tls.Config{RootCAs: certificatetest.New(t, "other").Pool()}}, v.at()); err == nil {
		t.Error("another authority's certificate was taken")
	}
	if err := <-v.ends; err == nil {
		t.Error("keys were established with who does not trust the certificate")
	}
}

// TestBeevik: a client of other people's, from beginning to the loss of its keys.
func TestBeevik(t *testing.T) {
	k := openKeys(t)
	v := serve(t, k, certificatetest.New(t, "authority"), here, 0, 0)
	v.start(t, directly)
	s, err := beevik.NewSessionWithOptions(v.at(), &beevik.SessionOptions{TLSConfig: v.config(), Timeout: patience})
	if err != nil {
		t.Fatal(err)
	}
	query := func() error {
		r, err := s.QueryWithOptions(&beevikntp.QueryOptions{Timeout: patience})
		if err == nil && (r.Stratum != 1 || r.Validate() != nil) {
			t.Errorf("answer: %+v, %v", r, r.Validate())
		}
		return err
	}
	for range 12 { // more than the cookies of the beginning
		if err := query(); err != nil {
			t.Fatal(err)
		}
	}
	rotateAll(t, k)
	if err := query(); !errors.Is(err, beevik.ErrAuthFailedOnServer) {
		t.Fatalf("with a cookie whose key is forgotten: %v", err)
	}
	if err := s.Refresh(); err != nil {
		t.Fatal(err)
	}
	if err := query(); err != nil {
		t.Fatal(err)
	}
}

// rotateAll lets all keys of cookies be forgotten.
func rotateAll(t *testing.T, k *Keys) {
	t.Helper()
	for range keptKeys {
		if err := k.Rotate((*k.ring.Load())[0].made.Add(rotateAfter)); err != nil {
			t.Fatal(err)
		}
	}
}

func TestStrangersAreRefused(t *testing.T) {
	v := serve(t, openKeys(t), certificatetest.New(t, "authority"), here, 0, 0)
	admitted := make(chan bool, 10)
	v.Admit = func(netip.Addr) bool { return <-admitted }
	admitted <- false // of start
	v.start(t, directly)
	admitted <- false
	if _, err := v.establish(t); err == nil {
		t.Error("a stranger got keys")
	}
	if err := <-v.ends; !errors.Is(err, ErrStranger) {
		t.Errorf("a stranger: %v", err)
	}
	admitted <- true
	if _, err := v.establish(t); err != nil { // the control
		t.Error(err)
	}
}

// TestOneClientCannotHoldIt: who opens connections and says nothing is cut off at its limit, and another address is served meanwhile.
func TestOneClientCannotHoldIt(t *testing.T) {
	v := serve(t, openKeys(t), certificatetest.New(t, "authority"), here, 0, 0)
	v.start(t, directly)
	for range 2 * maxOpenOfOne {
		conn, err := net.Dial("tcp", v.at())
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
	}
	for range maxOpenOfOne {
		if err := <-v.ends; !errors.Is(err, ErrTooMany) {
			t.Errorf("one more than it may hold: %v", err)
		}
	}
	other := tls.Dialer{Config: v.config(), NetDialer: &net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 0, 9)}}}
	if s, err := Establish(t.Context(), other, v.at()); err != nil || s.Cookies() != maxCookies {
		t.Errorf("another is not served: %v", err)
	}
}

// eager is an end of a net.Pipe whose writes do not wait for the reader: two ends of TLS may write at the same time.
type eager struct {
	net.Conn
	queue chan []byte
}

func newEager(conn net.Conn) *eager {
	e := &eager{conn, make(chan []byte, 100)}
	go func() {
		for data := range e.queue {
			_, _ = conn.Write(data) // nobody reads any more, if it fails
		}
	}()
	return e
}

func (e *eager) Write(data []byte) (int, error) {
	e.queue <- slices.Clone(data)
	return len(data), nil
}

// TestWhatClientsMaySay goes through TLS with messages that are no offers, and with none.
func TestWhatClientsMaySay(t *testing.T) {
	k := openKeys(t)
	authority := certificatetest.New(t, "authority")
	made, key := authority.Leaf("time.example.org")
	now := time.Now() // the certificate is of, and not the bubble's
	for name, c := range map[string]struct {
		say  []byte
		alpn string
		want string        // of the error
		hear []byte        // the answer's beginning
		took time.Duration // at least
	}{
		"an offer":          {chronyOffer, alpn, "", []byte{0x80, 1, 0, 2, 0, 0, 0x80, 4, 0, 2, 0, 15, 0, 5, 0, 100}, 0},
		"nonsense":          {[]byte("GET / HTTP/1.1\r\n\r\n" + strings.Repeat("x", 20000)), alpn, "above 4096 bytes", refuse(badRequest), 0},
		"critical":          {[]byte{0xc0, 0, 0, 0}, alpn, "unrecognized critical record", refuse(unknownCritical), 0},
		"another protocol":  {[]byte{0x80, 1, 0, 2, 0x80, 0, 0x80, 0, 0, 0}, alpn, "has not NTPv4", []byte{0x80, 1, 0, 0, 0x80, 0, 0, 0}, 0},
		"no end":            {chronyOffer[:12], alpn, "message without its end after 12 bytes", nil, within},
		"nothing":           {nil, alpn, "message without its end after 0 bytes", nil, within},
		"another ALPN":      {nil, "http/1.1", "TLS: ", nil, 0},
		"no ALPN":           {nil, "", "does not ask for ntske/1", nil, 0},
		"no TLS whatsoever": {nil, "-", "TLS: ", nil, within},
	} {
		synctest.Test(t, func(t *testing.T) {
			v := &Server{Keys: k, Files: certificate.Files{Certificate: made, Key: key}, NTPPort: ntp.Port, Log: slog.New(slog.DiscardHandler)}
			run := &serving{Server: v, renewed: certificate.Renew(v.Files)}
			ours, theirs := net.Pipe()
			ended := make(chan error)
			begun := time.Now()
			go func() { ended <- run.serve(t.Context(), ours) }()
			config := &tls.Config{RootCAs: authority.Pool(), ServerName: "time.example.org", Time: func() time.Time { return now }}
			if c.alpn != "" {
				config.NextProtos = []string{c.alpn}
			}
			heard := make(chan []byte, 1)
			written := newEager(theirs)
			if c.alpn != "-" {
				client := tls.Client(written, config)
				go func() {
					if client.HandshakeContext(t.Context()) == nil {
						_, _ = client.Write(c.say)
					}
					answer, _ := io.ReadAll(client)
					heard <- answer
				}()
			}
			err := <-ended
			if (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
				t.Errorf("%s: %v, want %q", name, err, c.want)
			}
			if took := time.Since(begun); took < c.took || took > within+lingering {
				t.Errorf("%s: took %s", name, took)
			}
			theirs.Close()
			defer close(written.queue)
			if c.alpn != "-" {
				if answer := <-heard; !strings.HasPrefix(string(answer), string(c.hear)) {
					t.Errorf("%s: answered %x, want %x", name, answer, c.hear)
				}
			}
		})
	}
}

func TestCertificateIsRenewed(t *testing.T) {
	old, renewed := certificatetest.New(t, "old"), certificatetest.New(t, "renewed")
	v := serve(t, openKeys(t), old, here, 0, 0)
	made, key := renewed.Leaf("time.example.org", here)
	v.start(t, directly)
	if _, err := v.establish(t); err != nil {
		t.Fatal(err)
	}
	for from, to := range map[string]string{made: v.Files.Certificate, key: v.Files.Key} {
		if err := os.Rename(from, to); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := v.establish(t); err == nil {
		t.Error("the old certificate is still used")
	}
	v.authority = renewed
	if _, err := v.establish(t); err != nil {
		t.Error(err)
	}
}

// query makes one of a session's server.
func query(t *testing.T, s *Session) {
	t.Helper()
	request, err := s.Seal(header())
	if err != nil {
		t.Fatal(err)
	}
	conn, err := net.Dial("udp", s.Server)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := conn.Write(request); err != nil {
		t.Fatal(err)
	}
	if err := conn.SetReadDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	answer := make([]byte, 2048)
	n, err := conn.Read(answer)
	if err != nil {
		t.Fatal(err)
	}
	if n > len(request) {
		t.Errorf("%d bytes answer %d", n, len(request))
	}
	if err := s.Open(answer[:n]); err != nil {
		t.Fatal(err)
	}
}
