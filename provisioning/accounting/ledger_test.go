package accounting

import (
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"shekara/netctl/conntrack"
)

// counted is a connection of a flow: its destination port says which. Of the same source port it is the same connection.
func counted(port, flow uint16, to, back uint64) *conntrack.Account {
	return &conntrack.Account{Entry: conntrack.Entry{Source: netip.MustParseAddr("192.0.2.1"), Destination: netip.MustParseAddr("198.51.100.1"), Protocol: 17,
		SourcePort: port, DestinationPort: flow, Mark: 1}, ID: uint32(port), Counted: true,
		Original: conntrack.Counter{Packets: to, Bytes: 100 * to}, Reply: conntrack.Counter{Packets: back, Bytes: 1000 * back}}
}

func byPort(a *conntrack.Account) (string, bool) {
	return fmt.Sprint("flow-", a.DestinationPort), a.DestinationPort != 0
}

// carried is what a flow has, without times.
func carried(l *Ledger, flow string) Flow {
	f := l.Flow(flow)
	f.Since, f.Noticed = time.Time{}, time.Time{}
	return f
}

func want(name string, to, back, opened uint64, connections int) Flow {
	return Flow{Name: name, Totals: Totals{To: conntrack.Counter{Packets: to, Bytes: 100 * to}, Back: conntrack.Counter{Packets: back, Bytes: 1000 * back}, Opened: opened},
		Connections: connections}
}

func look(l *Ledger, list ...*conntrack.Account) {
	time.Sleep(10 * time.Second)
	l.Begin()
	for _, a := range list {
		l.Seen(a)
	}
	l.Look()
}

func same(t *testing.T, l *Ledger, list ...Flow) {
	t.Helper()
	for _, f := range list {
		if d := cmp.Diff(f, carried(l, f.Name)); d != "" {
			t.Errorf("-want +got: %s", d)
		}
	}
}

func TestEachPacketIsCountedOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := NewLedger(10)
		l.Attribute(byPort)
		look(l, counted(1, 80, 3, 2), counted(2, 80, 1, 0), counted(3, 81, 5, 5))
		same(t, l, want("flow-80", 4, 2, 2, 2), want("flow-81", 5, 5, 1, 1))
		// Nothing new, something new, and one that nobody saw alive.
		look(l, counted(1, 80, 3, 2), counted(2, 80, 7, 1))
		l.Ended(counted(4, 80, 1, 1))
		same(t, l, want("flow-80", 11, 4, 3, 2), want("flow-81", 5, 5, 1, 0))
		// A connection that the dump left out since it timed out ends when the kernel comes by.
		l.Ended(counted(3, 81, 6, 5))
		l.Ended(counted(2, 80, 8, 1))
		look(l, counted(1, 80, 3, 2))
		same(t, l, want("flow-80", 12, 4, 3, 1), want("flow-81", 6, 5, 1, 0))
		if f := l.Figures(); f.Missed != 0 || f.Unattributed != 0 || f.Connections != 1 {
			t.Errorf("%+v", f)
		}
		// An end that is told twice, and a dump that still shows the connection.
		l.Ended(counted(1, 80, 4, 2))
		l.Ended(counted(1, 80, 4, 2))
		l.Begin()
		l.Seen(counted(1, 80, 4, 2))
		l.Look()
		same(t, l, want("flow-80", 13, 4, 3, 0))
		// Another that gets the same identity.
		look(l, counted(1, 80, 1, 0))
		look(l, counted(1, 80, 5, 2))
		same(t, l, want("flow-80", 18, 6, 4, 1))
	})
}

// TestWhatIsNotCountedIsSaid: what no flow let in, what no flow is known for, what there is no room for, what ended unheard.
func TestWhatIsNotCountedIsSaid(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := NewLedger(2)
		l.Attribute(byPort)
		own, old := counted(1, 80, 9, 9), counted(2, 80, 0, 0)
		own.Mark, old.Counted = 0, false
		look(l, own, old, counted(3, 80, 1, 1), counted(4, 80, 1, 1), counted(5, 80, 1, 1), counted(6, 0, 4, 4))
		l.Ended(own)
		l.Ended(old)
		l.Ended(counted(6, 0, 4, 4))
		same(t, l, want("flow-80", 2, 2, 2, 2))
		if f := l.Figures(); f.Uncounted != 2 || f.Unattributed != 1 || f.Missed != 0 || f.Connections != 2 {
			t.Errorf("%+v", f)
		}
		l.Ended(counted(5, 80, 2, 2)) // for which there was no room
		same(t, l, want("flow-80", 4, 4, 3, 2))
		for range 19 {
			look(l, counted(3, 80, 1, 1))
		}
		if f := l.Figures(); f.Missed != 1 || f.Connections != 1 {
			t.Errorf("one is gone for three minutes: %+v", f)
		}
		// Another in the place of the one that is there, of which nothing was heard.
		look(l, counted(3, 80, 0, 1))
		same(t, l, want("flow-80", 4, 5, 4, 1))
		if f := l.Figures(); f.Missed != 2 || f.Connections != 1 {
			t.Errorf("one was replaced: %+v", f)
		}
	})
}

