package tunnels_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"shekara/tunnels"
)

// tunnel plays one tunnel for Health: each step lets time go by, counts messages and looks.
type tunnel struct {
	health tunnels.Health
	sample tunnels.Sample
}

var epoch = time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC)

func newTunnel() *tunnel {
	return &tunnel{sample: tunnels.Sample{Time: epoch, Link: true, Peer: true}}
}

const (
	initiation = 148
	response   = 92
	keepalive  = 32
	ping       = 128 // 84 bytes padded to 96, in 32 of transport message
)

// look is one step: seconds that go by, bytes that went out and came in, and words: "handshake" completes one now, "probe" sends
// one, "answer" answers it, "lost" takes the link away, "back" brings it with fresh counters, "fail" and "mend" set and clear an error.
func (n *tunnel) look(seconds int, out, in uint64, words ...string) tunnels.Status {
	s := &n.sample
	s.Time = s.Time.Add(time.Duration(seconds) * time.Second)
	s.SentBytes += out
	s.ReceivedBytes += in
	for _, w := range words {
		switch w {
		case "handshake":
			s.LastHandshake = s.Time
		case "probe":
			s.ProbeSent = s.Time
		case "answer":
			s.ProbeAnswered = s.Time
		case "lost":
			s.Link = false
		case "back":
			s.Link, s.SentBytes, s.ReceivedBytes, s.LastHandshake = true, 0, 0, time.Time{}
		case "fail":
			s.Err = errors.New("endpoint host.example does not resolve")
		case "mend":
			s.Err = nil
		default:
			panic(w)
		}
	}
	return n.health.Observe(*s)
}

// play is one story: what is done to a tunnel, and the state that is wanted at each point.
type play map[string]func(n *tunnel, want func(tunnels.Status, tunnels.State))

func (stories play) run(t *testing.T) {
	t.Helper()
	for name, story := range stories {
		t.Run(name, func(t *testing.T) {
			n := newTunnel()
			story(n, func(got tunnels.Status, want tunnels.State) {
				t.Helper()
				if got.State != want {
					t.Fatalf("after %s: %s (%s), want %s", n.sample.Time.Sub(epoch), got.State, got.Reason, want)
				}
				if got.Reason == "" || (got.Hint == "") != (want == tunnels.Idle || want == tunnels.Passing) {
					t.Errorf("%s has reason %q and hint %q", got.State, got.Reason, got.Hint)
				}
			})
		})
	}
}

func TestHealthWithoutSession(t *testing.T) {
	play{
		"configured until somebody tries": func(n *tunnel, want func(tunnels.Status, tunnels.State)) {
			want(n.look(0, 0, 0), tunnels.Configured)
			want(n.look(600, 0, 0), tunnels.Configured)
			n.look(5, initiation, 0)
			want(n.look(5, initiation, 0), tunnels.Handshaking)
		},
		"asking in vain becomes down, and stays so when WireGuard gives up": func(n *tunnel, want func(tunnels.Status, tunnels.State)) {
			n.look(0, 0, 0)
			for range 18 {
				n.look(5, initiation, 0)
			}
			want(n.health.Status(), tunnels.Handshaking)
			n.look(5, initiation, 0)
			want(n.look(5, initiation, 0), tunnels.Down)
			want(n.look(300, 0, 0), tunnels.Down)
		},
		"sent counters alone prove nothing": func(n *tunnel, want func(tunnels.Status, tunnels.State)) {
			n.look(0, 0, 0)
			for range 100 {
				if got := n.look(5, 10*initiation+100_000, 0); got.State == tunnels.Passing || got.State == tunnels.Idle {
					want(got, tunnels.Handshaking)
				}
			}
		},
	}.run(t)
}

