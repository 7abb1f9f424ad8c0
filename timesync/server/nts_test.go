package server_test

import (
	"context"
	"crypto/tls"
	"errors"
	"log/slog"
	"net"
	"net/netip"
	"path/filepath"
	"testing"
	"time"

	"shekara/netctl/certificate"
	"shekara/netctl/certificate/certificatetest"
	"shekara/timesync/ntp"
	"shekara/timesync/nts"
	"shekara/timesync/server"
)

// TestNTS establishes keys, asks with them, and asks a server that does not know them.
func TestNTS(t *testing.T) {
	open := func(name string) *nts.Keys {
		t.Helper()
		keys, err := nts.OpenKeys(filepath.Join(t.TempDir(), name))
		if err != nil {
			t.Fatal(err)
		}
		return keys
	}
	keys, others := open("keys"), open("others")
	ports := map[*nts.Keys]uint16{keys: free(t)}
	ports[others] = free(t)
	servers := map[*nts.Keys]*server.Server{}
	for k, port := range ports {
		s := server.New(server.Options{Standing: standing, Port: port, NTS: k})
		spec := specFor("127.0.0.1")
		spec.Clients[0].NTS = true
		if err := s.Set(spec); err != nil {
			t.Fatal(err)
		}
		start(t, s)
		servers[k] = s
	}
	authority := certificatetest.New(t, "authority")
	certificateFile, keyFile := authority.Leaf("edge", "127.0.0.1")
	establishing := &nts.Server{
		Addresses: []netip.Addr{netip.MustParseAddr("127.0.0.1")}, Port: free(t), NTPPort: ports[keys], Files: certificate.Files{Certificate: certificateFile, Key: keyFile},
		Keys: keys, Admit: servers[keys].Registered, Done: func(netip.Addr, error) {}, Log: slog.New(slog.DiscardHandler),
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error)
	go func() { ended <- establishing.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	session := establish(t, authority, establishing.Port)
	exchange := func(port uint16) (request, answer []byte) {
		t.Helper()
		request, err := session.Seal((&ntp.Header{Version: 4, Mode: ntp.Client, Transmit: 42}).Append(nil))
		if err != nil {
			t.Fatal(err)
		}
		answer = make([]byte, 2048)
		for deadline := time.Now().Add(patience); ; {
			c, err := net.DialUDP("udp", nil, &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1), Port: int(port)})
			if err != nil {
				t.Fatal(err)
			}
			_ = c.SetDeadline(time.Now().Add(time.Second))
			_, _ = c.Write(request) // while it is not served yet the port is closed
			n, err := c.Read(answer)
			c.Close()
			if err == nil {
				return request, answer[:n]
			}
			if time.Now().After(deadline) {
				t.Fatalf("no answer: %v", err)
			}
		}
	}
	request, answer := exchange(ports[keys])
	if err := session.Open(answer); err != nil || len(answer) > len(request) || session.Cookies() != 8 {
		t.Errorf("%d bytes in, %d out, %d cookies, %v", len(request), len(answer), session.Cookies(), err)
	}
	var p ntp.Packet
	if err := p.Parse(answer); err != nil || p.Stratum != 2 || p.Origin != 42 {
		t.Errorf("%+v, %v", p, err)
	}
	if c := servers[keys].Clients(); len(c) != 1 || !c[0].NTS || servers[keys].Counters().NTS == 0 {
		t.Errorf("%+v", c)
	}
	request, answer = exchange(ports[others])
	if err := session.Open(answer); !errors.Is(err, nts.ErrNAK) || len(answer) > len(request) {
		t.Errorf("of unknown keys: %d bytes in, %d out, %v", len(request), len(answer), err)
	}
	if ask(t, netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), ports[keys]), 100*time.Millisecond) {
		t.Error("one without NTS is answered")
	}
}

// establish establishes keys at a port of loopback, as soon as somebody listens there.
func establish(t *testing.T, authority *certificatetest.Authority, port uint16) *nts.Session {
	t.Helper()
	dialer := tls.Dialer{Config: &tls.Config{RootCAs: authority.Pool(), ServerName: "127.0.0.1"}}
	for deadline := time.Now().Add(patience); ; time.Sleep(5 * time.Millisecond) {
		session, err := nts.Establish(t.Context(), dialer, netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), port).String())
		if err == nil {
			return session
		}
		if time.Now().After(deadline) {
			t.Fatal(err)
		}
	}
}
