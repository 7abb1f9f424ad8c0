package provisioning

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"shekara/journal"
	"shekara/netctl/journald"
)

// unitsHost is a journald that keeps what units said. It gives what the real one gives: from the cursor on with the message that stands there, or from the next if it is gone.
type unitsHost struct {
	mu    sync.Mutex
	kept  []journald.Message
	said  int
	news  chan struct{} // closed when something was said, or it broke
	fails error         // why it cannot be read
	dies  error         // with what reading ends once it has given its first message
	reads int
}

func newUnitsHost() *unitsHost { return &unitsHost{news: make(chan struct{})} }

func (h *unitsHost) change(do func()) {
	h.mu.Lock()
	defer h.mu.Unlock()
	do()
	close(h.news)
	h.news = make(chan struct{})
}

// mumble says what cannot be read.
func (h *unitsHost) mumble() {
	h.change(func() {
		h.said++
		h.kept = append(h.kept, journald.Message{Cursor: fmt.Sprintf("%08d", h.said), Time: time.Now().UTC(), Unread: errors.New("it is longer than it may be")})
	})
}

func (h *unitsHost) say(unit string, priority int, text string) {
	h.saySo(journald.Message{Time: time.Now().UTC(), Unit: unit, Identifier: "test", Priority: priority, Text: text})
}

func (h *unitsHost) saySo(m journald.Message) {
	h.change(func() {
		h.said++
		m.Cursor = fmt.Sprintf("%08d", h.said)
		h.kept = append(h.kept, m)
	})
}

