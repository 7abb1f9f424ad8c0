package swarm

import (
	"context"
	"encoding/json"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"shekara/netctl/nstest"
)

// patience bounds waits in tests; nothing is measured by it.
const patience = 20 * time.Second

var (
	hubInner    = netip.MustParseAddr("10.20.0.10")
	memberInner = netip.MustParseAddr("10.64.0.1")
)

// pair is a hub and a member that know each other, over loopback.
func pair(t *testing.T) (swarm *Swarm, hub, member Config) {
	t.Helper()
	swarm = New()
	t.Cleanup(swarm.Close)
	loopback := netip.MustParseAddr("127.0.0.1")
	hub = Config{Name: "hub", PrivateKey: randomKey(), Local: netip.AddrPortFrom(loopback, 0), Addresses: []netip.Addr{hubInner},
		AllowedIPs: []netip.Prefix{netip.PrefixFrom(memberInner, 32)}}
	member = Config{Name: "member", PrivateKey: randomKey(), Local: netip.AddrPortFrom(loopback, 0), Addresses: []netip.Addr{memberInner},
		PresharedKey: randomKey()}
	hub.PresharedKey = member.PresharedKey
	var err error
	if hub.FarKey, err = member.PrivateKey.Public(); err != nil {
		t.Fatal(err)
	}
	if member.FarKey, err = hub.PrivateKey.Public(); err != nil {
		t.Fatal(err)
	}
	if err := swarm.Add(hub); err != nil {
		t.Fatal(err)
	}
	member.FarEndpoint = swarm.Report("hub")[0].Local
	if err := swarm.Add(member); err != nil {
		t.Fatal(err)
	}
	return swarm, hub, member
}

// await polls reports until the condition holds.
func await(t *testing.T, swarm *Swarm, name, what string, holds func(Report) bool) Report {
	t.Helper()
	for deadline := time.Now().Add(patience); ; time.Sleep(10 * time.Millisecond) {
		r := swarm.Report(name)[0]
		if holds(r) {
			return r
		}
		if time.Now().After(deadline) {
			t.Fatalf("%s: not %s after %v: %+v", name, what, patience, r)
		}
	}
}

func answers(n uint64) func(Report) bool { return func(r Report) bool { return r.Answered >= n } }

func TestStreamsAreAnsweredAndCounted(t *testing.T) {
	t.Parallel()
	swarm, _, _ := pair(t)
	// The session first: a device keeps 128 packets that wait for one, and drops what is more.
	if err := swarm.Stream("member", Stream{To: hubInner, Rate: 10}); err != nil {
		t.Fatal(err)
	}
	await(t, swarm, "member", "answered", answers(1))
	if err := swarm.StopStreams("member"); err != nil {
		t.Fatal(err)
	}
	swarm.Settle()
	for _, name := range []string{"member", "hub"} {
		if err := swarm.Reset(name); err != nil {
			t.Fatal(err)
		}
	}
	for _, port := range []uint16{0, echoPort} {
		if err := swarm.Stream("member", Stream{To: hubInner, Port: port, Rate: 200}); err != nil {
			t.Fatal(err)
		}
	}
	await(t, swarm, "member", "answered by both", func(r Report) bool {
		return r.Streams[0].Answered > 50 && r.Streams[1].Answered > 50
	})
	if err := swarm.StopStreams("member"); err != nil {
		t.Fatal(err)
	}
	swarm.Settle()
	r := swarm.Report("member")[0]
	if r.Sent != r.Answered || r.Lost != 0 || r.Pending != 0 || r.Handshakes == 0 || r.LastHandshake.IsZero() {
		t.Errorf("after streams: %+v", r)
	}
	if hub := swarm.Report("hub")[0]; hub.Echoed != r.Sent || hub.Strays != 0 || hub.Other != 0 {
		t.Errorf("the hub answered %d of %d: %+v", hub.Echoed, r.Sent, hub)
	}

	// What nobody answers is lost, not pending for ever.
	if err := swarm.Reset("member"); err != nil {
		t.Fatal(err)
	}
	if err := swarm.Stream("member", Stream{To: netip.MustParseAddr("10.20.0.99"), Rate: 50}); err != nil {
		t.Fatal(err)
	}
	await(t, swarm, "hub", "strayed at", func(r Report) bool { return r.Strays > 0 })
	await(t, swarm, "member", "losing", func(r Report) bool { return r.Lost > 0 && r.Answered == 0 })
}

