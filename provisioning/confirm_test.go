package provisioning

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"shekara/journal"
)

// inBubble gives a box whose clocks are the bubble's.
func inBubble(t *testing.T, test func(t *testing.T, b *box)) {
	synctest.Test(t, func(t *testing.T) {
		b := newBox(t)
		booted := time.Now()
		b.boot = func() (string, time.Duration, error) { return "boot-1", time.Since(booted), nil }
		b.run()
		b.mustApply(request(site + agencies(0, 2)))
		b.mustConfirm()
		test(t, b)
		b.kill()
	})
}

func (b *box) applyWithin(within time.Duration, text string) {
	b.t.Helper()
	r := request(text)
	r.ConfirmWithin = within
	if result := b.mustApply(r); result.ConfirmBy == nil || result.RevisionToRevert == 0 {
		b.t.Errorf("no window is open: %+v", result)
	}
}

func (b *box) mustBe(id int, state RevisionState, peers ...agency) {
	b.t.Helper()
	if current, phase := b.revision(); current != id || phase != state {
		b.t.Errorf("revision %d is %s, want %d %s", current, phase, id, state)
	}
	b.mustHavePeers(peers...)
	b.mustBeAsAsked()
}

func TestMissedConfirmationReturnsAndTouchesNothingElse(t *testing.T) {
	inBubble(t, func(t *testing.T, b *box) {
		b.applyWithin(30*time.Second, agency{n: 2}.yaml()+agency{n: 1, services: "tcp/80"}.yaml())
		time.Sleep(29 * time.Second)
		synctest.Wait()
		b.mustBe(2, Unconfirmed, agency{n: 0}, agency{n: 1}, agency{n: 2})
		var steps []string
		b.onStep(func(step string) { steps = append(steps, step) })
		time.Sleep(6 * time.Second) // 5 s after the deadline
		synctest.Wait()
		b.mustBe(1, Confirmed, agency{n: 0}, agency{n: 1})
		b.onStep(nil)
		for _, step := range steps { // nobody writes it any more: the bubble is at rest

			if strings.Contains(step, "agency-0") || strings.Contains(step, "device") || strings.Contains(step, "load") {
				t.Errorf("the return touched what did not differ: %s", step)
			}
		}
		if len(steps) == 0 {
			t.Error("nothing was done")
		}
		status, err := b.Status(t.Context())
		if err != nil || len(status.Alarms) != 1 || !strings.Contains(status.Alarms[0], "revision 2 was undone") {
			t.Errorf("alarms: %q, %v", status.Alarms, err)
		}
		if b.events.count(journal.RevisionRevert) != 1 {
			t.Errorf("events: %v", b.events.types())
		}
		b.mustApply(request(agency{n: 5}.yaml())) // the next confirmed apply ends the alarm
		if status, err = b.Status(t.Context()); err != nil || len(status.Alarms) != 0 || status.Revision != 3 {
			t.Errorf("status: %+v, %v", status, err)
		}
		if history, err := b.History(t.Context()); err != nil || history[1].ID != 2 || history[1].State != Reverted {
			t.Errorf("history: %+v, %v", history, err)
		}
	})
}

func TestConfirmedInTimeStays(t *testing.T) {
	inBubble(t, func(t *testing.T, b *box) {
		b.applyWithin(30*time.Second, agency{n: 2}.yaml())
		time.Sleep(29 * time.Second)
		b.mustConfirm()
		time.Sleep(time.Hour)
		synctest.Wait()
		b.mustBe(2, Confirmed, agency{n: 0}, agency{n: 1}, agency{n: 2})
		if _, err := b.Confirm(t.Context(), journal.Actor{}); !errors.Is(err, ErrNothingToConfirm) {
			t.Errorf("confirm again: %v", err)
		}
	})
}

func TestKilledInTheWindow(t *testing.T) {
	for name, test := range map[string]struct {
		away  time.Duration
		then  int
		state RevisionState
	}{
		"back in time":                    {10 * time.Second, 2, Unconfirmed},
		"back after the deadline":         {31 * time.Second, 1, Confirmed},
		"back long after the deadline":    {time.Hour, 1, Confirmed},
		"back a moment before it is over": {29*time.Second + 999*time.Millisecond, 2, Unconfirmed},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T, b *box) {
				b.applyWithin(30*time.Second, agency{n: 2}.yaml())
				b.kill()
				time.Sleep(test.away)
				b.run()
				want := []agency{{n: 0}, {n: 1}}
				if test.then == 2 {
					want = append(want, agency{n: 2})
				}
				b.mustBe(test.then, test.state, want...)
				time.Sleep(35 * time.Second)
				synctest.Wait()
				b.mustBe(1, Confirmed, agency{n: 0}, agency{n: 1})
				if status, err := b.Status(t.Context()); err != nil || len(status.Alarms) != 1 {
					t.Errorf("alarms: %q, %v", status.Alarms, err)
				}
			})
		})
	}
}