func (h *unitsHost) Follow(ctx context.Context, units []string, from journald.Position, got func(journald.Message) error) error {
	h.mu.Lock()
	h.reads++
	h.mu.Unlock()
	next := from.Cursor
	for {
		h.mu.Lock()
		kept, news, fails, dies := slices.Clone(h.kept), h.news, h.fails, h.dies
		h.mu.Unlock()
		if fails != nil {
			return fails
		}
		for _, m := range kept {
			if m.Cursor < next || from.Cursor == "" && m.Time.Before(from.Since.Truncate(time.Second)) {
				continue
			}
			next = m.Cursor + "+"
			if m.Unread != nil {
				m = journald.Message{Unread: m.Unread}
			} else if !slices.Contains(units, m.Unit) {
				continue
			}
			if err := got(m); err != nil {
				return err
			}
			if dies != nil {
				return dies
			}
		}
		select {
		case <-news:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// said are the messages on record, those that are told by number as such.
func (b *box) said() (all []string) {
	for _, e := range b.events.of(journal.UnitMessage) {
		all = append(all, strings.TrimPrefix(e.Object, "unit/")+" "+string(e.Severity)+" "+e.Message)
	}
	return all
}

func whileListening(t *testing.T, test func(b *box, host *unitsHost, start, stop func())) {
	synctest.Test(t, func(t *testing.T) {
		b, host := newBox(t), newUnitsHost()
		b.open()
		b.intent.base.Units = []string{"chrony.service", "ssh.service"}
		b.options.Units = host
		var stop func()
		start := func() {
			ctx, cancel := context.WithCancel(t.Context())
			done := make(chan struct{})
			go func() {
				defer close(done)
				b.keepUnits(ctx)
			}()
			stop = func() { cancel(); <-done }
			synctest.Wait()
		}
		start()
		test(b, host, start, func() { stop() })
		stop()
	})
}

// TestUnitsAreRecorded: once, in order, with what they are, also what they say while no daemon runs; and only those that are named.
func TestUnitsAreRecorded(t *testing.T) {
	whileListening(t, func(b *box, host *unitsHost, start, stop func()) {
		host.say("ssh.service", 6, "one")
		host.say("other.service", 0, "of no interest")
		host.say("chrony.service", 4, "two")
		b.wait(2 * unitsEvery)
		first := b.events.of(journal.UnitMessage)[0]
		first.Sequence = 0
		want := journal.Event{Type: journal.UnitMessage, Severity: journal.Info, Object: "unit/ssh.service", Message: "one", Fields: map[string]string{"at": first.Fields["at"], "identifier": "test", "priority": "6"}}
		if diff := cmp.Diff(want, first); diff != "" || first.Fields["at"] == "" {
			b.t.Errorf("(-want +got):\n%s", diff)
		}
		stop()
		host.say("ssh.service", 2, "three")
		b.wait(time.Hour)
		start()
		host.say("ssh.service", 1, "four")
		b.wait(2 * unitsEvery)
		// Other documents, and back.
		b.setUnits("other.service")
		b.wait(2 * unitsEvery)
		host.say("other.service", 5, "five")
		host.say("ssh.service", 5, "nobody wants it")
		b.wait(2 * unitsEvery)
		b.setUnits()
		b.wait(2 * unitsEvery)
		host.say("other.service", 5, "nor this")
		b.wait(2 * unitsEvery)
		b.setUnits("chrony.service")
		b.wait(2 * unitsEvery)
		host.say("chrony.service", 3, "six")
		b.wait(2 * unitsEvery)
		if diff := cmp.Diff([]string{"ssh.service info one", "chrony.service warning two", "ssh.service error three", "ssh.service alert four", "other.service notice five", "chrony.service error six"}, b.said()); diff != "" {
			b.t.Errorf("(-want +got):\n%s", diff)
		}
		if n := b.events.count(journal.UnitMiss); n != 0 {
			b.t.Errorf("%d events say that something is missing", n)
		}
	})
}

func (b *box) setUnits(units ...string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.intent.base.Units = units
}

// TestUnitsAreBounded: of what one says too much there is a number, and others are told all the same. What is not told when the daemon ends is told then.
func TestUnitsAreBounded(t *testing.T) {
	whileListening(t, func(b *box, host *unitsHost, start, stop func()) {
		for range unitsShown + 1000 {
			host.say("ssh.service", 5, "again")
		}
		host.say("chrony.service", 6, "quiet")
		b.wait(unitsEvery)
		if got := b.said(); len(got) != unitsShown+1 || got[unitsShown] != "chrony.service info quiet" {
			b.t.Fatalf("%d events, the last: %s", len(got), got[len(got)-1])
		}
		b.wait(unitWindow + unitsEvery)
		if got := b.said(); len(got) != unitsShown+2 || !strings.HasPrefix(got[unitsShown+1], "ssh.service notice 1000 more messages of priority 5, from ") {
			b.t.Errorf("%d events, the last: %s", len(got), got[len(got)-1])
		}
		for range unitsShown + 5 {
			host.say("ssh.service", 3, "and again")
		}
		b.wait(unitsEvery)
		stop()
		if got := b.said(); len(got) != 2*unitsShown+3 || !strings.Contains(got[len(got)-1], "error 5 more messages of priority 3, from ") {
			b.t.Errorf("%d events, the last: %s", len(got), got[len(got)-1])
		}
		start()
		b.wait(2 * unitWindow)
		if got := b.said(); len(got) != 2*unitsShown+3 {
			b.t.Errorf("told twice: %q", got[2*unitsShown+3:])
		}
	})
}

// TestUnitsThatAreNotReadAreTold: once, and when it is over; nothing is lost, and it is not tried all the time.
func TestUnitsThatAreNotReadAreTold(t *testing.T) {
	whileListening(t, func(b *box, host *unitsHost, _, _ func()) {
		host.say("ssh.service", 6, "one")
		b.wait(2 * unitsEvery)
		// It dies, and goes on at once: nobody needs to know.
		host.change(func() { host.fails = errors.New("killed") })
		synctest.Wait()
		host.change(func() { host.fails = nil })
		host.say("ssh.service", 6, "two")
		b.wait(2 * unitsRest)
		if got := b.said(); len(got) != 2 || b.events.count(journal.UnitMiss) != 0 {
			b.t.Errorf("%q, %d say that something is missing", got, b.events.count(journal.UnitMiss))
		}
		host.change(func() { host.fails = errors.New("no journald") })
		reads := host.reads
		b.wait(time.Hour)
		host.say("ssh.service", 6, "three")
		b.wait(time.Hour)
		b.mu.Lock()
		why := b.unitsUnread
		b.mu.Unlock()
		if told := b.events.of(journal.UnitMiss); len(told) != 1 || !strings.Contains(told[0].Message, "no journald") || !strings.Contains(why, "no journald") || host.reads-reads > 130 {
			b.t.Errorf("%+v, %q, %d tries", told, why, host.reads-reads)
		}
		host.change(func() { host.fails = nil })
		b.wait(2 * unitsRestMost)
		b.mu.Lock()
		why = b.unitsUnread
		b.mu.Unlock()
		if got := b.said(); len(got) != 3 || b.events.count(journal.UnitResume) != 1 || why != "" {
			b.t.Errorf("%q, %d resumed, %q", got, b.events.count(journal.UnitResume), why)
		}
	})
}

// TestMessagesThatJournaldNoLongerHas are a gap on record.
func TestMessagesThatJournaldNoLongerHas(t *testing.T) {
	whileListening(t, func(b *box, host *unitsHost, start, stop func()) {
		host.say("ssh.service", 6, "one")
		b.wait(2 * unitsEvery)
		stop()
		b.wait(time.Hour)
		host.say("ssh.service", 6, "two, which goes")
		b.wait(time.Hour)
		host.change(func() { host.kept = nil })
		host.say("ssh.service", 6, "three")
		start()
		b.wait(2 * unitsEvery)
		miss := b.events.of(journal.UnitMiss)
		if got := b.said(); len(got) != 2 || len(miss) != 1 || miss[0].Fields["until"] <= miss[0].Fields["since"] {
			b.t.Errorf("%q, %+v", got, miss)
		}
	})
}

// TestMessagesThatCannotBeRead are told, within bounds, and what follows them is read.
func TestMessagesThatCannotBeRead(t *testing.T) {
	whileListening(t, func(b *box, host *unitsHost, start, stop func()) {
		host.say("ssh.service", 6, "one")
		host.mumble()
		host.say("ssh.service", 6, "two")
		b.wait(2 * unitsEvery)
		if got, miss := b.said(), b.events.of(journal.UnitMiss); len(got) != 2 || len(miss) != 1 || !strings.Contains(miss[0].Message, "longer than it may be") || miss[0].Fields["since"] == "" {
			b.t.Errorf("%q, %+v", got, miss)
		}
		// One that stands where reading begins anew does not hide that what was there is gone.
		stop()
		host.change(func() { host.kept = nil })
		host.mumble()
		host.say("ssh.service", 6, "three")
		start()
		b.wait(2 * unitsEvery)
		if got, miss := b.said(), b.events.of(journal.UnitMiss); len(got) != 3 || len(miss) != 3 || !strings.Contains(miss[2].Message, "not have the message any more") {
			b.t.Errorf("%q, %+v", got, miss)
		}
		b.wait(2 * unitWindow)
		for range unitsShown + 7 {
			host.mumble()
		}
		b.wait(2 * unitWindow)
		if miss := b.events.of(journal.UnitMiss); len(miss) != 3+unitsShown+1 || !strings.HasPrefix(miss[3+unitsShown].Message, "7 more messages cannot be read") || miss[3+unitsShown].Fields["since"] == "" {
			b.t.Errorf("%d, the last %+v", len(miss), miss[len(miss)-1])
		}
	})
}

// TestUnitsWaitForTheJournal: what it does not take journald keeps, and it is on record, in order and once, when it does; also after a kill.
func TestUnitsWaitForTheJournal(t *testing.T) {
	for _, how := range []string{"full", "refusing for a moment", "not answering"} {
		t.Run(how, func(t *testing.T) {
			whileListening(t, func(b *box, host *unitsHost, start, stop func()) {
				disk := &reluctant{Recorder: b.options.Journal, of: "unit."}
				stop()
				b.options.Journal = disk
				start()
				host.say("ssh.service", 6, "one")
				b.wait(2 * unitsEvery)
				switch how {
				case "full":
					disk.mood.Store(refusing)
					b.events.setHealth(journal.Health{Err: journal.ErrFull})
				case "refusing for a moment":
					disk.mood.Store(refusing)
				default:
					disk.mood.Store(losing)
				}
				for n := range unitsShown + 5 { // the last are only counted
					host.say("ssh.service", 6, fmt.Sprint(n))
				}
				b.wait(3 * unitWindow)
				if got := b.said(); len(got) != 1 {
					b.t.Fatalf("the disk took %q", got)
				}
				if how == "not answering" {
					stop() // and whatever waited in memory is gone
					disk.mood.Store(willing)
					start()
				}
				b.events.setHealth(journal.Health{})
				disk.mood.Store(willing)
				b.wait(2 * unitWindow)
				want := []string{"ssh.service info one"}
				for n := range unitsShown {
					want = append(want, fmt.Sprintf("ssh.service info %d", n))
				}
				want = append(want, "ssh.service info 5 more messages")
				got := b.said()
				got[len(got)-1], _, _ = strings.Cut(got[len(got)-1], " of priority")
				if how != "not answering" { // one more was shown in the window of the first
					want[unitsShown] = strings.Replace(want[unitsShown+1], "5", "6", 1)
					want = want[:unitsShown+1]
				}
				if diff := cmp.Diff(want, got); diff != "" {
					b.t.Errorf("(-want +got):\n%s", diff)
				}
				if n := b.events.count(journal.UnitMiss); n != 0 {
					b.t.Errorf("%d events say that something is missing", n)
				}
			})
		})
	}
}

// TestUnitsThatWereOnlyCountedOutliveAKill: the position waits for the count to be on record.
func TestUnitsThatWereOnlyCountedOutliveAKill(t *testing.T) {
	whileListening(t, func(b *box, host *unitsHost, start, stop func()) {
		disk := &reluctant{Recorder: b.options.Journal, of: "unit."}
		stop()
		b.options.Journal = disk
		start()
		for range unitsShown + 5 {
			host.say("ssh.service", 6, "again")
		}
		b.wait(unitsEvery)
		disk.mood.Store(losing)
		b.wait(2 * unitWindow) // the count is posted, and never on record
		stop()
		disk.mood.Store(willing)
		start()
		b.wait(2 * unitWindow)
		if got := b.said(); len(got) != unitsShown+5 || slices.ContainsFunc(got, func(text string) bool { return text != "ssh.service info again" }) {
			b.t.Errorf("%q", got)
		}
	})
}

// TestUnitsWithoutPosition: a first daemon begins now; one whose position cannot be read says that it does.
func TestUnitsWithoutPosition(t *testing.T) {
	whileListening(t, func(b *box, host *unitsHost, start, stop func()) {
		host.say("ssh.service", 6, "one")
		b.wait(2 * unitsEvery)
		stop()
		if err := os.WriteFile(b.unitPositionPath(), []byte("torn"), 0o600); err != nil {
			b.t.Fatal(err)
		}
		host.say("ssh.service", 6, "two")
		b.wait(time.Hour)
		start()
		host.say("ssh.service", 6, "three")
		b.wait(2 * unitsEvery)
		stop()
		start()
		b.wait(2 * unitsEvery)
		if got, miss := b.said(), b.events.of(journal.UnitMiss); !slices.Equal(got, []string{"ssh.service info one", "ssh.service info three"}) || len(miss) != 1 || !strings.Contains(miss[0].Message, "before this start") {
			b.t.Errorf("%q, %+v", got, miss)
		}
	})
}

// TestMessageThatIsGoneWhileUnitsChange is missed where its unit is still read.
func TestMessageThatIsGoneWhileUnitsChange(t *testing.T) {
	for _, c := range []struct {
		units []string
		miss  int
	}{{[]string{"other.service", "ssh.service"}, 1}, {[]string{"other.service"}, 0}} {
		whileListening(t, func(b *box, host *unitsHost, start, stop func()) {
			host.say("ssh.service", 6, "one")
			b.wait(2 * unitsEvery)
			stop()
			host.change(func() { host.kept = nil })
			host.say("other.service", 6, "two")
			b.setUnits(c.units...)
			start()
			b.wait(2 * unitsEvery)
			if got, miss := b.said(), b.events.count(journal.UnitMiss); len(got) != 2 || miss != c.miss {
				b.t.Errorf("%q, %d missed", got, miss)
			}
		})
	}
}
