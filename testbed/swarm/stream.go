package swarm

import (
	"context"
	"encoding/binary"
	"fmt"
	"net/netip"
	"sync"
	"time"
)

// Patience is how long an answer may take before its packet counts as lost.
const Patience = 2 * time.Second

// Stream is numbered packets to an address that answers each: UDP to a port that echoes, or echo requests.
type Stream struct {
	To   netip.Addr `json:"to"`
	Port uint16     `json:"port,omitempty"` // of UDP; 0: ICMP echo
	Rate int        `json:"rate"`           // packets a second
	Size int        `json:"size,omitempty"` // bytes of data, at least 16
}

const (
	maxRate        = 100_000
	maxStreams     = 256
	streamMark     = 0x736b7377 // "sksw": what the data of a stream begins with
	firstPort      = 40000      // source port of UDP streams, and identifier of echo streams: this and the stream's number
	minimumData    = 16
	maximumData    = 65000
	minimumWindow  = 64
	windowPatience = 2 // slots are kept for so many times Patience
)

func (s Stream) check() error {
	switch {
	case !s.To.IsValid():
		return fmt.Errorf("stream has no address to go to")
	case s.Rate < 1 || s.Rate > maxRate:
		return fmt.Errorf("rate %d is not between 1 and %d packets a second", s.Rate, maxRate)
	case s.Size > maximumData:
		return fmt.Errorf("size %d is over %d bytes", s.Size, maximumData)
	}
	return nil
}

// StreamReport is what became of a stream so far. Sent = Answered + Lost + Pending.
type StreamReport struct {
	Stream
	Sent       uint64  `json:"sent"`
	Answered   uint64  `json:"answered"`
	Lost       uint64  `json:"lost"`       // not answered within Patience
	Pending    uint64  `json:"pending"`    // not answered yet
	Duplicates uint64  `json:"duplicates"` // answers to what was answered, or sent too long ago
	GapSeconds float64 `json:"gapSeconds"` // longest time without any answer, while the stream ran
}

// stream is a running Stream. An answer is matched by its sequence number in a window of what was sent last.
type stream struct {
	Stream
	number uint16
	source netip.Addr

	mu         sync.Mutex
	window     []slot // a power of two, so that a sequence number finds its slot
	sent       uint64
	answered   uint64
	duplicates uint64
	lastAnswer time.Time // or the start
	gap        time.Duration
	running    bool

	ended chan struct{} // closed when it sends no more
}

type slot struct {
	sequence uint64
	at       time.Time
	waiting  bool
}

func newStream(s Stream, number uint16, source netip.Addr) *stream {
	s.Size = max(s.Size, minimumData)
	size := minimumWindow
	for size < s.Rate*windowPatience*int(Patience/time.Second) {
		size *= 2
	}
	return &stream{Stream: s, number: number, source: source, window: make([]slot, size), ended: make(chan struct{})}
}

// run sends until ctx ends.
func (s *stream) run(ctx context.Context, send func([]byte) bool) {
	defer close(s.ended)
	s.mu.Lock()
	s.running, s.lastAnswer = true, time.Now()
	s.mu.Unlock()
	pace(ctx, s.Rate, func() bool { return send(s.packet()) })
	s.mu.Lock()
	s.running = false
	s.gap = max(s.gap, time.Since(s.lastAnswer))
	s.mu.Unlock()
}

// packet is the next packet of the stream.
func (s *stream) packet() []byte {
	s.mu.Lock()
	sequence := s.sent
	s.sent++
	s.window[sequence%uint64(len(s.window))] = slot{sequence, time.Now(), true}
	s.mu.Unlock()
	data := make([]byte, s.Size)
	binary.BigEndian.PutUint32(data, streamMark)
	binary.BigEndian.PutUint64(data[8:], sequence)
	if s.Port != 0 {
		return udp(netip.AddrPortFrom(s.source, firstPort+s.number), netip.AddrPortFrom(s.To, s.Port), data).build()
	}
	request, _ := echoTypes(s.To.Is6())
	return icmp(s.source, s.To, request, 0, uint32(firstPort+s.number)<<16|uint32(uint16(sequence)), data).build()
}

// answer takes the data of an answer; false: it is not one of this stream's.
func (s *stream) answer(from netip.Addr, data []byte) bool {
	if from != s.To || len(data) < minimumData || binary.BigEndian.Uint32(data) != streamMark {
		return false
	}
	sequence := binary.BigEndian.Uint64(data[8:])
	s.mu.Lock()
	defer s.mu.Unlock()
	place := &s.window[sequence%uint64(len(s.window))]
	if place.sequence != sequence || !place.waiting {
		s.duplicates++
		return true
	}
	place.waiting = false
	s.answered++
	now := time.Now()
	if s.running {
		s.gap = max(s.gap, now.Sub(s.lastAnswer))
	}
	s.lastAnswer = now
	return true
}

func (s *stream) report(now time.Time) StreamReport {
	s.mu.Lock()
	defer s.mu.Unlock()
	r := StreamReport{Stream: s.Stream, Sent: s.sent, Answered: s.answered, Duplicates: s.duplicates}
	for _, place := range s.window {
		if place.waiting && now.Sub(place.at) < Patience {
			r.Pending++
		}
	}
	r.Lost = r.Sent - r.Answered - r.Pending
	gap := s.gap
	if s.running {
		gap = max(gap, now.Sub(s.lastAnswer))
	}
	r.GapSeconds = gap.Seconds()
	return r
}

// pace calls do at rate calls a second until ctx ends or do says no. What a busy machine did not let it do is caught up with,
// but for no more than a tenth of a second, else a pause would end in a burst.
func pace(ctx context.Context, rate int, do func() bool) {
	ticker := time.NewTicker(max(time.Second/time.Duration(rate), time.Millisecond))
	defer ticker.Stop()
	start, done := time.Now(), int64(0)
	for {
		due := int64(time.Since(start))*int64(rate)/int64(time.Second) + 1
		done = max(done, due-int64(rate)/10-1)
		for ; done < due; done++ {
			if ctx.Err() != nil || !do() {
				return
			}
		}
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
	}
}
