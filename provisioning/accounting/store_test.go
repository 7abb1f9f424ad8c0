package accounting

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
)

func open(t *testing.T, dir, boot string) (*Ledger, *Store) {
	t.Helper()
	run := filepath.Join(dir, "run")
	if err := os.MkdirAll(run, 0o700); err != nil {
		t.Fatal(err)
	}
	l, s, err := Open(dir, run, boot, 100)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	l.Attribute(byPort)
	return l, s
}

func must(t *testing.T, errs ...error) {
	t.Helper()
	for _, err := range errs {
		if err != nil {
			t.Fatal(err)
		}
	}
}

// TestAfterAReboot what was counted of connections means nothing: others may have their identity.
func TestAfterAReboot(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		l, s := open(t, dir, "first")
		look(l, counted(1, 80, 3, 2), counted(2, 80, 1, 1))
		must(t, s.SaveTotals(l), s.SaveLiving(l))
		look(l, counted(1, 80, 9, 2))
		must(t, s.SaveLiving(l))
		l.Ended(counted(2, 80, 2, 1))
		_, err := s.Append(l)
		must(t, err)

		l, s = open(t, dir, "second")
		look(l, counted(1, 80, 5, 2))
		same(t, l, want("flow-80", 16, 5, 3, 1))
		if f := l.Figures(); f.Missed != 0 {
			t.Errorf("%+v", f)
		}
		must(t, s.SaveTotals(l), s.SaveLiving(l))
		// As a power cut leaves it: the run directory is gone, and what was counted after the totals were written.
		look(l, counted(1, 80, 6, 2))
		must(t, os.RemoveAll(filepath.Join(dir, "run")))
		l, _ = open(t, dir, "third")
		same(t, l, want("flow-80", 16, 5, 3, 0))
	})
}

// TestWithoutTheRunDirectory: totals that have what living connections carried do not count it again.
func TestWithoutTheRunDirectory(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		l, s := open(t, dir, "boot")
		look(l, counted(1, 80, 3, 2))
		must(t, s.SaveTotals(l), s.SaveLiving(l), os.RemoveAll(filepath.Join(dir, "run")))
		l, _ = open(t, dir, "boot")
		look(l, counted(1, 80, 9, 2))
		same(t, l, want("flow-80", 3, 2, 1, 1))
		look(l, counted(1, 80, 10, 2), counted(2, 80, 1, 1))
		same(t, l, want("flow-80", 5, 3, 2, 2))
	})
}

// TestTotalsAreWrittenOnlyWhenTheyChanged: a quiet box does not wear its disk out.
func TestTotalsAreWrittenOnlyWhenTheyChanged(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		l, s := open(t, dir, "boot")
		path := filepath.Join(dir, "flow-totals")
		there := func() bool { _, err := os.Stat(path); return err == nil }
		must(t, s.SaveTotals(l))
		if there() {
			t.Error("written though nothing was counted")
		}
		look(l, counted(1, 80, 3, 2))
		must(t, s.SaveTotals(l))
		if !there() {
			t.Error("not written")
		}
		must(t, os.Remove(path))
		look(l, counted(1, 80, 3, 2))
		must(t, s.SaveTotals(l))
		if there() {
			t.Error("written though nothing came")
		}
		look(l, counted(1, 80, 3, 3))
		must(t, s.SaveTotals(l))
		if !there() {
			t.Error("not written again")
		}
	})
}

// TestDamagedFilesAreSetAside: counting begins anew, and whoever wants to can look at what was there.
func TestDamagedFilesAreSetAside(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		l, s := open(t, dir, "boot")
		look(l, counted(1, 80, 3, 2))
		must(t, s.SaveTotals(l), s.SaveLiving(l))
		for _, path := range []string{filepath.Join(dir, "flow-totals"), filepath.Join(dir, "run", "flow-connections")} {
			data, err := os.ReadFile(path)
			must(t, err)
			data[len(data)-1] ^= 1
			must(t, os.WriteFile(path, data, 0o600))
		}
		l, s, err := Open(dir, filepath.Join(dir, "run"), "boot", 100)
		if err == nil || !strings.Contains(err.Error(), "flow-totals.damaged") || strings.Count(err.Error(), "cannot be read") != 2 {
			t.Errorf("error is %v", err)
		}
		if len(l.Names()) != 0 {
			t.Errorf("there are %v", l.Names())
		}
		must(t, s.SaveLiving(l))
		if _, err := os.Stat(filepath.Join(dir, "flow-totals.damaged")); err != nil {
			t.Error(err)
		}
		_, _ = open(t, dir, "boot")
	})
}

