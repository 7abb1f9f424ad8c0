package provisioning

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"shekara/journal"
	"shekara/netctl/journald"
)

// sums are what is said of those that are no events, with the times in it.
func (b *box) sums() (all []journal.Event) {
	return slices.DeleteFunc(b.events.of(journal.UnitMessage), func(e journal.Event) bool { return e.Fields["suppressed"] == "" })
}

// TestUnitsAreBoundedByWhenTheyWereSaid: of hours for which nobody read each minute is told as if somebody had. A clock that was set back ends a minute too.
func TestUnitsAreBoundedByWhenTheyWereSaid(t *testing.T) {
	whileListening(t, func(b *box, host *unitsHost, start, stop func()) {
		host.say("chrony.service", 6, "reading goes on from here")
		b.wait(2 * unitsEvery)
		stop()
		const minutes, each = 9, 40
		begin := time.Now().UTC()
		for m := range minutes {
			for n := range each {
				host.say("ssh.service", 6, fmt.Sprint(m, ".", n))
				b.wait(time.Second)
			}
			b.wait(unitWindow - each*time.Second)
		}
		b.wait(5 * time.Hour)
		back := begin.Add(-time.Hour)
		for range each {
			host.saySo(journald.Message{Time: back, Unit: "ssh.service", Priority: 6, Text: "set back"})
		}
		start()
		b.wait(2 * unitWindow)
		sums := b.sums()
		if got := b.said(); len(sums) != minutes+1 || len(got) != 1+(minutes+1)*(unitsShown+1) {
			b.t.Fatalf("%d events, %d sums: %+v", len(got), len(sums), sums[max(0, len(sums)-2):])
		}
		for m, sum := range sums[:minutes] {
			since, until := begin.Add(time.Duration(m)*unitWindow+unitsShown*time.Second), begin.Add(time.Duration(m)*unitWindow+(each-1)*time.Second)
			want := map[string]string{"suppressed": "10", "priority": "6", "since": since.Format(time.RFC3339Nano), "until": until.Format(time.RFC3339Nano)}
			if diff := cmp.Diff(want, sum.Fields); diff != "" || sum.Message != "10 more messages of priority 6, from "+want["since"]+" to "+want["until"] {
				b.t.Errorf("%s (-want +got):\n%s", sum.Message, diff)
			}
		}
		if got := sums[minutes].Fields; got["since"] != back.Format(time.RFC3339Nano) || got["suppressed"] != "10" {
			b.t.Errorf("after the clock was set back: %v", got)
		}
	})
}

// TestUnitThatSaysMuchHidesOnlyWhatIsLikeIt: what is graver is told, and what systemd says of it, even with the same priority and of the same unit.
func TestUnitThatSaysMuchHidesOnlyWhatIsLikeIt(t *testing.T) {
	whileListening(t, func(b *box, host *unitsHost, start, stop func()) {
		for range 2 * unitsShown {
			host.say("ssh.service", 6, "refused")
		}
		host.say("ssh.service", 6, "the same")
		host.say("ssh.service", 5, "less grave, of its own")
		host.say("ssh.service", 2, "grave")
		for range unitsShown + 3 {
			host.saySo(journald.Message{Time: time.Now().UTC(), Unit: "ssh.service", Manager: true, Priority: 6, Text: "Started."})
		}
		b.wait(unitsEvery)
		told := func(text string) bool {
			return slices.ContainsFunc(b.said(), func(s string) bool { return strings.HasSuffix(s, " "+text) })
		}
		if !told("less grave, of its own") || !told("grave") || !told("Started.") || told("the same") {
			b.t.Errorf("%q", b.said())
		}
		b.wait(2 * unitWindow)
		sums := b.sums()
		if len(sums) != 2 || sums[0].Fields["suppressed"] != fmt.Sprint(unitsShown+1) || sums[0].Fields["manager"] != "" ||
			sums[1].Fields["manager"] != "true" || !strings.HasPrefix(sums[1].Message, "3 more messages of systemd about it") {
			b.t.Errorf("%+v", sums)
		}
	})
}

// TestUnitsThatNeverRest do not keep the position where it is, and a daemon that is killed repeats no more than a minute.
func TestUnitsThatNeverRest(t *testing.T) {
	whileListening(t, func(b *box, host *unitsHost, start, stop func()) {
		last, moved := "", 0
		for n := range 600 { // the minute of the one begins half a minute after that of the other
			for range 2 {
				host.say("ssh.service", 6, "again")
				if n >= 30 {
					host.say("chrony.service", 6, "again")
				}
			}
			b.wait(time.Second)
			if data, err := os.ReadFile(b.unitPositionPath()); err == nil && n > 90 && string(data) != last {
				last, moved = string(data), moved+1
			}
		}
		if moved < 8 {
			b.t.Errorf("in nine minutes the position moved %d times", moved)
		}
		stop()
		told := 0
		for _, e := range b.events.of(journal.UnitMessage) {
			more := 1
			if s := e.Fields["suppressed"]; s != "" {
				if _, err := fmt.Sscan(s, &more); err != nil {
					b.t.Fatal(err)
				}
			}
			told += more
		}
		if told != 2*(600+570) {
			b.t.Errorf("%d of %d messages are told or counted", told, 2*(600+570))
		}
	})
}

// TestUnitIsBoundedByTheHour: what goes on for hours is told by number, and begins anew with the next.
func TestUnitIsBoundedByTheHour(t *testing.T) {
	whileListening(t, func(b *box, host *unitsHost, start, stop func()) {
		shown := func() int { return len(b.said()) - len(b.sums()) }
		for range 59 {
			for range unitsShown {
				host.say("ssh.service", 6, "again")
			}
			b.wait(unitWindow)
		}
		if n := shown(); n != unitsInSpell {
			b.t.Errorf("%d are told one by one in an hour", n)
		}
		host.say("ssh.service", 3, "grave")
		b.wait(2 * unitWindow)
		host.say("ssh.service", 6, "the next hour")
		b.wait(unitsEvery)
		if n := shown(); n != unitsInSpell+2 {
			b.t.Errorf("%q", b.said()[len(b.said())-3:])
		}
	})
}

// TestReaderThatOnlyRepeatsIsTold: what is on record already shows no more than that journald has it.
func TestReaderThatOnlyRepeatsIsTold(t *testing.T) {
	whileListening(t, func(b *box, host *unitsHost, start, stop func()) {
		host.say("ssh.service", 6, "one")
		b.wait(2 * unitsEvery)
		host.change(func() { host.dies = errors.New("killed") })
		stop()
		start()
		b.wait(10 * unitWindow)
		if n := b.events.count(journal.UnitMiss); n != 1 {
			b.t.Errorf("told %d times that nothing is read", n)
		}
		host.change(func() { host.dies = nil })
		host.say("ssh.service", 6, "two")
		b.wait(2 * unitsRestMost)
		if got, n := b.said(), b.events.count(journal.UnitResume); len(got) != 2 || n != 1 {
			b.t.Errorf("%q, resumed %d times", got, n)
		}
	})
}
