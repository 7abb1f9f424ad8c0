package server

import (
	"math/bits"
	"time"

	"shekara/netctl/datagram"
	"shekara/timesync"
	"shekara/timesync/ntp"
	"shekara/timesync/nts"
)

// worker answers what comes to one socket.
type worker struct {
	server   *Server
	batch    *datagram.Batch
	policy   *policy
	standing timesync.Standing
	face     ntp.Header // of every answer of this batch: what the standing says
	now      int64      // since the server began, by the monotonic clock
	counts   Counters
	packet   ntp.Packet
	key      *ntp.Key     // that authenticated the request at hand
	exchange nts.Exchange // of the request at hand
	awaited  [awaited]departure
	departed uint64   // answers of which it is asked when they leave
	late     [][]byte // answers whose time of leaving may be written at the last moment: nothing authenticates them
}

// awaited is how many of these are remembered.
const awaited = 256

// departure is an answer of which it is not known yet when it left.
type departure struct {
	address [16]byte
	receive ntp.Timestamp
}

func newWorker(s *Server, c *datagram.Conn) *worker {
	return &worker{server: s, batch: c.NewBatch(batchSize)}
}

// run answers until the socket fails or is closed.
func (w *worker) run() error {
	left := w.left
	return w.batch.Each(func(n int) error {
		if err := w.batch.Stamps(left); err != nil {
			return err
		}
		w.begin(time.Now())
		queued := 0
		for i := range n {
			switch answer, stamp := w.answer(w.batch.Message(i), w.batch.Room(i)); {
			case answer == nil:
				continue
			case stamp:
				w.batch.AnswerStamped(i, answer, w.departed-1)
			default:
				w.batch.Answer(i, answer)
			}
			queued++
		}
		w.server.counters.add(&w.counts) // before anybody has an answer that was not counted
		w.leave(time.Now())
		sent, _ := w.batch.Send() // one that cannot be sent, for want of a route or by a filter, is lost as it could be on its way
		w.counts.Unsent = uint64(queued - sent)
		return nil
	})
}

// leave says in the answers that are about to leave that they do.
func (w *worker) leave(now time.Time) {
	for _, answer := range w.late {
		ntp.PutTransmit(answer, ntp.TimestampOf(now))
	}
	w.late = w.late[:0]
}

// begin looks at what is the same for all requests of a batch.
func (w *worker) begin(now time.Time) {
	w.policy = w.server.policy.Load()
	w.now = int64(now.Sub(w.server.began))
	w.standing = w.server.options.Standing()
	s := &w.standing
	w.late = w.late[:0]
	w.face = ntp.Header{
		Leap:           s.Leap,
		Mode:           ntp.Server,
		Stratum:        s.Stratum,
		Precision:      w.server.precision,
		RootDelay:      ntp.ShortOf(s.RootDelay),
		RootDispersion: ntp.ShortOf(s.Dispersion(now)),
		ReferenceID:    s.ReferenceID,
		Reference:      ntp.TimestampOf(s.ReferenceTime),
	}
	if s.State == timesync.Unsynchronised {
		w.face.Leap, w.face.Stratum, w.face.ReferenceID = timesync.LeapUnknown, timesync.MaxStratum, 0
	}
}

// answer is what goes back for a datagram, written in room, or nil. With stamp the time when it leaves belongs to the last of w.awaited.
func (w *worker) answer(m *datagram.Message, room []byte) (answer []byte, stamp bool) {
	w.counts.Received++
	w.counts.BytesIn += uint64(len(m.Data))
	answer, stamp = w.reply(m, room)
	w.counts.BytesOut += uint64(len(answer))
	return answer, stamp
}

func (w *worker) reply(m *datagram.Message, room []byte) (answer []byte, stamp bool) {
	p := &w.packet
	if len(m.Data) > 0 && ntp.ModeOf(m.Data) != ntp.Client {
		w.counts.OtherMode++
		return nil, false
	}
	if err := p.Parse(m.Data); err != nil || !m.Whole || len(p.MAC) == ntp.CryptoNAK {
		w.counts.Malformed++
		return nil, false
	}
	at := m.At
	if at.IsZero() {
		at = time.Now()
	}
	r := w.registered(m)
	if r == nil {
		w.counts.Refused++
		e, mutex := w.server.strangers.enter(m.From.Addr())
		e.lastSeen, e.version = at.UnixNano(), p.Version
		e.refused++
		mutex.Unlock()
		return nil, false
	}
	e, mutex := w.server.clients.enter(m.From.Addr())
	defer mutex.Unlock()
	e.tally, e.version = r.tally, p.Version
	e.lastSeen = at.UnixNano()
	r.tally.lastSeen.Store(e.lastSeen)
	return w.serve(m.Data, at, r, e, room)
}