func TestHealthWithSession(t *testing.T) {
	play{
		"keepalives keep it idle, and are no data": func(n *tunnel, want func(tunnels.Status, tunnels.State)) {
			n.look(0, 0, 0)
			n.look(5, initiation+keepalive, response, "handshake")
			want(n.look(5, 0, 0), tunnels.Idle)
			for i := range 60 { // a handshake each two minutes and a keepalive each 25 s on both sides
				if i%24 == 23 {
					n.look(5, initiation+keepalive, response, "handshake")
				}
				var bytes uint64
				if i%5 == 0 {
					bytes = keepalive
				}
				want(n.look(5, bytes, bytes), tunnels.Idle)
			}
		},
		"one ping a sample is data": func(n *tunnel, want func(tunnels.Status, tunnels.State)) {
			n.look(0, 0, 0)
			n.look(5, initiation, response, "handshake")
			n.look(5, ping, ping)
			want(n.look(5, ping, ping), tunnels.Passing)
			want(n.look(25, 0, 0), tunnels.Passing)
			want(n.look(6, 0, 0), tunnels.Idle) // the proof is over 30 s old: at once
		},
		"data one way, keepalives the other, is idle, not passing": func(n *tunnel, want func(tunnels.Status, tunnels.State)) {
			n.look(0, 0, 0)
			n.look(5, initiation, response, "handshake")
			for range 12 {
				n.look(5, 50*ping, 0)
				want(n.look(5, 50*ping, keepalive), tunnels.Idle)
			}
		},
		"data out, nothing back": func(n *tunnel, want func(tunnels.Status, tunnels.State)) {
			n.look(0, 0, 0)
			n.look(5, initiation, response, "handshake")
			want(n.look(5, 0, 0), tunnels.Idle)
			n.look(5, ping, 0)
			want(n.look(5, ping, 0), tunnels.Idle)
			n.look(5, ping, 0)
			n.look(5, ping, 0)
			want(n.look(5, ping, 0), tunnels.OneWay)
			n.look(5, ping, ping)
			want(n.look(5, ping, ping), tunnels.Passing)
		},
		"data in, nothing of ours leaves": func(n *tunnel, want func(tunnels.Status, tunnels.State)) {
			n.look(0, 0, 0)
			n.look(5, response, initiation, "handshake")
			for range 5 {
				n.look(5, 0, ping)
			}
			want(n.look(5, 0, ping), tunnels.OneWay)
		},
		"an answered probe is passing at once": func(n *tunnel, want func(tunnels.Status, tunnels.State)) {
			want(n.look(0, 0, 0), tunnels.Configured)
			want(n.look(1, initiation+ping, response+ping, "handshake", "probe", "answer"), tunnels.Passing)
		},
		"a session that ends is stale": func(n *tunnel, want func(tunnels.Status, tunnels.State)) {
			n.look(0, 0, 0)
			n.look(5, initiation, response, "handshake")
			n.look(170, 0, 0)
			want(n.health.Status(), tunnels.Idle)
			n.look(10, 0, 0)
			want(n.look(10, 0, 0), tunnels.Stale)
		},
	}.run(t)
}

func TestHealthOfWhatFails(t *testing.T) {
	play{
		"failed is prompt, and so is the way back": func(n *tunnel, want func(tunnels.Status, tunnels.State)) {
			n.look(0, 0, 0)
			n.look(5, initiation+ping, response+ping, "handshake", "probe", "answer")
			s := n.look(1, 0, 0, "fail")
			want(s, tunnels.Failed)
			if !strings.Contains(s.Reason, "host.example") {
				s.State = "without its reason"
				want(s, tunnels.Failed)
			}
			want(n.look(1, 0, 0, "mend"), tunnels.Passing)
		},
		"one look at a wrong moment changes nothing": func(n *tunnel, want func(tunnels.Status, tunnels.State)) {
			n.look(0, 0, 0)
			n.look(5, initiation, response, "handshake")
			want(n.look(5, 0, 0), tunnels.Idle)
			n.sample.Link = false
			want(n.look(5, 0, 0), tunnels.Idle)
			n.sample.Link = true
			want(n.look(5, 0, 0), tunnels.Idle)
			n.look(5, 0, 0, "lost")
			want(n.look(5, 0, 0), tunnels.Down)
		},
		"a device that is made anew begins anew": func(n *tunnel, want func(tunnels.Status, tunnels.State)) {
			n.look(0, 0, 0)
			n.look(5, initiation+1000*ping, response+1000*ping, "handshake")
			want(n.look(5, ping, ping), tunnels.Passing)
			want(n.look(5, 0, 0, "back"), tunnels.Configured)
		},
	}.run(t)
}