func TestEveryBreakageCanBeMended(t *testing.T) {
	t.Parallel()
	// All at once, each in a pair of its own: a handshake that comes too soon after another is tried again only after 5 s.
	swarms, began := map[string]*Swarm{}, map[string]uint64{}
	for _, way := range Breakages() {
		if swarms[way.Name] != nil || way.Means == "" {
			t.Errorf("breakage %q is there twice or has no meaning", way.Name)
		}
		swarm, _, _ := pair(t)
		swarms[way.Name] = swarm
		if err := swarm.Stream("member", Stream{To: hubInner, Rate: 50}); err != nil {
			t.Fatal(err)
		}
	}
	if len(swarms) < 50 {
		t.Errorf("%d ways to break a peer, want 50", len(swarms))
	}
	for how, swarm := range swarms {
		began[how] = await(t, swarm, "member", "answered before "+how, answers(5)).SentBytes
		b := Break{How: how, Rate: 200, To: hubInner}
		if how == "spoof-source" {
			b.Source = netip.MustParseAddr("10.64.0.2")
		}
		if err := swarm.Break("member", b); err != nil {
			t.Fatalf("%s: %v", how, err)
		}
		if r := swarm.Report("member")[0]; !slices.Contains(r.Broken, how) {
			t.Errorf("%s: broken is %q", how, r.Broken)
		}
	}
	for how, swarm := range swarms {
		if how != "stop" {
			await(t, swarm, "member", "sending for "+how, func(r Report) bool { return r.SentBytes > began[how] })
		}
		if err := swarm.Mend("member"); err != nil {
			t.Fatalf("%s: %v", how, err)
		}
		began[how] = swarm.Report("member")[0].Answered
	}
	for how, swarm := range swarms {
		await(t, swarm, "member", "well again after "+how, answers(began[how]+5))
	}
}

func TestWrongKeysGetNoAnswer(t *testing.T) {
	t.Parallel()
	for _, how := range []string{"key-changed", "far-key-wrong", "psk-wrong", "psk-removed", "stop"} {
		t.Run(how, func(t *testing.T) {
			t.Parallel()
			swarm, _, _ := pair(t)
			if err := swarm.Stream("member", Stream{To: hubInner, Rate: 100}); err != nil {
				t.Fatal(err)
			}
			await(t, swarm, "member", "answered", answers(1)) // the positive control
			if err := swarm.Break("member", Break{How: how}); err != nil {
				t.Fatal(err)
			}
			broken := swarm.Report("member")[0]
			await(t, swarm, "member", "losing", func(r Report) bool { return r.Lost > broken.Lost+100 })
			quiet := swarm.Report("member")[0]
			r := await(t, swarm, "member", "losing more", func(r Report) bool { return r.Lost > quiet.Lost+50 })
			if r.Answered != quiet.Answered {
				t.Errorf("%d answers though %s", r.Answered-quiet.Answered, how)
			}
		})
	}
}

func TestSpoofedSourcesAreRefused(t *testing.T) {
	t.Parallel()
	swarm, _, _ := pair(t)
	if err := swarm.Break("member", Break{How: "spoof-source", To: hubInner, Port: echoPort, Source: memberInner}); err != nil {
		t.Fatal(err)
	}
	await(t, swarm, "hub", "answering the true source", func(r Report) bool { return r.Echoed > 0 })
	if err := swarm.Mend("member"); err != nil {
		t.Fatal(err)
	}
	// The stream shows that the tunnel carries packets while the spoofed ones do not arrive.
	if err := swarm.Stream("member", Stream{To: hubInner, Rate: 100}); err != nil {
		t.Fatal(err)
	}
	if err := swarm.Break("member", Break{How: "spoof-source", To: netip.MustParseAddr("10.20.0.99"), Source: netip.MustParseAddr("10.64.0.2")}); err != nil {
		t.Fatal(err)
	}
	await(t, swarm, "member", "answered", answers(50))
	if r := swarm.Report("hub")[0]; r.Strays != 0 {
		t.Errorf("%d spoofed packets arrived", r.Strays)
	}
}

func TestRoamingKeepsTheSession(t *testing.T) {
	t.Parallel()
	swarm, _, _ := pair(t)
	if err := swarm.Stream("member", Stream{To: hubInner, Rate: 100}); err != nil {
		t.Fatal(err)
	}
	before := await(t, swarm, "member", "answered", answers(20))
	if err := swarm.Break("member", Break{How: "roam"}); err != nil {
		t.Fatal(err)
	}
	after := await(t, swarm, "member", "answered", answers(before.Answered+20))
	if after.Local == before.Local || after.Handshakes != before.Handshakes {
		t.Errorf("roamed from %v to %v with %d handshakes more", before.Local, after.Local, after.Handshakes-before.Handshakes)
	}
}

