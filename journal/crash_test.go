package journal

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"shekara/netctl/durable"
)

var errDisk = errors.New("disk fault")

// faulty asks at before each step that touches the disk: whether the step is done, and what is answered.
type faulty struct {
	segment
	at func(point string) (do bool, answer error)
}

func (f *faulty) step(point string, do func() error) error {
	done, answer := f.at(point)
	if done {
		if err := do(); err != nil {
			return err
		}
	}
	return answer
}

func (f *faulty) Append(p []byte) error {
	return f.step("append", func() error { return f.segment.Append(p) })
}
func (f *faulty) Sync() error { return f.step("sync", f.segment.Sync) }
func (f *faulty) Truncate(n int64) error {
	return f.step("truncate", func() error { return f.segment.Truncate(n) })
}

// TestEveryCommitPoint fails each step of a run of appends in turn, done or not, for want of room or for another reason, and demands: what was acknowledged is there, each
// once, without a gap; the journal itself goes on without being opened again; and so does one opened afresh.
func TestEveryCommitPoint(t *testing.T) {
	const appends = 6
	for name, answer := range map[string]error{"fault": errDisk, "no room": noRoom(t)} {
		for _, persisted := range []bool{false, true} {
			for point := 0; ; point++ {
				reached := false
				t.Run(fmt.Sprintf("%s, point %d, persisted %v", name, point, persisted), func(t *testing.T) {
					synctest.Test(t, func(t *testing.T) { reached = failAt(t, point, persisted, answer, appends) })
				})
				if !reached {
					break
				}
			}
		}
	}
}

func failAt(t *testing.T, point int, persisted bool, answer error, appends int) (reached bool) {
	dir, step, opened := t.TempDir(), 0, false
	costs := false
	at := func(string) (bool, error) {
		if step++; step-1 == point {
			reached, costs = true, opened // a fault that Open meets costs nothing: the first append tries again
			return persisted, answer
		}
		return true, nil
	}
	real := realDisk()
	around := func(do func(string) error) func(string) error {
		return func(path string) error {
			done, answer := at("reserve")
			if done {
				if err := do(path); err != nil {
					return err
				}
			}
			return answer
		}
	}
	j, err := open(dir, signer(t), 300, disk{reserve: around(real.reserve), remove: around(real.remove), create: func(path string) (segment, error) { // 300: rotation is among the points
		done, answer := at("create")
		if answer != nil {
			if done {
				if s, err := openSegment(path); err == nil {
					_ = s.Close()
				}
			}
			return nil, answer
		}
		s, err := openSegment(path)
		return &faulty{segment: s, at: at}, err
	}})
	if err != nil {
		t.Fatal(err)
	}
	opened = true
	acknowledged := appendAll(t, j, answer, appends, &costs)
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
	again := mustOpen(t, dir)
	acknowledged = append(acknowledged, mustAppend(t, again, started(99)).Object)
	var kept []string
	for _, name := range objects(t, again) {
		if strings.HasPrefix(name, "daemon/") {
			kept = append(kept, name)
		}
	}
	// A record that was answered with an error may be there or not: it was undecided until the file was opened again.
	if strings.Join(subsequence(acknowledged, kept), " ") != strings.Join(acknowledged, " ") {
		t.Errorf("opened again, the journal has %v, acknowledged were %v", kept, acknowledged)
	}
	if got := verified(t, dir); !got.Whole() {
		t.Errorf("it is not whole: %+v", got.Findings)
	}
	return reached
}

// appendAll appends, and gives the objects of what was acknowledged. costs says whether a fault was met since the journal was opened.
func appendAll(t *testing.T, j *Journal, answer error, appends int, costs *bool) (acknowledged []string) {
	for n := range appends {
		event := started(n)
		event.Organisation = "all" // whose links are verified at the end
		e, err := j.Append(context.Background(), event)
		switch {
		case err == nil:
			acknowledged = append(acknowledged, e.Object)
		case !errors.Is(err, answer) && !errors.Is(err, ErrFull):
			t.Fatal(err)
		case errors.Is(err, ErrFull): // who knows that a disk is full does not ask it each time
			time.Sleep(2 * retryEvery)
		}
	}
	costly := *costs
	if durable.Full(answer) { // met by Open it is known to the first append, met by what is said of the first time it is not the append's
		costly = len(acknowledged) < appends
	}
	if want := map[bool]int{true: appends - 1, false: appends}[costly]; len(acknowledged) != want {
		t.Errorf("%d of %d appends were taken: one fault costs one append", len(acknowledged), appends)
	}
	var got []string
	for _, name := range objects(t, j) {
		if name != "journal" {
			got = append(got, name)
		}
	}
	if strings.Join(got, " ") != strings.Join(acknowledged, " ") {
		t.Errorf("the journal has %v, acknowledged were %v", got, acknowledged)
	}
	// A fault of the last append has no later one to tell of it.
	missed := len(all(t, j, JournalMiss))
	if len(acknowledged) < appends && acknowledged[len(acknowledged)-1] == started(appends-1).Object && missed != 1 {
		t.Errorf("the journal tells %d times of what it could not write", missed)
	}
	return acknowledged
}