// TestTornEnds: a daemon that is killed while it writes what ended leaves a part of it.
func TestTornEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		l, s := open(t, dir, "boot")
		path := filepath.Join(dir, "run", "flow-connections")
		look(l, counted(1, 80, 3, 2), counted(2, 80, 1, 1), counted(3, 80, 1, 1))
		must(t, s.SaveLiving(l))
		var sizes []int
		for _, port := range []uint16{1, 2} {
			data, err := os.ReadFile(path)
			must(t, err)
			sizes = append(sizes, len(data))
			l.Ended(counted(port, 80, 10, 10))
			_, err = s.Append(l)
			must(t, err)
		}
		data, err := os.ReadFile(path)
		must(t, err)
		for n := range data {
			s, err := decode(data[:n])
			if (n < sizes[0]) != (err != nil) {
				t.Fatalf("%d bytes of %d: %v", n, len(data), err)
			}
			if err == nil && (len(s.connections) != 3 || len(s.ends) != map[bool]int{true: 0, false: 1}[n < sizes[1]]) {
				t.Fatalf("%d bytes of %d: %d connections, %d ends", n, len(data), len(s.connections), len(s.ends))
			}
		}
	})
}

func TestEncodeAndDecode(t *testing.T) {
	l := NewLedger(100_000)
	l.Attribute(byPort)
	l.Begin()
	const many = 20_000 // more than a frame holds
	for i := range uint16(many) {
		l.Seen(counted(i, i, uint64(i), 1<<40))
	}
	l.Look()
	l.Retire(func(name string) bool { return false }) // none: connections live
	l.figures.Missed, l.figures.Unattributed = 3, 4
	data := l.encode(nil, "boot", true)
	t.Logf("%d connections and flows take %d bytes", many, len(data))
	s, err := decode(data)
	must(t, err)
	again := NewLedger(100_000)
	again.restore(s)
	if s.boot != "boot" || len(again.live) != many-1 || again.figures != (Figures{Missed: 3, Unattributed: 4}) {
		t.Errorf("boot %q, %d connections, %+v", s.boot, len(again.live), again.figures)
	}
	for i := uint16(1); i < many; i++ {
		a := counted(i, i, uint64(i), 1<<40)
		name, _ := byPort(a)
		c := again.live[a.Key()]
		if c.to != a.Original || c.back != a.Reply || again.flows[c.flow].Name != name {
			t.Fatalf("connection %d is %+v of %s", i, c, again.flows[c.flow].Name)
		}
		same(t, again, want(name, uint64(i), 1<<40, 1, 0))
	}
	if d := cmp.Diff(l.Flow("flow-7").Since.Truncate(time.Second), again.Flow("flow-7").Since); d != "" {
		t.Error(d)
	}
}

func FuzzDecode(f *testing.F) {
	l := NewLedger(10)
	l.Attribute(byPort)
	l.Begin()
	l.Seen(counted(1, 80, 3, 2))
	l.Look()
	whole := l.encode(nil, "boot", true)
	f.Add(whole)
	f.Add(l.encode(nil, "boot", false))
	ends := frame(nil, 'e')
	f.Add(append(bytes.Clone(whole), seal(appendEnd(ends, end{key: 1, flow: "flow-80"}), 0)...))
	f.Add([]byte(format))
	f.Fuzz(func(t *testing.T, data []byte) {
		// Sums that are right, so that what they protect is read too.
		for rest := data[min(len(data), len(format)):]; len(rest) >= frameHead; {
			length := int(rest[0]) | int(rest[1])<<8
			if rest[2] != 0 || rest[3] != 0 || length > len(rest)-frameHead {
				break
			}
			seal(rest[:frameHead+length], 0)
			rest = rest[frameHead+length:]
		}
		s, err := decode(data)
		if (s == nil) != (err != nil) {
			t.Fatalf("%v, %v", s, err)
		}
		if err != nil {
			return
		}
		l := NewLedger(100)
		l.restore(s)
		if held := 0; len(l.live) > 0 {
			for _, f := range l.flows {
				held += f.held
			}
			if held != len(l.live) {
				t.Errorf("%d connections, flows hold %d", len(l.live), held)
			}
		}
		if _, err := decode(l.encode(nil, "boot", true)); err != nil {
			t.Error(err)
		}
	})
}
