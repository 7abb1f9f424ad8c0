package chrony

import (
	"context"
	"errors"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	protocol "github.com/facebook/time/ntp/chrony"
	"github.com/google/go-cmp/cmp"

	"shekara/netctl/nstest"
	"shekara/netctl/probe"
	"shekara/netctl/probe/probetest"
	"shekara/netctl/run"
	"shekara/timesync"
	"shekara/timesync/server"
	"shekara/timesync/source"
	"shekara/timesync/timesynctest"
)

func whole(files string) timesync.Spec {
	return timesync.Spec{
		Name: "main", Agreeing: 2, MaxDistance: 250 * time.Millisecond, KeyFile: files + "/keys",
		Sources: []timesync.Source{
			{Name: "a", Address: "time.example.org:4460", NTS: true}, {Name: "b", Address: "192.0.2.1:123", Key: 5},
			{Name: "c", Address: "[2001:db8::1]:1123"}, {Name: "d", Address: "198.51.100.1:4460", NTS: true, CA: files + "/ca.pem"}, {Name: "e", Address: "198.51.100.2:4460", NTS: true, CA: files + "/ca.pem"},
		},
		Addresses: []netip.Addr{netip.MustParseAddr("10.0.0.1"), netip.MustParseAddr("2001:db8::99")},
		Clients: []timesync.Client{{System: "one", Prefixes: []netip.Prefix{netip.MustParsePrefix("10.20.0.0/16"), netip.MustParsePrefix("10.1.2.3/32")}},
			{System: "two", Prefixes: []netip.Prefix{netip.MustParsePrefix("2001:db8:5::/48"), netip.MustParsePrefix("10.20.0.0/16")}}},
		NTS: &timesync.NTS{Certificate: files + "/cert.pem", Key: files + "/key.pem"},
	}
}

