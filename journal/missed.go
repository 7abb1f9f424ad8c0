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
	now := time.Now().UTC()
	if m.count == 0 {
		m.since, m.types = now, map[Type]int{}
	}
	m.count++
	m.until = now
	m.types[e.Type]++
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