// TestTheProgramInNamespaces runs Main as a testbed does, with a far end in another namespace.
func TestTheProgramInNamespaces(t *testing.T) {
	t.Parallel()
	owner, agency := nstest.Host(t, "owner"), nstest.Host(t, "agency")
	nstest.Link(t, owner, "eth0", []string{"192.0.2.1/24", "2001:db8::1/64"}, agency, "eth0", []string{"192.0.2.2/24", "192.0.2.3/24", "2001:db8::2/64"})
	keys := map[string]Key{"owner": randomKey(), "a": randomKey(), "b": randomKey()}
	public := func(name string) Key {
		k, err := keys[name].Public()
		if err != nil {
			t.Fatal(err)
		}
		return k
	}
	var hub, members []Config
	for i, m := range []struct{ name, local, far, inner, farInner string }{
		{"a", "192.0.2.2:5000", "192.0.2.1:5001", "10.64.0.1", "10.20.0.1"},
		{"b", "[2001:db8::2]:5000", "[2001:db8::1]:5002", "fd00:64::1", "fd00:20::1"},
	} {
		local, far := netip.MustParseAddrPort(m.local), netip.MustParseAddrPort(m.far)
		hub = append(hub, Config{Name: fmt.Sprint("hub-", i), PrivateKey: keys["owner"], Local: far, FarKey: public(m.name), Addresses: []netip.Addr{netip.MustParseAddr(m.farInner)}})
		members = append(members, Config{Name: m.name, PrivateKey: keys[m.name], Local: local, FarKey: public("owner"), FarEndpoint: far,
			Addresses: []netip.Addr{netip.MustParseAddr(m.inner)}})
	}
	ownerSide, agencySide := start(t, owner), start(t, agency)
	ownerSide.do(Command{Do: "add", Add: hub})
	agencySide.do(Command{Do: "add", Add: members})
	agencySide.do(Command{Do: "stream", Peers: []string{"a"}, Stream: &Stream{To: hub[0].Addresses[0], Rate: 100}})
	agencySide.do(Command{Do: "stream", Peers: []string{"b"}, Stream: &Stream{To: hub[1].Addresses[0], Port: echoPort, Rate: 100}})
	for deadline := time.Now().Add(patience); ; time.Sleep(10 * time.Millisecond) {
		r := agencySide.do(Command{Do: "report"}).Reports
		if r[0].Answered > 10 && r[1].Answered > 10 {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("no answers: %+v", r)
		}
	}
	agencySide.do(Command{Do: "stop"})
	agencySide.do(Command{Do: "settle"})
	for _, r := range agencySide.do(Command{Do: "report"}).Reports {
		if r.Sent != r.Answered {
			t.Errorf("%s: %d sent, %d answered", r.Name, r.Sent, r.Answered)
		}
	}
	if got := agencySide.send(Command{Do: "fly"}); !strings.Contains(got.Error, `no command "fly"`) {
		t.Errorf("answer to nonsense: %+v", got)
	}
}

// asProgram, in the environment, makes the test binary the program.
const asProgram = "SHEKARA_TEST_AS_SWARM"

func TestMain(m *testing.M) {
	if os.Getenv(asProgram) != "" {
		os.Exit(Main(context.Background(), os.Args[1:], os.Stdin, os.Stdout, os.Stderr))
	}
	os.Exit(m.Run())
}

// program is Main in a namespace, spoken to as a testbed does.
type program struct {
	t   *testing.T
	in  *json.Encoder
	out *json.Decoder
}

func start(t *testing.T, host *nstest.H) program {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	command := host.Command(context.Background(), "env", asProgram+"=1", self)
	command.Stderr = t.Output()
	in, err := command.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := command.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := command.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		in.Close() // the end of its input ends it
		if err := command.Wait(); err != nil {
			t.Errorf("swarm on %s: %v", host.Name, err)
		}
	})
	return program{t, json.NewEncoder(in), json.NewDecoder(out)}
}

func (p program) send(c Command) Answer {
	p.t.Helper()
	if err := p.in.Encode(c); err != nil {
		p.t.Fatal(err)
	}
	var answer Answer
	if err := p.out.Decode(&answer); err != nil {
		p.t.Fatal(err)
	}
	return answer
}

func (p program) do(c Command) Answer {
	p.t.Helper()
	answer := p.send(c)
	if answer.Error != "" {
		p.t.Fatalf("%s: %s", c.Do, answer.Error)
	}
	return answer
}