// registered is the registration of whoever sent a datagram to an address that is served.
func (w *worker) registered(m *datagram.Message) *registration {
	for _, a := range w.policy.addresses {
		if a == m.To {
			return w.policy.find(m.From.Addr())
		}
	}
	return nil
}

// serve answers a registered client, whose entry the caller holds.
func (w *worker) serve(request []byte, at time.Time, r *registration, e *entry, room []byte) (answer []byte, stamp bool) {
	found := w.authenticate(request, r)
	code := ntp.KissRate
	switch {
	case found >= refused:
		w.counts.Unauthenticated++
		e.refused++
		r.tally.refused.Add(1)
		if code = found.kiss(); code == 0 {
			return nil, false
		}
	case !e.take(w.now, w.server.options.Every, w.server.options.Burst):
		w.counts.Limited++
		e.limited++
		r.tally.limited.Add(1)
	case w.policy.withhold && w.standing.State == timesync.Unsynchronised:
		w.counts.Withheld++
		return nil, false
	default:
		w.counts.Served++
		e.served++
		r.tally.served.Add(1)
		stamp = w.tell(at, e, found, &room)
		return room, stamp
	}
	if !e.mayKiss(w.now) {
		return nil, false
	}
	w.counts.Kissed++
	// Its times are the client's own, which say nothing.
	p := &w.packet
	h := ntp.Header{Leap: timesync.LeapUnknown, Version: p.Version, Mode: ntp.Server, Poll: p.Poll, Precision: w.face.Precision, ReferenceID: code,
		Origin: p.Transmit, Receive: p.Transmit, Transmit: p.Transmit}
	return w.seal(h.Append(room), found), false
}

// tell writes an answer with the time into room.
func (w *worker) tell(at time.Time, e *entry, found finding, room *[]byte) (stamp bool) {
	p, h := &w.packet, w.face
	h.Version, h.Poll = p.Version, p.Poll
	if h.Receive = ntp.TimestampOf(at); h.Receive == e.receive {
		h.Receive++ // by which the client's next request is told from others must be its own (RFC 9769 section 2)
	}
	e.ahead(p.Transmit.Sub(h.Receive))
	e.key, e.flags = 0, e.flags&offsetKnown
	switch found {
	case byNTS:
		w.counts.NTS++
		e.flags |= overNTS
	case byKey:
		w.counts.Keyed++
		e.key = w.key.ID
	}
	stamp = p.Origin != 0 && p.Origin == e.receive && p.Receive != p.Transmit
	now := ntp.TimestampOf(time.Now())
	h.Origin, h.Transmit = p.Transmit, now
	if stamp {
		w.counts.Interleaved++
		e.flags |= interleaved
		h.Origin, h.Transmit = p.Receive, e.transmit
		w.awaited[w.departed%awaited] = departure{e.address, h.Receive}
		w.departed++
	}
	e.receive, e.transmit = h.Receive, now
	*room = w.seal(h.Append(*room), found)
	if found == byNothing && !stamp {
		w.late = append(w.late, *room)
	}
	return stamp
}

// left takes note of when an answer left.
func (w *worker) left(number uint64, at time.Time) {
	if w.departed-number > awaited {
		return // forgotten
	}
	d := &w.awaited[number%awaited]
	w.server.clients.left(d.address, d.receive, ntp.TimestampOf(at))
}

// precision is what the clock can tell apart, as a power of two of seconds: the least step between readings (RFC 5905 section 7.3).
func precision() int8 {
	least := time.Second
	last := time.Now()
	for range 1000 {
		now := time.Now()
		if step := now.Sub(last); step > 0 {
			least = min(least, step)
		}
		last = now
	}
	return int8(1 - bits.Len64(uint64(time.Second/least)))
}