// TestFlowsChange: what was counted stays, what comes is another's; a flow that is gone stays until its last connection ends.
func TestFlowsChange(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := NewLedger(10)
		l.Attribute(byPort)
		look(l, counted(1, 80, 3, 2))
		l.Attribute(func(a *conntrack.Account) (string, bool) { return "other", a.DestinationPort == 80 })
		look(l, counted(1, 80, 5, 2), counted(2, 80, 1, 1))
		same(t, l, want("flow-80", 5, 2, 1, 0), want("other", 1, 1, 1, 2))
		look(l, counted(1, 80, 6, 2), counted(2, 80, 1, 1))
		same(t, l, want("flow-80", 5, 2, 1, 0), want("other", 2, 1, 1, 2))

		gone := l.Retire(func(name string) bool { return name == "other" })
		if len(gone) != 1 || gone[0].Name != "flow-80" || gone[0].To.Packets != 5 || l.Flow("flow-80").Opened != 0 {
			t.Errorf("retired: %+v", gone)
		}
		// A connection that was opened and ended under the flows before.
		l.Attribute(func(*conntrack.Account) (string, bool) { return "", false })
		l.Ended(counted(3, 80, 2, 2))
		same(t, l, want("other", 4, 3, 2, 2))
		if gone := l.Retire(func(string) bool { return false }); len(gone) != 0 {
			t.Errorf("retired while connections live: %+v", gone)
		}
		look(l, counted(1, 80, 6, 2)) // denied, and alive until its entry goes
		l.Ended(counted(1, 80, 7, 2))
		l.Ended(counted(2, 80, 1, 1))
		same(t, l, want("other", 5, 3, 2, 1))
		if gone := l.Retire(func(string) bool { return false }); len(gone) != 1 || gone[0].Name != "other" || len(l.Names()) != 0 {
			t.Errorf("retired: %+v", gone)
		}
		l.Attribute(byPort)
		look(l, counted(9, 90, 1, 1))
		same(t, l, want("flow-90", 1, 1, 1, 1))
	})
}

// world is connections as the kernel has them, which are told of by dumps and by ends, in any order that the kernel can.
type world struct {
	live    map[uint16]*conntrack.Account
	ends    []*conntrack.Account // not taken yet
	inDump  bool
	dumping []uint16           // ports that the dump has not come by yet
	lingers *conntrack.Account // ended, told, and not yet out of the table
	carried map[string]Flow
	next    uint16
	script  []byte // what is left of it

	ledger *Ledger
	store  *Store
	dir    string
}

// choose takes one of n from the script.
func (w *world) choose(n int) int {
	if len(w.script) == 0 {
		return 0
	}
	c := int(w.script[0]) % n
	w.script = w.script[1:]
	return c
}

func (w *world) flow(a *conntrack.Account, change func(*Flow)) {
	name, _ := byPort(a)
	f := w.carried[name]
	f.Name = name
	change(&f)
	w.carried[name] = f
}

// start is a daemon's.
func (w *world) start() (err error) {
	if w.ledger, w.store, err = Open(w.dir, filepath.Join(w.dir, "run"), "boot", 1000); err != nil {
		return err
	}
	w.ledger.Attribute(byPort)
	return w.store.SaveLiving(w.ledger)
}

func (w *world) takeEnds() error {
	for _, a := range w.ends {
		w.ledger.Ended(a)
		w.lingers = a
	}
	w.ends = nil
	_, err := w.store.Append(w.ledger)
	return err
}

func (w *world) begin() error {
	if w.inDump {
		return nil
	}
	time.Sleep(time.Second)
	w.lingers = nil
	err := w.takeEnds()
	w.ledger.Begin()
	w.inDump = true
	for port := range w.next {
		w.dumping = append(w.dumping, port)
	}
	return err
}

