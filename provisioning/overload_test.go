package provisioning

import (
	"context"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"shekara/journal"
	"shekara/netctl"
)

// slowHost takes its time to be looked at.
type slowHost struct {
	Network
	takes chan time.Duration // of the next look
}

func (h slowHost) Observe(ctx context.Context, keys []string) (netctl.State, error) {
	select {
	case takes := <-h.takes:
		time.Sleep(takes)
	default:
	}
	return h.Network.Observe(ctx, keys)
}

func (b *box) overloadEvents() (all []journal.Event) {
	for _, event := range append(b.events.of(journal.DaemonOverload), b.events.of(journal.DaemonRecover)...) {
		event.Sequence = 0
		all = append(all, event)
	}
	return all
}

func (b *box) overloadAlarm() (alarm string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.overloaded
}

// TestOverloadIsToldOnce: one event when the daemon does not keep up, whatever comes besides, and one with all counts when it has kept up for a minute.
func TestOverloadIsToldOnce(t *testing.T) {
	whileCounting(t, func(b *box, table *counter) {
		b.wait(time.Minute)
		if got := b.overloadEvents(); len(got) > 0 || b.overloadAlarm() != "" {
			b.t.Fatalf("nothing was amiss: %+v, %q", got, b.overloadAlarm())
		}
		lose := func() {
			table.mu.Lock()
			table.lost = true
			table.mu.Unlock()
			b.wait(2 * overloadEvery)
			table.mu.Lock()
			table.lost = false
			table.mu.Unlock()
		}
		began := time.Now()
		lose()
		got := b.overloadEvents()
		if len(got) != 1 || got[0].Type != journal.DaemonOverload || got[0].Fields["lostConnections"] == "" || len(got[0].Fields) != 1 || b.overloadAlarm() == "" {
			b.t.Fatalf("%+v, %q", got, b.overloadAlarm())
		}
		b.wait(overloadRest / 2)
		b.events.setHealth(journal.Health{Slow: 3, Waiting: queueMost + 1, Missed: 7})
		b.wait(3 * overloadEvery)
		b.events.setHealth(journal.Health{Slow: 3, Missed: 7})
		b.wait(overloadRest / 2)
		if got := b.overloadEvents(); len(got) != 1 {
			b.t.Fatalf("%+v", got)
		}
		b.wait(overloadRest)
		got = b.overloadEvents()
		if len(got) != 2 || b.overloadAlarm() != "" {
			b.t.Fatalf("%+v, %q", got, b.overloadAlarm())
		}
		since, err := time.Parse(time.RFC3339Nano, got[1].Fields["since"])
		until, err2 := time.Parse(time.RFC3339Nano, got[1].Fields["until"])
		if err != nil || err2 != nil || since.Sub(began) > 2*overloadEvery || until.Sub(since) < overloadRest/2 || until.Sub(since) > overloadRest {
			b.t.Errorf("from %s to %s", since, until)
		}
		for name, want := range map[string]string{"slowWrites": "3", "crowdedSeconds": "3", "lostEvents": "7", "lateTurns": ""} {
			if got[1].Fields[name] != want {
				b.t.Errorf("%s is %q, want %q", name, got[1].Fields[name], want)
			}
		}
	})
}

// TestNoOverloadOfADiskThatTakesNothing: the journal tells of that itself.
func TestNoOverloadOfADiskThatTakesNothing(t *testing.T) {
	inBubble(t, func(t *testing.T, b *box) {
		b.wait(2 * overloadEvery)
		b.events.setHealth(journal.Health{Err: journal.ErrFull, Waiting: 5 * queueMost, Missed: 1000})
		b.wait(10 * overloadEvery)
		b.events.setHealth(journal.Health{Missed: 1000})
		b.wait(10 * overloadEvery)
		if got := b.overloadEvents(); len(got) > 0 {
			t.Errorf("%+v", got)
		}
	})
}

// TestALoopThatFallsBehind is told while its turn goes on.
func TestALoopThatFallsBehind(t *testing.T) {
	inBubble(t, func(t *testing.T, b *box) {
		b.kill()
		b.open()
		host := slowHost{b.options.Network, make(chan time.Duration, 1)}
		b.options.Network = host
		b.runOpened()
		b.wait(time.Minute)
		host.takes <- 10 * turnLong
		b.wait(lookEvery + turnLong + 2*overloadEvery)
		got := b.overloadEvents()
		if len(got) != 1 {
			t.Fatalf("%+v", got)
		}
		if diff := cmp.Diff(map[string]string{"lateTurns": "1"}, got[0].Fields); diff != "" {
			t.Errorf("(-want +got):\n%s", diff)
		}
		b.wait(10*turnLong + overloadRest)
		if got := b.overloadEvents(); len(got) != 2 || got[1].Fields["lateTurns"] != "1" {
			t.Errorf("%+v", got)
		}
	})
}
