package journal

import (
	"os"
	"testing"
)

// TestSettle: whoever asks holds a checkpoint of all that is recorded, also of what a daemon left that was killed; asking again signs nothing.
func TestSettle(t *testing.T) {
	_, verifiers := keys(t)
	dir := t.TempDir()
	j, err := Open(dir, signer(t))
	if err != nil {
		t.Fatal(err)
	}
	defer j.Close()
	covers := func(j *Journal, records uint64) {
		t.Helper()
		c, err := OpenCheckpoint([]byte(j.Settle()), verifiers)
		if err != nil || c.Size != records {
			t.Errorf("the checkpoint: %+v, %v, want it to settle %d records", c, err, records)
		}
	}
	if got := j.Settle(); got != "" {
		t.Errorf("nothing is recorded, and signed is %q", got)
	}
	record := func() {
		if _, err := j.Append(t.Context(), Event{Type: DriftFind, Severity: Warning}); err != nil {
			t.Fatal(err)
		}
	}
	record()
	covers(j, 1)
	covers(j, 1)
	if last := j.Last(); last != 2 { // the event and its checkpoint
		t.Errorf("the newest record is %d, want 2", last)
	}
	record()
	killed := t.TempDir()
	if err := os.CopyFS(killed, os.DirFS(dir)); err != nil {
		t.Fatal(err)
	}
	again, err := Open(killed, signer(t))
	if err != nil {
		t.Fatal(err)
	}
	defer again.Close()
	covers(again, 3)
	nobody, err := Open(t.TempDir(), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer nobody.Close()
	if got := nobody.Settle(); got != "" {
		t.Errorf("nobody signs, and signed is %q", got)
	}
}
