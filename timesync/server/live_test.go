package server_test

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"shekara/netctl/nstest"
	"shekara/netctl/probe"
	"shekara/netctl/probe/probetest"
	"shekara/timesync"
	"shekara/timesync/ntp"
	"shekara/timesync/server"
)

const patience = 20 * time.Second

func standing() timesync.Standing {
	return timesync.Standing{State: timesync.Synchronised, Stratum: 2, ReferenceID: 0xC0000201, ReferenceTime: time.Now(), RootDelay: time.Millisecond, RootDispersion: time.Millisecond, At: time.Now()}
}

func specFor(addresses ...string) timesync.Spec {
	s := timesync.Spec{Clients: []timesync.Client{{System: "here", Prefixes: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8"), netip.MustParsePrefix("::1/128")}}}}
	for _, a := range addresses {
		s.Addresses = append(s.Addresses, netip.MustParseAddr(a))
	}
	return s
}

// start runs a server until the test ends.
func start(t *testing.T, s *server.Server) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() { s.Run(ctx); close(ended) }()
	t.Cleanup(func() {
		cancel()
		select {
		case <-ended:
		case <-time.After(patience):
			t.Error("Run goes on")
		}
	})
}

// ask asks once, and says whether there is an answer to that.
func ask(t *testing.T, at netip.AddrPort, wait time.Duration) bool {
	t.Helper()
	c, err := net.DialUDP("udp", nil, net.UDPAddrFromAddrPort(at))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	request := &ntp.Header{Version: 4, Mode: ntp.Client, Transmit: ntp.TimestampOf(time.Now())}
	if _, err := c.Write(request.Append(nil)); err != nil {
		return false // refused before
	}
	if err := c.SetDeadline(time.Now().Add(wait)); err != nil {
		t.Fatal(err)
	}
	buffer := make([]byte, 100)
	n, err := c.Read(buffer)
	if err != nil {
		return false
	}
	var p ntp.Packet
	if err := p.Parse(buffer[:n]); err != nil || p.Origin != request.Transmit || p.Stratum != 2 {
		t.Errorf("%+v, %v", p, err)
	}
	return true
}

// await asks until there is an answer.
func await(t *testing.T, at netip.AddrPort) {
	t.Helper()
	for deadline := time.Now().Add(patience); !ask(t, at, time.Second); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("nothing answers at %s", at)
		}
	}
}

// free is a port that nobody has at the loopback addresses.
func free(t *testing.T) uint16 {
	t.Helper()
	c, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	return c.LocalAddr().(*net.UDPAddr).AddrPort().Port()
}

// TestAddressesFollowTheSpec moves the service from one address to another, and over to IPv6.
func TestAddressesFollowTheSpec(t *testing.T) {
	port := free(t)
	s := server.New(server.Options{Standing: standing, Port: port, Sockets: 2})
	if err := s.Set(specFor("127.0.0.1")); err != nil {
		t.Fatal(err)
	}
	start(t, s)
	served := []string{"127.0.0.1", "127.0.0.2", "::1"}
	for i, address := range served {
		if err := s.Set(specFor(address)); err != nil {
			t.Fatal(err)
		}
		await(t, netip.AddrPortFrom(netip.MustParseAddr(address), port))
		if before := served[max(i-1, 0)]; before != address && ask(t, netip.AddrPortFrom(netip.MustParseAddr(before), port), 100*time.Millisecond) {
			t.Errorf("%s is still served", before)
		}
	}
	c := s.Counters()
	if c.Served < 3 || c.BytesOut != 48*c.Served || c.BytesIn != 48*c.Received || c.Unsent != 0 {
		t.Errorf("%+v", c)
	}
	if clients := s.Clients(); len(clients) == 0 || clients[0].System != "here" || clients[0].Served == 0 {
		t.Errorf("%+v", clients)
	}
}

// TestAPortThatIsTaken has somebody hold the port, who then lets go.
func TestAPortThatIsTaken(t *testing.T) {
	holder, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	defer holder.Close()
	at := holder.LocalAddr().(*net.UDPAddr).AddrPort()
	s := server.New(server.Options{Standing: standing, Port: at.Port()})
	if err := s.Set(specFor("127.0.0.1")); err != nil {
		t.Fatal(err)
	}
	start(t, s)
	for deadline := time.Now().Add(patience); len(s.Failures()) == 0; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("it is not told")
		}
	}
	if f := s.Failures(); f[0].Address != at || !strings.Contains(f[0].Err.Error(), "in use") {
		t.Errorf("%+v", f)
	}
	holder.Close()
	await(t, at)
	for deadline := time.Now().Add(patience); len(s.Failures()) > 0; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("still told: %v", s.Failures())
		}
	}
}

// TestASocketThatWasHandedOver is bound to all addresses, of one family or of both as systemd's are, and serves those of the spec.
func TestASocketThatWasHandedOver(t *testing.T) {
	for _, network := range []string{"udp4", "udp"} {
		t.Run(network, func(t *testing.T) {
			opened, err := net.ListenUDP(network, nil)
			if err != nil {
				t.Fatal(err)
			}
			defer opened.Close()
			file, err := opened.File()
			if err != nil {
				t.Fatal(err)
			}
			defer file.Close()
			port := opened.LocalAddr().(*net.UDPAddr).AddrPort().Port()
			s := server.New(server.Options{Standing: standing, Port: port, Files: []*os.File{file}})
			served := map[string][]string{"udp4": {"127.0.0.1", "127.0.0.3"}, "udp": {"127.0.0.1", "127.0.0.3", "::1"}}[network]
			if err := s.Set(specFor(served...)); err != nil {
				t.Fatal(err)
			}
			start(t, s)
			for _, address := range served {
				await(t, netip.AddrPortFrom(netip.MustParseAddr(address), port))
			}
			if ask(t, netip.AddrPortFrom(netip.MustParseAddr("127.0.0.2"), port), 100*time.Millisecond) {
				t.Error("an address is served that the spec does not have")
			}
			if len(s.Failures()) > 0 {
				t.Errorf("%v", s.Failures())
			}
		})
	}
}

