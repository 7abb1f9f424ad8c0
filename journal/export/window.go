package export

import "time"

const (
	// settleAfter is how long a collector's kernel must have held a record before it counts as delivered: what was read from there within that
	// time nobody knows, for syslog acknowledges nothing (RFC 5425, section 6.1).
	settleAfter = 10 * time.Second
	// settleRecords is how many records must have been sent after it besides: a collector that hangs on a quiet day loses few.
	settleRecords = 100
	// markRecords is how many records a mark stands for at most.
	markRecords = 50
)

// window is what was sent over a connection that acknowledges nothing, and is not yet taken as delivered.
type window struct {
	marks   []mark
	records uint64 // sent over this connection
	newest  mark   // all of it
	watched mark   // what was the newest when holds began to watch it
}

// mark is a place in the stream.
type mark struct {
	sequence     uint64
	first        uint64    // records sent before what it stands for
	records      uint64    // sent up to here
	bytes        int64     // written up to here, at most
	acknowledged time.Time // when the other end's kernel was first seen to have all of it
}

// sent notes that the sink has been handed all up to a sequence, in so many records more, and that so many bytes of the connection were written.
func (w *window) sent(sequence uint64, records int, bytes int64) {
	m := mark{sequence: sequence, first: w.records, records: w.records + uint64(records), bytes: bytes}
	w.records, w.newest = m.records, m
	if last := len(w.marks) - 1; last >= 0 && m.records-w.marks[last].first <= markRecords {
		m.first = w.marks[last].first
		w.marks[last] = m
		return
	}
	w.marks = append(w.marks, m)
}

// settled is the newest sequence up to which all counts as delivered, 0 for nothing new. Acknowledged are the bytes of the connection that the other end's
// kernel has.
func (w *window) settled(acknowledged int64, now time.Time) (sequence uint64) {
	done := 0
	for i := range w.marks {
		m := &w.marks[i]
		if m.bytes > acknowledged {
			break
		}
		if m.acknowledged.IsZero() {
			m.acknowledged = now
		}
		if now.Sub(m.acknowledged) >= settleAfter && w.records-m.records >= settleRecords && done == i {
			done, sequence = i+1, m.sequence
		}
	}
	w.marks = w.marks[done:]
	return sequence
}

// holds is the newest sequence up to which the other end's kernel has had all for settleAfter, on the connection that stands; 0 for nothing new. It looks at one place at a time, so that it
// lags by twice as much at most, however little is sent.
func (w *window) holds(acknowledged int64, now time.Time) (sequence uint64) {
	if w.watched.sequence == 0 {
		w.watched = w.newest
	}
	m := &w.watched
	if m.sequence == 0 || m.bytes > acknowledged {
		return 0
	}
	if m.acknowledged.IsZero() {
		m.acknowledged = now
	}
	if now.Sub(m.acknowledged) < settleAfter {
		return 0
	}
	sequence, w.watched = m.sequence, mark{}
	return sequence
}