func (w *world) dump() error {
	if len(w.dumping) == 0 {
		return nil
	}
	port := w.dumping[0]
	w.dumping = w.dumping[1:]
	if a := w.live[port]; a != nil {
		w.ledger.Seen(a)
	} else if w.lingers != nil && w.lingers.SourcePort == port {
		w.ledger.Seen(w.lingers)
	}
	return nil
}

func (w *world) finish() error {
	for len(w.dumping) > 0 {
		_ = w.dump()
	}
	if !w.inDump {
		return nil
	}
	w.inDump = false
	err := w.takeEnds()
	w.ledger.Look()
	return errors.Join(err, w.store.SaveLiving(w.ledger))
}

func (w *world) open() error {
	a := counted(w.next, uint16(80+w.choose(2)), 1, 0)
	w.live[w.next] = a
	w.next++
	w.flow(a, func(f *Flow) { f.Opened, f.To = f.Opened+1, f.To.Plus(a.Original) })
	return nil
}

func (w *world) some() (*conntrack.Account, bool) {
	if len(w.live) == 0 {
		return nil, false
	}
	return w.live[slices.Sorted(maps.Keys(w.live))[w.choose(len(w.live))]], true
}

func (w *world) packets() error {
	was, any := w.some()
	if !any {
		return nil
	}
	a := *was
	to, back := uint64(w.choose(10)), uint64(w.choose(10))
	more, moreBack := conntrack.Counter{Packets: to, Bytes: 100 * to}, conntrack.Counter{Packets: back, Bytes: 1000 * back}
	a.Original, a.Reply = a.Original.Plus(more), a.Reply.Plus(moreBack)
	w.live[a.SourcePort] = &a
	w.flow(&a, func(f *Flow) { f.To, f.Back = f.To.Plus(more), f.Back.Plus(moreBack) })
	return nil
}

func (w *world) end() error {
	if a, any := w.some(); any {
		w.ends = append(w.ends, a)
		delete(w.live, a.SourcePort)
	}
	return nil
}

// kill is SIGKILL. What the kernel has told and nobody has taken is lost with the daemon: let there be nothing.
func (w *world) kill() error {
	err := errors.Join(w.takeEnds(), w.store.Close())
	w.inDump, w.dumping, w.lingers = false, nil, nil
	return errors.Join(err, w.start())
}

func (w *world) run() error {
	actions := []func() error{w.open, w.packets, w.end, w.begin, w.dump, w.dump, w.finish, w.takeEnds, w.kill,
		func() error { w.ledger.Attribute(byPort); return nil },
		func() error { return w.store.SaveTotals(w.ledger) }}
	err := w.start()
	for err == nil && len(w.script) > 0 {
		err = actions[w.choose(len(actions))]()
	}
	if err := errors.Join(err, w.finish(), w.begin(), w.finish(), w.store.Close()); err != nil {
		return err
	}
	for name, f := range w.carried {
		f.Connections = 0
		for _, a := range w.live {
			if of, _ := byPort(a); of == name {
				f.Connections++
			}
		}
		if d := cmp.Diff(f, carried(w.ledger, name)); d != "" {
			return fmt.Errorf("-want +got: %s", d)
		}
	}
	if f := w.ledger.Figures(); f.Missed != 0 || f.Unattributed != 0 || f.Uncounted != 0 || f.Connections != len(w.live) {
		return fmt.Errorf("%+v", f)
	}
	return nil
}

// TestAnyOrder: whatever the order of packets, looks, ends, writes and kills is, in the end each connection's last figures are counted exactly
// once, under its flow.
func TestAnyOrder(t *testing.T) {
	rapid.Check(t, func(r *rapid.T) {
		random := rand.NewPCG(rapid.Uint64().Draw(r, "seed"), 0) // slices of rapid's own are short and of small numbers
		script := make([]byte, rapid.IntRange(0, 300).Draw(r, "length"))
		for i := range script {
			script[i] = byte(random.Uint64())
		}
		dir, err := os.MkdirTemp(t.TempDir(), "")
		if err == nil {
			err = os.Mkdir(filepath.Join(dir, "run"), 0o700)
		}
		if err == nil {
			synctest.Test(t, func(*testing.T) {
				w := &world{live: map[uint16]*conntrack.Account{}, carried: map[string]Flow{}, next: 1, dir: dir, script: script}
				err = w.run()
			})
		}
		if err != nil {
			r.Fatal(err)
		}
	})
}
