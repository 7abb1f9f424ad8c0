package timesynctest

import (
	"context"
	"net"
	"sync/atomic"
	"testing"
	"time"

	"shekara/timesync"
	"shekara/timesync/ntp"
)

// patience bounds the wait for what an engine finds out by itself: chronyd asks every 16 s, and four requests must be lost.
const patience = 5 * time.Minute

// A busy machine reads its clock late, and so measures badly: the lie is larger than that.
const (
	lie   = 20 * time.Second
	badly = 2 * time.Second
)

// Engine knows how the clock stands.
type Engine interface {
	Run(context.Context) error
	Standing() timesync.Standing
	Status() timesync.Status
	Changed() <-chan struct{}
}

// Server is an NTP server of stratum 2 that tells this machine's time.
type Server struct {
	Address string
	Lie     atomic.Int64 // nanoseconds that it is ahead
	Silent  atomic.Bool
}

// Serve serves at an address of loopback on a free port, until the test ends.
func Serve(t testing.TB, ip string) *Server {
	t.Helper()
	conn, err := net.ListenPacket("udp", net.JoinHostPort(ip, "0"))
	if err != nil {
		t.Fatal(err)
	}
	s := &Server{Address: conn.LocalAddr().String()}
	done := make(chan struct{})
	t.Cleanup(func() { conn.Close(); <-done })
	go func() {
		defer close(done)
		buffer := make([]byte, 2048)
		for {
			n, from, err := conn.ReadFrom(buffer)
			if err != nil {
				return
			}
			now := time.Now().Add(time.Duration(s.Lie.Load()))
			var p ntp.Packet
			if s.Silent.Load() || p.Parse(buffer[:n]) != nil || p.Mode != ntp.Client {
				continue
			}
			h := ntp.Header{Version: p.Version, Mode: ntp.Server, Stratum: 2, Poll: p.Poll, Precision: -20, RootDelay: ntp.ShortOf(time.Millisecond),
				RootDispersion: ntp.ShortOf(time.Millisecond), ReferenceID: 0xc0000205, Reference: ntp.TimestampOf(now.Add(-time.Second)), Origin: p.Transmit,
				Receive: ntp.TimestampOf(now), Transmit: ntp.TimestampOf(now.Add(time.Microsecond))}
			_, _ = conn.WriteTo(h.Append(nil), from) // the engine sees that nothing came
		}
	}()
	return s
}

// Contract has an engine ask two honest servers and one that lies. inside runs a function where the servers are to be.
func Contract(t *testing.T, inside func(func()), open func(timesync.Spec) Engine) {
	var servers []*Server
	inside(func() {
		for _, ip := range []string{"127.0.0.11", "127.0.0.12", "127.0.0.13"} {
			servers = append(servers, Serve(t, ip))
		}
	})
	liar := servers[2]
	liar.Lie.Store(int64(lie))
	spec := timesync.Spec{Name: "contract", Agreeing: 2, MaxDistance: badly, WarnOffset: badly}
	for i, name := range []string{"a", "b", "liar"} {
		spec.Sources = append(spec.Sources, timesync.Source{Name: name, Address: servers[i].Address})
	}
	e := open(spec)
	if s := e.Standing(); s.State != timesync.Unsynchronised || s.Leap != timesync.LeapUnknown || s.Stratum != timesync.MaxStratum {
		t.Errorf("before it has asked: %+v", s)
	}
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- e.Run(ctx) }()
	defer func() {
		stop()
		if err := <-done; err != nil {
			t.Error(err)
		}
	}()

	until(t, e, "honest sources agree, and the liar is named", func(s timesync.Status) bool {
		return s.Standing.State == timesync.Synchronised && verdict(s, "liar") == timesync.Falseticker && good(s, "a") && good(s, "b") && warned(s, timesync.WarnFalseticker, "liar")
	})
	s := e.Status()
	if st := s.Standing; st.Stratum != 3 || st.Leap != timesync.LeapNone || st.Reference != "a" && st.Reference != "b" || st.Offset.Abs() > st.Bound(time.Now()) || st.Bound(time.Now()) > badly {
		t.Errorf("synchronised: %+v, bound %s", st, st.Bound(time.Now()))
	}
	for _, source := range s.Sources {
		ahead := time.Duration(0)
		if source.Name == "liar" {
			ahead = lie
		}
		if (source.Offset-ahead).Abs() > badly || source.Stratum != 2 || source.Reach == 0 || source.LastHeard.IsZero() || source.Distance <= 0 || source.ReferenceID != 0xc0000205 {
			t.Errorf("%+v", source)
		}
	}
	if !warned(s, timesync.WarnUnauthenticated, "a") || warned(s, timesync.WarnOffset, "") {
		t.Errorf("warnings are %v", s.Warnings)
	}

	until(t, e, "the drift is measured well enough for a holdover", func(s timesync.Status) bool {
		return s.Standing.State == timesync.Synchronised && s.Standing.Bound(time.Now().Add(patience)) < badly
	})
	for _, server := range servers {
		server.Silent.Store(true)
	}
	until(t, e, "sources vanish: holdover", func(s timesync.Status) bool { return s.Standing.State == timesync.Holdover })
	if s, now := e.Status(), time.Now(); s.Standing.Bound(now) <= 0 || s.Standing.Bound(now.Add(time.Hour)) < s.Standing.Bound(now)+50*time.Millisecond || s.Standing.Stratum != 3 || !warned(s, timesync.WarnFewSources, "") {
		t.Errorf("held over: %+v", s)
	}
	for _, server := range servers {
		server.Silent.Store(false)
	}
	until(t, e, "sources are back: synchronised", func(s timesync.Status) bool { return s.Standing.State == timesync.Synchronised })
}

// until waits until an engine's status is as it should be.
func until(t *testing.T, e Engine, what string, is func(timesync.Status) bool) {
	t.Helper()
	began := time.Now()
	for !is(e.Status()) {
		if time.Since(began) > patience {
			t.Fatalf("%s: never, %+v", what, e.Status())
		}
		select {
		case <-e.Changed():
		case <-time.After(time.Second): // what changes no word is not told
		}
	}
	t.Logf("%s: after %s, the bound is %s", what, time.Since(began).Round(100*time.Millisecond), e.Standing().Bound(time.Now()))
}

func verdict(s timesync.Status, name string) timesync.Verdict {
	for _, source := range s.Sources {
		if source.Name == name {
			return source.Verdict
		}
	}
	return ""
}

func good(s timesync.Status, name string) bool {
	v := verdict(s, name)
	return v == timesync.Agrees || v == timesync.Followed
}

func warned(s timesync.Status, kind timesync.WarningKind, source string) bool {
	for _, w := range s.Warnings {
		if w.Kind == kind && w.Source == source {
			return true
		}
	}
	return false
}