// TestChronyMeasuresAgainstUs has chronyd ask as versions 3 and 4, with and without keys, in interleaved mode, and from where it is not registered.
func TestChronyMeasuresAgainstUs(t *testing.T) {
	probetest.Need(t, probe.Tool("chronyd"))
	edge, client := nstest.Host(t, "edge"), nstest.Host(t, "client")
	nstest.Link(t, edge, "eth0", []string{"192.0.2.1/24", "2001:db8::1/64"}, client, "eth0", []string{"192.0.2.2/24", "192.0.2.66/24", "192.0.2.130/24", "2001:db8::2/64"})
	keys := filepath.Join(t.TempDir(), "keys")
	write := func(text string) {
		t.Helper()
		if err := os.WriteFile(keys, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("1 AES128CMAC HEX:00112233445566778899AABBCCDDEEFF\n2 SHA1 HEX:000102030405060708090a0b0c0d0e0f10111213\n")
	s := server.New(server.Options{Standing: standing})
	spec := timesync.Spec{KeyFile: keys, Addresses: []netip.Addr{netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("2001:db8::1")}, Clients: []timesync.Client{
		{System: "open", Prefixes: []netip.Prefix{netip.MustParsePrefix("192.0.2.0/26"), netip.MustParsePrefix("2001:db8::/64")}},
		{System: "keyed", Prefixes: []netip.Prefix{netip.MustParsePrefix("192.0.2.64/26")}, Key: 1},
	}}
	if err := s.Set(spec); err != nil {
		t.Fatal(err)
	}
	running := make(chan struct{})
	ctx, cancel := context.WithCancel(t.Context())
	go func() { edge.Do(func() { s.Run(ctx) }); close(running) }()
	t.Cleanup(func() { cancel(); <-running })
	write("1 AES128 HEX:00112233445566778899AABBCCDDEEFF\n2 SHA1 HEX:000102030405060708090a0b0c0d0e0f10111213\n") // as chrony calls it

	offset := regexp.MustCompile(`System clock wrong by (-?[0-9.]+) seconds`)
	for name, c := range map[string]struct {
		from, server string
		measures     bool
		as           func(server.Client) bool
	}{
		"IPv4":                 {"192.0.2.2", "192.0.2.1", true, func(c server.Client) bool { return c.Served > 0 && c.Version == 4 && c.Key == 0 }},
		"IPv6":                 {"2001:db8::2", "2001:db8::1", true, func(c server.Client) bool { return c.Served > 0 }},
		"version 3":            {"192.0.2.2", "192.0.2.1 version 3", true, func(c server.Client) bool { return c.Version == 3 }},
		"AES-128-CMAC":         {"192.0.2.66", "192.0.2.1 key 1", true, func(c server.Client) bool { return c.Key == 1 && c.System == "keyed" }},
		"SHA1":                 {"192.0.2.2", "192.0.2.1 key 2", true, func(c server.Client) bool { return c.Key == 2 }},
		"interleaved":          {"192.0.2.2", "192.0.2.1 xleave maxsamples 6", true, func(c server.Client) bool { return c.Interleaved }},
		"without its key":      {"192.0.2.66", "192.0.2.1", false, func(c server.Client) bool { return c.Refused > 0 && c.System == "keyed" }},
		"with another's key":   {"192.0.2.66", "192.0.2.1 key 2", false, func(c server.Client) bool { return c.Refused > 0 }},
		"from where nobody is": {"192.0.2.130", "192.0.2.1", false, func(c server.Client) bool { return c.Refused > 0 && c.System == "" }},
	} {
		t.Run(name, func(t *testing.T) {
			if !strings.Contains(c.server, "maxsamples") {
				c.server += " maxsamples 2"
			}
			bind := "bindacqaddress " + c.from
			ctx, cancel := context.WithTimeout(t.Context(), patience)
			defer cancel()
			printed, err := client.Command(ctx, "chronyd", "-x", "-Q", "-t", map[bool]string{true: "18", false: "8"}[c.measures], "-f", "/dev/null",
				"server "+c.server+" iburst", bind, "keyfile "+keys, "cmdport 0", "pidfile "+filepath.Join(t.TempDir(), "pid"), "user root").CombinedOutput()
			out := string(printed)
			found := offset.FindStringSubmatch(out)
			if c.measures != (found != nil) || c.measures && err != nil {
				t.Fatalf("%v:\n%s", err, out)
			}
			if found != nil { // the hosts share their clock, and a namespace under load is slow, not wrong
				if seconds, err := strconv.ParseFloat(found[1], 64); err != nil || seconds < -1 || seconds > 1 {
					t.Errorf("the clock is wrong by %s", found[1])
				}
			}
			for _, known := range s.Clients() {
				if known.Address == netip.MustParseAddr(c.from) && c.as(known) {
					return
				}
			}
			t.Errorf("known are %s", fmt.Sprintf("%+v", s.Clients()))
		})
	}
}