func TestRender(t *testing.T) {
	spec := whole("/etc/shekara")
	text, err := Render(&spec, "/var/lib/shekara/chrony", "/run/shekara-chrony")
	if err != nil {
		t.Fatal(err)
	}
	want := `# Made by Shekara from TimeService "main". What is written here by hand is lost.
server time.example.org nts ntsport 4460 iburst minpoll 4 maxpoll 6
server 192.0.2.1 port 123 key 5 iburst minpoll 4 maxpoll 6
server 2001:db8::1 port 1123 iburst minpoll 4 maxpoll 6
ntstrustedcerts 1 /etc/shekara/ca.pem
server 198.51.100.1 nts ntsport 4460 certset 1 iburst minpoll 4 maxpoll 6
server 198.51.100.2 nts ntsport 4460 certset 1 iburst minpoll 4 maxpoll 6
minsources 2
authselectmode ignore
maxdistance 0.25
keyfile /etc/shekara/keys
bindaddress 10.0.0.1
bindaddress 2001:db8::99
allow 10.1.2.3/32
allow 10.20.0.0/16
allow 2001:db8:5::/48
ratelimit interval -5 burst 64
ntsservercert /etc/shekara/cert.pem
ntsserverkey /etc/shekara/key.pem
ntsratelimit interval -2 burst 64
driftfile /var/lib/shekara/chrony/drift
ntsdumpdir /var/lib/shekara/chrony
dumpdir /var/lib/shekara/chrony
bindcmdaddress /run/shekara-chrony/chronyd.sock
pidfile /run/shekara-chrony/chronyd.pid
cmdport 0
makestep 1 3
rtcsync
rtconutc
leapsectz right/UTC
`
	if diff := cmp.Diff(want, string(text)); diff != "" {
		t.Error(diff)
	}
	spec.Clients = nil
	if text, err := Render(&spec, "/s", "/r"); err != nil || !strings.Contains(string(text), "\nport 0\n") || strings.Contains(string(text), "allow") || strings.Contains(string(text), "ntsserver") {
		t.Errorf("with nobody to serve: %v\n%s", err, text)
	}
	probetest.Need(t, probe.Tool("chronyd"))
	file := filepath.Join(t.TempDir(), "chrony.conf")
	if err := os.WriteFile(file, []byte(want), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := run.Output(t.Context(), program, "-p", "-f", file); err != nil {
		t.Errorf("chronyd does not take it: %v", err)
	}
}

// TestRenderRefuses: each thing that chronyd cannot do is named, and all of them at once; no word of a document becomes two of the configuration.
func TestRenderRefuses(t *testing.T) {
	for want, change := range map[string]func(*timesync.Spec){
		"client one must authenticate":        func(s *timesync.Spec) { s.Clients[0].Key = 7 },
		"client two must authenticate":        func(s *timesync.Spec) { s.Clients[1].NTS = true },
		"one address of each family":          func(s *timesync.Spec) { s.Addresses = append(s.Addresses, netip.MustParseAddr("10.0.0.2")) },
		"withhold":                            func(s *timesync.Spec) { s.Withhold = true },
		`serverName "other"`:                  func(s *timesync.Spec) { s.Sources[0].ServerName = "other" },
		"sources b and c are on one host":     func(s *timesync.Spec) { s.Sources[2].Address = "192.0.2.1:124" },
		"sources a and c are on one host":     func(s *timesync.Spec) { s.Sources[2].Address = "TIME.example.org.:123" },
		"sources c and e are on one host":     func(s *timesync.Spec) { s.Sources[4].Address = "[2001:DB8:0::1]:4460" },
		"no host and port":                    func(s *timesync.Spec) { s.Sources[1].Address = "192.0.2.1" },
		`"/etc/keys\ncmdallow all" cannot be`: func(s *timesync.Spec) { s.KeyFile = "/etc/keys\ncmdallow all" },
		`"a b:123" cannot be`:                 func(s *timesync.Spec) { s.Sources[2].Address = "a b:123" },
		`"keys" is no absolute path`:          func(s *timesync.Spec) { s.KeyFile = "keys" },
	} {
		spec := whole("/etc/shekara")
		change(&spec)
		if text, err := Render(&spec, "/s", "/r"); err == nil || !strings.Contains(err.Error(), want) || text != nil {
			t.Errorf("%v, want %q", err, want)
		}
	}
	spec := whole("relative")
	spec.Withhold = true
	if _, err := Render(&spec, "/s", "/r"); err == nil || strings.Count(err.Error(), "\n") != 4 {
		t.Errorf("not all at once: %v", err)
	}
}

// folders are of chronyd's, below a short path: that of a unix socket holds 107 bytes.
func folders(t *testing.T) (state, running string) {
	t.Helper()
	dir, err := os.MkdirTemp("", "sk")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	state, running = filepath.Join(dir, "state"), filepath.Join(dir, "run")
	if err := errors.Join(os.Mkdir(state, 0o700), os.Mkdir(running, 0o700)); err != nil {
		t.Fatal(err)
	}
	return state, running
}

// onHost runs an engine where its chronyd is to be.
type onHost struct {
	*Engine
	host *nstest.H
}

func (o onHost) Run(ctx context.Context) (err error) {
	o.host.Do(func() { err = o.Engine.Run(ctx) })
	return err
}

func open(t *testing.T, host *nstest.H, spec timesync.Spec) onHost {
	state, running := folders(t)
	return onHost{New(Options{Spec: spec, State: state, Running: running, Served: &Served{}, Complain: func(err error) {
		if err != nil {
			t.Errorf("complains: %v", err)
		}
	}}), host}
}

func TestContract(t *testing.T) {
	probetest.Need(t, probe.Root, probe.Namespaces, probe.Tool("chronyd"))
	probetest.NeedTime(t, "four requests that are lost, 16 s apart")
	t.Parallel()
	host := nstest.Host(t, "edge")
	timesynctest.Contract(t, host.Do, func(spec timesync.Spec) timesynctest.Engine { return open(t, host, spec) })
}

// TestItServes: whoever is allowed is told what chronyd knows, and is counted; others are not answered.
func TestItServes(t *testing.T) {
	probetest.Need(t, probe.Root, probe.Namespaces, probe.Tool("chronyd"))
	probetest.NeedTime(t, "a burst of requests: 10 s")
	t.Parallel()
	host := nstest.Host(t, "edge")
	var upstream *timesynctest.Server
	host.Do(func() { upstream = timesynctest.Serve(t, "127.0.0.11") })
	e := open(t, host, timesync.Spec{Name: "serves", Agreeing: 1, Sources: []timesync.Source{{Name: "a", Address: upstream.Address}},
		Addresses: []netip.Addr{netip.MustParseAddr("127.0.0.1")}, Clients: []timesync.Client{{System: "near", Prefixes: []netip.Prefix{netip.MustParsePrefix("127.0.0.1/32")}}}})
	ctx, stop := context.WithTimeout(t.Context(), time.Minute)
	done := make(chan error, 1)
	go func() { done <- e.Run(ctx) }()
	ask := func() (l source.Look, err error) {
		host.Do(func() { l, err = source.Ask(t.Context(), source.Question{Address: "127.0.0.1"}) })
		return l, err
	}
	for e.Standing().State != timesync.Synchronised && ctx.Err() == nil {
		if l, err := ask(); err == nil && l.Good && e.Standing().State == timesync.Unsynchronised && l.Stratum != 3 {
			t.Errorf("before it knows the time: %+v", l)
		}
		select {
		case <-e.Changed():
		case <-time.After(time.Second):
		}
	}
	if l, err := ask(); err != nil || !l.Good || l.Stratum != 3 || l.Reference != "127.0.0.11" {
		t.Errorf("%+v, %v; %+v", l, err, e.Status())
	}
	served := e.options.Served
	for len(served.Clients()) == 0 && ctx.Err() == nil {
		time.Sleep(20 * time.Millisecond)
	}
	var requests server.Counters
	systems := []server.System{{Name: "another", Served: 1}, {Name: "near", Served: 1000}}
	served.AddTo(&requests, &systems)
	if c := served.Clients(); len(c) != 1 || c[0].Address.String() != "127.0.0.1" || c[0].System != "near" || c[0].Served == 0 || time.Since(c[0].LastSeen) > time.Minute {
		t.Errorf("clients are %+v", c)
	}
	if requests.Served == 0 || requests.Received < requests.Served || len(systems) != 2 || systems[0].Served != 1 || systems[1].Served <= 1000 || systems[1].LastSeen.IsZero() {
		t.Errorf("counted are %+v, %+v", requests, systems)
	}
	stop()
	if err := <-done; err != nil {
		t.Error(err)
	}
	if left, _ := filepath.Glob(filepath.Join(e.running, "*")); len(left) != 0 {
		t.Errorf("chronyd or we left %v", left)
	}
	if _, err := e.look(); err == nil {
		t.Error("chronyd answers after its end")
	}
}

func TestItCannotBeRun(t *testing.T) {
	state, running := folders(t)
	spec := timesync.Spec{Name: "x", Withhold: true, Addresses: []netip.Addr{netip.MustParseAddr("127.0.0.1")}, Clients: []timesync.Client{{System: "a"}}}
	e := New(Options{Spec: spec, State: state, Running: running, Complain: func(error) {}})
	if err := e.Run(t.Context()); err == nil {
		t.Error("a Spec that chronyd cannot have is run")
	}
	if _, err := os.Stat(filepath.Join(state, "chrony.conf")); err == nil {
		t.Error("and its file is there")
	}
	if s := e.Status(); s.Standing.State != timesync.Unsynchronised || s.Standing.Stratum != timesync.MaxStratum {
		t.Errorf("%+v", s)
	}
}

// TestServedIsCountedOn: chronyd counts from zero when it starts, and forgets addresses; what is told of a system never goes back.
func TestServedIsCountedOn(t *testing.T) {
	spec := timesync.Spec{Clients: []timesync.Client{{System: "agency", Prefixes: []netip.Prefix{netip.MustParsePrefix("10.1.0.0/16")}}, {System: "silent"}}}
	now := time.Date(2026, 11, 26, 12, 0, 0, 0, time.UTC)
	access := func(address string, hits, drops, ago uint32) protocol.ClientAccess {
		return protocol.ClientAccess{IPAddr: &protocol.IPAddr{IP: protocol.IPToBytes(netip.MustParseAddr(address).AsSlice()), Family: protocol.IPAddrInet4}, NTPHits: hits, NTPDrops: drops, LastNTPHitAgo: ago}
	}
	var s Served
	look := func(counts chronyCounts, clients ...protocol.ClientAccess) (server.Counters, []server.System) {
		s.add(&spec, now, counts, clients)
		var requests server.Counters
		var systems []server.System
		s.AddTo(&requests, &systems)
		return requests, systems
	}
	look(chronyCounts{10, 2, 3, 4}, access("10.1.0.1", 6, 2, 7), access("192.0.2.9", 4, 0, 1), access("10.1.0.2", 0, 0, 0))
	if c := s.Clients(); len(c) != 2 || c[0].Served != 4 || c[0].Limited != 2 || c[0].System != "agency" || c[1].System != "" || !c[0].LastSeen.Equal(now.Add(-7*time.Second)) {
		t.Errorf("clients are %+v", c)
	}
	look(chronyCounts{11, 2, 3, 4}, access("192.0.2.9", 4, 0, 1)) // 10.1.0.1 was forgotten, and is back:
	requests, systems := look(chronyCounts{12, 2, 3, 4}, access("10.1.0.1", 1, 0, 0))
	if requests.Received != 12 || requests.Served != 10 || requests.Limited != 2 || requests.NTS != 3 || requests.Interleaved != 4 {
		t.Errorf("%+v", requests)
	}
	want := []server.System{{Name: "agency", LastSeen: now, Served: 5, Limited: 2}, {Name: "silent"}}
	if diff := cmp.Diff(want, systems); diff != "" {
		t.Error(diff)
	}
	s.restart()
	if len(s.Clients()) != 0 {
		t.Error("another chronyd has the clients of the one before")
	}
	requests, systems = look(chronyCounts{3, 0, 0, 0}, access("10.1.0.1", 3, 0, 0))
	if requests.Served != 13 || systems[0].Served != 8 {
		t.Errorf("%+v, %+v", requests, systems)
	}
}
