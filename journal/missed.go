package journal

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"
)

// missed is what could not be written since the last write that succeeded. It lives in memory: a box that loses power before its disk
// takes writes again has lost the count as well.
type missed struct {
	count        int
	since, until time.Time
	types        map[Type]int
}

func (m *missed) add(e Event) {
	m.merge(missed{count: 1, since: e.Time, until: e.Time, types: map[Type]int{e.Type: 1}})
}

func (m *missed) merge(other missed) {
	if other.count == 0 {
		return
	}
	if m.count == 0 {
		m.since, m.until, m.types = other.since, other.until, map[Type]int{}
	}
	if other.since.Before(m.since) {
		m.since = other.since
	}
	if other.until.After(m.until) {
		m.until = other.until
	}
	m.count += other.count
	for t, n := range other.types {
		m.types[t] += n
	}
}

// event puts the hole on record. Its sequence shows where it is; the fields say how many events of which type are in it.
func (m *missed) event() Event {
	var kinds []string
	for _, t := range slices.Sorted(maps.Keys(m.types)) {
		kinds = append(kinds, fmt.Sprintf("%s (%d)", t, m.types[t]))
	}
	return Event{Type: JournalMiss, Severity: Alert, Object: "journal",
		Message: fmt.Sprintf("%d events could not be written and are lost: %s", m.count, strings.Join(kinds, ", ")),
		Fields:  map[string]string{"count": strconv.Itoa(m.count), "since": m.since.Format(time.RFC3339Nano), "until": m.until.Format(time.RFC3339Nano)}}
}
