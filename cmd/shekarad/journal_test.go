package main

import (
	"bytes"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"shekara/journal"
)

// TestADeletedKeyIsAnAlarm: a daemon whose journal's key was deleted opens it unsigned, and says so in its log and in the journal, with the next step. It makes no new one.
func TestADeletedKeyIsAnAlarm(t *testing.T) {
	s := settings{etcDir: t.TempDir(), stateDir: t.TempDir()}
	seed := filepath.Join(s.stateDir, "keys/signing/journal")
	var text bytes.Buffer
	log := slog.New(slog.NewTextHandler(&text, nil))
	open := func() *journal.Journal {
		t.Helper()
		events, err := s.openJournal(t.Context(), log)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = events.Close() })
		return events
	}
	first := open()
	if err := first.Health().Unsigned; err != nil || first.PublicKey() == "" || text.Len() > 0 {
		t.Fatalf("a new box: %v\n%s", err, &text)
	}
	if _, err := first.Append(t.Context(), journal.Event{Type: journal.DaemonStart, Severity: journal.Notice, Message: "it starts"}); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(first.Close(), os.Remove(seed)); err != nil {
		t.Fatal(err)
	}
	lost := open()
	events, err := lost.Read(t.Context(), 0, 10)
	if err != nil {
		t.Fatal(err)
	}
	e := events[len(events)-1]
	if !errors.Is(lost.Health().Unsigned, journal.ErrKeyLost) || e.Type != journal.JournalUnsigned || !strings.Contains(e.Fields["hint"], "rotate-key --lost") || !strings.Contains(text.String(), "rotate-key --lost") {
		t.Errorf("%v, %+v\n%s", lost.Health().Unsigned, e, &text)
	}
	if _, err := os.Stat(seed); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a new key was made: %v", err)
	}
}
