package cursor

import (
	"encoding/json"
	"fmt"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"shekara/netctl/durable"
)

// State is a sink's cursor, and what there is to tell of it. It lives in the file SINK.json of the exporter's folder.
type State struct {
	// Delivered is the cursor: the sink has all that it should have up to this sequence, and a new connection begins after it.
	Delivered uint64 `json:"delivered"`
	// Held is the newest sequence up to which the sink has, or had, all that it should have. It is ahead of Delivered where nothing is acknowledged but by a kernel: too little to never send it
	// again, and enough to say that somebody outside the box holds it.
	Held uint64 `json:"held,omitempty"`
	// Sent is the newest sequence that was handed over on the connection that stands, or that the filter passed over.
	Sent uint64 `json:"sent"`
	// Began is where a sink began that gets only what is recorded after it was first seen.
	Began     uint64    `json:"began,omitempty"`
	Records   uint64    `json:"records"`           // handed over so far, those sent again included
	Refused   uint64    `json:"refused,omitempty"` // of Records; the sink said that it threw them away
	Failures  uint64    `json:"failures"`          // connections that failed so far
	Connected bool      `json:"connected"`
	Error     string    `json:"error,omitempty"` // why nothing is sent; Read gives it without control characters
	Since     time.Time `json:"since,omitzero"`  // of Error
	Written   time.Time `json:"written"`
}

const (
	maxBytes      = 8 << 10
	maxErrorBytes = 500
	mode          = 0o644 // the daemon reads it, and may be another user without a right to others' files
)

func path(dir, sink string) string { return filepath.Join(dir, sink+".json") }

// Read reads what the exporter says of a sink; fs.ErrNotExist: it has not seen it yet.
func Read(dir, sink string) (State, error) {
	name := path(dir, sink)
	text, err := durable.ReadFile(name, maxBytes)
	if err != nil {
		return State{}, err
	}
	s, err := decode(text)
	if err != nil {
		return State{}, fmt.Errorf("%s: %w: remove it, and the sink gets the journal from its first record", name, err)
	}
	return s, nil
}

func decode(text []byte) (State, error) {
	var s State
	if err := json.Unmarshal(text, &s); err != nil {
		return State{}, fmt.Errorf("no state of a sink: %w", err)
	}
	s.Error = printable(s.Error)
	if s.Sent < s.Delivered {
		return State{}, fmt.Errorf("no state of a sink: delivered is %d, sent %d", s.Delivered, s.Sent)
	}
	return s, nil
}

// printable writes what a terminal or a monitoring centre might obey as Go does in strings: an error has words of whoever is at the other end (its certificate's names, what
// a NATS server answers), who need not be who he should be, and goes to the status, to alarms and into the journal.
func printable(text string) string {
	var b strings.Builder
	for _, r := range text {
		if strconv.IsPrint(r) {
			b.WriteRune(r)
		} else {
			b.WriteString(strings.Trim(strconv.QuoteRune(r), "'"))
		}
	}
	return b.String()
}

// Write makes the state durable.
func (s State) Write(dir, sink string) error {
	s.Error = s.Error[:min(len(s.Error), maxErrorBytes)]
	text, err := json.Marshal(s)
	if err != nil {
		return err
	}
	return durable.WriteFile(path(dir, sink), append(text, '\n'), mode)
}