func TestRollbackByHandEndsTheWindow(t *testing.T) {
	inBubble(t, func(t *testing.T, b *box) {
		b.applyWithin(time.Hour, agency{n: 2}.yaml())
		if _, err := b.Rollback(t.Context(), 0, journal.Actor{}); err != nil {
			t.Fatal(err)
		}
		b.mustBe(1, Confirmed, agency{n: 0}, agency{n: 1})
	})
}

func TestRollbackToAnEarlierRevision(t *testing.T) {
	b := established(t, 1)
	b.mustApply(request(agency{n: 1}.yaml()))
	b.mustApply(request(agency{n: 2}.yaml()))
	if _, err := b.Rollback(t.Context(), 1, journal.Actor{}); err != nil {
		t.Fatal(err)
	}
	b.mustBe(4, Confirmed, agency{n: 0})
	changes, err := b.Compare(t.Context(), 1, 4)
	if err != nil || len(changes) != 0 {
		t.Errorf("revisions 1 and 4 differ: %v, %v", changes, err)
	}
	if _, err := b.Rollback(t.Context(), 0, journal.Actor{}); err != nil { // the one before: 3
		t.Fatal(err)
	}
	b.mustBe(5, Confirmed, agency{n: 0}, agency{n: 1}, agency{n: 2})
	if _, err := b.Rollback(t.Context(), 77, journal.Actor{}); err == nil {
		t.Error("a revision that never was is rolled back to")
	}
}

func TestRiskyChangesOpenAWindowByThemselves(t *testing.T) {
	for name, test := range map[string]struct {
		from, to string
	}{
		"management": {"from: [192.168.100.0/24]", "from: [192.168.100.0/25]"},
		"interfaces": {"    - {name: adm0, zone: admin}\n", "    - {name: adm0, zone: admin}\n    - {name: adm1, zone: admin}\n"},
		"uplink":     {"gateways: [203.0.113.1]", "gateways: [203.0.113.2]"},
		"drift":      {"  lab: true", "  lab: true\n  drift: report"},
	} {
		t.Run(name, func(t *testing.T) {
			text := strings.Replace(site, test.from, test.to, 1)
			if text == site {
				t.Fatal("the document is as it was")
			}
			inBubble(t, func(t *testing.T, b *box) { // a slow disk takes no time there, and the return waits a second for it
				result := b.mustApply(request(text))
				if len(result.Plan.Risks) == 0 || result.ConfirmBy == nil {
					t.Errorf("no window: %+v", result)
				}
				if _, err := b.Rollback(t.Context(), 0, journal.Actor{}); err != nil {
					t.Fatal(err)
				}
				b.mustBeAsAsked()
			})
		})
	}
	inBubble(t, func(t *testing.T, b *box) {
		if result := b.mustApply(request(agency{n: 5}.yaml())); result.ConfirmBy != nil {
			t.Errorf("a plain tunnel opens a window: %v", result.Plan.Risks)
		}
	})
}