func subsequence(want, in []string) (found []string) {
	for _, name := range in {
		if len(found) < len(want) && want[len(found)] == name {
			found = append(found, name)
		}
	}
	return found
}

const childVariable = "SHEKARA_JOURNAL_CHILD"

// TestKilledWriterLosesNothing kills a writing child again and again: what it printed was acknowledged and must be there.
func TestKilledWriterLosesNothing(t *testing.T) {
	if dir := os.Getenv(childVariable); dir != "" {
		writeUntilKilled(t, dir)
		return
	}
	rounds := 15
	if n, err := strconv.Atoi(os.Getenv("SHEKARA_KILLS")); err == nil {
		rounds = n // make soak: 500
	}
	dir := t.TempDir()
	acknowledged := map[uint64]string{}
	for range rounds {
		child := exec.Command(os.Args[0], "-test.run=^TestKilledWriterLosesNothing$")
		child.Env = append(os.Environ(), childVariable+"="+dir)
		out, err := child.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := child.Start(); err != nil {
			t.Fatal(err)
		}
		lines := bufio.NewScanner(out)
		last := 20 + rand.IntN(60)
		for n := 0; lines.Scan(); n++ {
			sequence, object, _ := strings.Cut(lines.Text(), " ")
			s, err := strconv.ParseUint(sequence, 10, 64)
			if err != nil {
				t.Fatalf("child says %q", lines.Text())
			}
			if before, twice := acknowledged[s]; twice {
				t.Fatalf("sequence %d was given to %s and to %s", s, before, object)
			}
			acknowledged[s] = object
			if n == last { // and at any moment of what it does then: a write and its sync take some of these
				time.AfterFunc(rand.N(3*time.Millisecond), func() { _ = child.Process.Kill() })
			}
		}
		_ = child.Wait()
	}
	if len(acknowledged) < rounds*20 {
		t.Fatalf("only %d records were acknowledged: the test tests nothing", len(acknowledged))
	}
	j := mustOpen(t, dir)
	after, found := uint64(0), map[uint64]string{}
	for {
		events, err := j.Read(t.Context(), after, MaxRead)
		if err != nil {
			t.Fatal(err)
		}
		if len(events) == 0 {
			break
		}
		for _, e := range events {
			if e.Sequence != after+1 {
				t.Fatalf("sequence %d follows %d", e.Sequence, after)
			}
			after, found[e.Sequence] = e.Sequence, e.Object
		}
	}
	for s, object := range acknowledged {
		if found[s] != object {
			t.Fatalf("record %d %s was acknowledged, the journal has %q", s, object, found[s])
		}
	}
	if got := verified(t, dir); !got.Whole() || got.Last < uint64(len(acknowledged)) || got.Checkpoints == 0 {
		t.Errorf("%+v", got)
	}
	if got := audited(t, dir); got < uint64(len(acknowledged)) {
		t.Errorf("the second verifier comes to %d records", got)
	}
	if cold, err := filepath.Glob(filepath.Join(dir, "*"+coldSuffix)); err != nil || len(cold) == 0 {
		t.Errorf("no file became cold meanwhile: %v", err)
	}
}

func writeUntilKilled(t *testing.T, dir string) {
	j, err := open(dir, signer(t), 8<<10, realDisk())
	if err != nil {
		fmt.Println(err)
		return
	}
	var print sync.Mutex
	var group sync.WaitGroup
	go func() {
		for {
			if _, err := j.cool(context.Background(), later(), 1); err != nil {
				fmt.Println(err)
			}
		}
	}()
	for w := range 4 {
		group.Go(func() {
			for n := 0; ; n++ {
				e, err := j.Append(context.Background(), Event{Type: DaemonStart, Severity: Info, Object: fmt.Sprintf("%d/%d/%d", os.Getpid(), w, n), Organisation: fmt.Sprint("writer-", w)})
				print.Lock()
				if err != nil {
					fmt.Println(err)
					os.Exit(1)
				}
				fmt.Println(e.Sequence, e.Object)
				print.Unlock()
			}
		})
	}
	group.Wait()
}