// TestPassingIsNeverSaidWithoutProof is promise 4, against any sequence of samples.
func TestPassingIsNeverSaidWithoutProof(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n := newTunnel()
		n.look(0, 0, 0)
		var bytesIn, bytesOut, answered time.Time
		for range rapid.IntRange(1, 60).Draw(t, "samples") {
			out := rapid.SampledFrom([]uint64{0, 0, keepalive, initiation, ping, 100 * ping}).Draw(t, "out")
			in := rapid.SampledFrom([]uint64{0, 0, keepalive, response, ping, 100 * ping}).Draw(t, "in")
			var words []string
			if rapid.IntRange(0, 4).Draw(t, "handshake") == 0 {
				words = append(words, "handshake")
			}
			if rapid.IntRange(0, 9).Draw(t, "answer") == 0 {
				words = append(words, "probe", "answer")
				answered = n.sample.Time
			}
			status := n.look(rapid.IntRange(1, 40).Draw(t, "seconds"), out, in, words...)
			now := n.sample.Time
			if len(words) > 0 && words[len(words)-1] == "answer" {
				answered = now
			}
			if in >= ping {
				bytesIn = now
			}
			if out >= ping {
				bytesOut = now
			}
			fresh := func(at time.Time) bool { return !at.IsZero() && now.Sub(at) < 30*time.Second }
			if status.State == tunnels.Passing && !fresh(answered) && !(fresh(bytesIn) && fresh(bytesOut)) {
				t.Fatalf("passing at %s without proof (%s)", now.Sub(epoch), status.Reason)
			}
		}
	})
}

func TestStuck(t *testing.T) {
	had := newTunnel()
	had.look(0, 0, 0)
	had.look(5, initiation, response, "handshake")
	for i := range 60 {
		had.look(5, initiation, 0)
		age := had.sample.Time.Sub(had.sample.LastHandshake)
		if got, want := had.health.Stuck(), age >= 210*time.Second; got != want {
			t.Fatalf("sample %d, %s after the last handshake: stuck is %v", i, age, got)
		}
	}
	had.health.Reset(had.sample.Time)
	if had.health.Stuck() {
		t.Error("stuck just after a reset")
	}
	for range 42 {
		had.look(5, initiation, 0)
	}
	if !had.health.Stuck() {
		t.Error("a reset that did not help is tried again after 210 s")
	}

	for name, play := range map[string]func(n *tunnel){
		"nothing waits":               func(n *tunnel) { n.look(5, 0, 0) },
		"the far side is heard":       func(n *tunnel) { n.look(5, initiation, initiation) },
		"the link is gone":            func(n *tunnel) { n.look(5, initiation, 0, "lost") },
		"the driver has its own woes": func(n *tunnel) { n.look(5, initiation, 0, "fail") },
	} {
		t.Run(name, func(t *testing.T) {
			n := newTunnel()
			n.look(0, 0, 0)
			n.look(5, initiation, response, "handshake")
			for range 100 {
				if play(n); n.health.Stuck() {
					t.Fatalf("stuck at %s", n.sample.Time.Sub(epoch))
				}
			}
		})
	}
	waiting := newTunnel() // no initiation leaves at all, but a probe waits: the hang that was seen in the userspace engine
	waiting.look(0, 0, 0)
	waiting.look(5, initiation, response, "handshake")
	for range 45 {
		waiting.look(5, 0, 0, "probe")
	}
	if !waiting.health.Stuck() {
		t.Error("a silent device with a waiting probe is not stuck")
	}
}

func ExampleHealth() {
	n := newTunnel()
	fmt.Println(n.look(0, 0, 0).State)
	fmt.Println(n.look(1, initiation+ping, response+ping, "handshake", "probe", "answer").State)
	fmt.Println(n.look(40, 0, 0).State)
	// Output:
	// configured
	// passing
	// idle
}