func TestWindowKeepsTimeByTheRightClock(t *testing.T) {
	boot := func(id string, uptime time.Duration) Boot {
		return func() (string, time.Duration, error) { return id, uptime, nil }
	}
	broken := func() (string, time.Duration, error) { return "", 0, errors.New("no /proc") }
	now := time.Now()
	opened := func(ago time.Duration) *window {
		at := now.Add(-ago)
		return &window{Opened: at, Deadline: at.Add(time.Minute), Length: time.Minute, Boot: "a", Uptime: 100*time.Second + time.Minute}
	}
	for name, test := range map[string]struct {
		window *window
		boot   Boot
		want   time.Duration
	}{
		"same boot":                                {opened(10 * time.Second), boot("a", 110*time.Second), 50 * time.Second},
		"same boot, wall clock a year ahead":       {opened(365 * 24 * time.Hour), boot("a", 110*time.Second), 50 * time.Second},
		"same boot, wall clock a year behind":      {opened(-365 * 24 * time.Hour), boot("a", 110*time.Second), 50 * time.Second},
		"same boot, over":                          {opened(-time.Hour), boot("a", 161*time.Second), -time.Second},
		"rebooted":                                 {opened(20 * time.Second), boot("b", 5*time.Second), 40 * time.Second},
		"rebooted, over":                           {opened(2 * time.Minute), boot("b", 5*time.Second), -time.Minute},
		"rebooted into the past: over, to be safe": {opened(-time.Hour), boot("b", 5*time.Second), 0},
		"no clock to trust: over, to be safe":      {opened(0), broken, 0},
	} {
		t.Run(name, func(t *testing.T) {
			if got := test.window.remaining(test.boot); (got - test.want).Abs() > 5*time.Second {
				t.Errorf("remaining %s, want %s", got, test.want)
			}
		})
	}
}

// The daemon is killed at each write and at each step on the host, then started again: the box then holds one of the two revisions,
// whole, and says which.
func TestKilledAtEveryPoint(t *testing.T) {
	change := agency{n: 0, services: "tcp/80"}.yaml() + agency{n: 2}.yaml()
	for at := 0; at < 200; at++ {
		reached := false
		t.Run(fmt.Sprint("point ", at), func(t *testing.T) {
			b := newBox(t)
			b.start()
			b.mustApply(request(site + agencies(0, 2)))
			b.mustConfirm()
			points := 0
			point := func(string) {
				if points++; points-1 == at {
					reached = true
					panic(killed{})
				}
			}
			b.onStep(point)
			b.store.disk = diskOf{b.store.disk, point}
			func() {
				defer func() {
					if r := recover(); r != nil {
						if _, ours := r.(killed); !ours {
							panic(r)
						}
					}
				}()
				b.mustApply(request(change))
			}()
			b.onStep(nil)
			b.reopen()
			switch current, phase := b.revision(); {
			case phase != Confirmed:
				t.Errorf("revision %d is %s after a restart", current, phase)
			case current == 1:
				b.mustBe(1, Confirmed, agency{n: 0}, agency{n: 1})
			default:
				b.mustBe(2, Confirmed, agency{n: 0}, agency{n: 1}, agency{n: 2})
			}
			b.mustApply(request(change + agency{n: 3}.yaml()))
			b.mustBeAsAsked()
		})
		if !reached {
			if at < 8 {
				t.Errorf("there are only %d points", at)
			}
			return
		}
	}
}

type killed struct{}

// diskOf tells of each write before and after it.
type diskOf struct {
	disk
	point func(string)
}

func (d diskOf) WriteFile(path string, data []byte) error {
	d.point("before " + path)
	err := d.disk.WriteFile(path, data)
	d.point("after " + path)
	return err
}

// reopen is a restart after a kill in the middle of something: the old engine's locks are not let go by itself.
func (b *box) reopen() {
	b.t.Helper()
	if err := b.store.close(); err != nil {
		b.t.Fatal(err)
	}
	b.filter.Restart()
	b.start()
}

// Each write of an apply fails in turn, done or not: the apply says so or is done, and both the box now and after a restart hold one
// of the two revisions.
func TestEveryWriteOfAnApplyFails(t *testing.T) {
	for _, persisted := range []bool{false, true} {
		for at := 0; ; at++ {
			b := newBox(t)
			b.start()
			b.mustApply(request(site + agencies(0, 2)))
			b.mustConfirm()
			d := &faultyDisk{disk: realDisk{}, at: at, persisted: persisted}
			b.store.disk = d
			_, err := b.Apply(context.Background(), request(agency{n: 2}.yaml()))
			if d.count <= at {
				b.kill()
				break
			}
			b.mustBeAsAsked()
			if current, _ := b.revision(); err != nil && current != 1 {
				t.Errorf("point %d, persisted %v: apply says %v, but revision %d is in force", at, persisted, err, current)
			}
			b.store.disk = realDisk{}
			b.kill()
			b.start()
			b.mustBeAsAsked()
			peers := len(b.peers())
			if current, phase := b.revision(); phase != Confirmed || peers != current+1 {
				t.Errorf("point %d, persisted %v: after a restart revision %d is %s with %d peers", at, persisted, current, phase, peers)
			}
			b.kill()
		}
	}
}
