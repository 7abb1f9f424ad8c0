package wire

import (
	"container/heap"
	"context"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"time"
)

// Impairment is how bad a line is. The zero value is a perfect line.
type Impairment struct {
	Delay     time.Duration `yaml:"delay,omitempty" json:"delay,omitempty"`         // of every frame
	Jitter    time.Duration `yaml:"jitter,omitempty" json:"jitter,omitempty"`       // up to this much more, evenly spread; keeps the order
	Loss      float64       `yaml:"loss,omitempty" json:"loss,omitempty"`           // share of frames, 0 to 1
	Duplicate float64       `yaml:"duplicate,omitempty" json:"duplicate,omitempty"` // share of frames that arrive twice
	Reorder   float64       `yaml:"reorder,omitempty" json:"reorder,omitempty"`     // share of frames that those behind them overtake, for ReorderBy
	ReorderBy time.Duration `yaml:"reorderBy,omitempty" json:"reorderBy,omitempty"` // 0: 10 ms
	Corrupt   float64       `yaml:"corrupt,omitempty" json:"corrupt,omitempty"`     // share of frames with one bit turned, behind the Ethernet header
	Rate      int64         `yaml:"rate,omitempty" json:"rate,omitempty"`           // bits per second; 0: no limit
	Queue     int           `yaml:"queue,omitempty" json:"queue,omitempty"`         // bytes that wait for Rate before frames are dropped; 0: 256 KiB
	Partition bool          `yaml:"partition,omitempty" json:"partition,omitempty"` // nothing passes
}

const (
	defaultReorderBy = 10 * time.Millisecond
	defaultQueue     = 256 << 10
	ethernetHeader   = 14
)

// Validate says what is out of bounds.
func (i Impairment) Validate() error {
	for name, share := range map[string]float64{"loss": i.Loss, "duplicate": i.Duplicate, "reorder": i.Reorder, "corrupt": i.Corrupt} {
		if !(share >= 0 && share <= 1) {
			return fmt.Errorf("%s is %v: a share between 0 and 1 is wanted", name, share)
		}
	}
	for name, d := range map[string]time.Duration{"delay": i.Delay, "jitter": i.Jitter, "reorderBy": i.ReorderBy} {
		if d < 0 || d > time.Minute {
			return fmt.Errorf("%s is %v: between 0 and 1m is wanted", name, d)
		}
	}
	if i.Rate < 0 || i.Queue < 0 {
		return fmt.Errorf("rate and queue cannot be negative")
	}
	return nil
}

// Counters say what became of the frames of one direction.
type Counters struct {
	Sent, Delivered, Lost, Duplicated, Reordered, Corrupted, Overflowed uint64
}

// Line is one direction of a wire. Which frames suffer depends on the seed and on their place in the order alone.
type Line struct {
	deliver func(frame []byte) // called by Run, or by Send where nothing holds the frame back

	mu         sync.Mutex // guards all below
	impairment Impairment
	random     *rand.Rand
	counters   Counters
	freeAt     time.Time // when the frames that wait for Rate will have left
	lastAt     time.Time // when the newest frame in order arrives
	waiting    queue
	order      uint64
	wake       chan struct{}
}

// NewLine makes a perfect line. deliver must not keep the frame.
func NewLine(seed uint64, deliver func(frame []byte)) *Line {
	return &Line{deliver: deliver, random: rand.New(rand.NewPCG(seed, 0x5348454b415241)), wake: make(chan struct{}, 1)}
}

// Impair changes the line from the next frame on.
func (l *Line) Impair(i Impairment) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.impairment = i
}

// Counters returns what happened so far.
func (l *Line) Counters() Counters {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.counters
}

// Send takes a frame in; the caller may use its memory again on return.
func (l *Line) Send(frame []byte) {
	l.mu.Lock()
	copies, at, corruptBit := l.fate(time.Now(), len(frame))
	if copies == 1 && corruptBit < 0 && at.IsZero() && len(l.waiting) == 0 {
		l.counters.Delivered++
		l.mu.Unlock()
		l.deliver(frame)
		return
	}
	for range copies {
		kept := append([]byte(nil), frame...)
		if corruptBit >= 0 {
			kept[corruptBit/8] ^= 1 << (corruptBit % 8)
		}
		l.order++
		heap.Push(&l.waiting, held{at: at, order: l.order, frame: kept})
	}
	l.mu.Unlock()
	select {
	case l.wake <- struct{}{}:
	default:
	}
}

// fate decides about one frame: how often it arrives, when (zero: at once) and which bit is turned (-1: none).
// The same number of random values is drawn for each frame, so that one kind of impairment does not shift the others.
func (l *Line) fate(now time.Time, size int) (copies int, at time.Time, corruptBit int) {
	i := l.impairment
	loss, duplicate, reorder, corrupt, bit, jitter := l.random.Float64(), l.random.Float64(), l.random.Float64(), l.random.Float64(), l.random.Uint64(), l.random.Float64()
	l.counters.Sent++
	if i.Partition || loss < i.Loss {
		l.counters.Lost++
		return 0, time.Time{}, -1
	}
	leaves := now
	if i.Rate > 0 {
		limit := i.Queue
		if limit == 0 {
			limit = defaultQueue
		}
		if l.freeAt.Before(now) {
			l.freeAt = now
		}
		if waiting := l.freeAt.Sub(now).Seconds() * float64(i.Rate) / 8; waiting+float64(size) > float64(limit) {
			l.counters.Overflowed++
			return 0, time.Time{}, -1
		}
		l.freeAt = l.freeAt.Add(time.Duration(float64(size*8) / float64(i.Rate) * float64(time.Second)))
		leaves = l.freeAt
	}
	arrives := leaves.Add(i.Delay + time.Duration(jitter*float64(i.Jitter)))
	copies, corruptBit = 1, -1
	if duplicate < i.Duplicate {
		copies = 2
		l.counters.Duplicated++
	}
	if corrupt < i.Corrupt && size > ethernetHeader {
		corruptBit = ethernetHeader*8 + int(bit%uint64((size-ethernetHeader)*8))
		l.counters.Corrupted++
	}
	if reorder < i.Reorder {
		l.counters.Reordered++
		by := i.ReorderBy
		if by == 0 {
			by = defaultReorderBy
		}
		return copies, arrives.Add(by), corruptBit
	}
	if arrives.Before(l.lastAt) {
		arrives = l.lastAt // jitter alone does not reorder
	}
	l.lastAt = arrives
	if !arrives.After(now) {
		return copies, time.Time{}, corruptBit
	}
	return copies, arrives, corruptBit
}

// Run delivers frames that were held back, until ctx ends. What waits then is dropped.
func (l *Line) Run(ctx context.Context) {
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	for {
		next := l.deliverDue()
		timer.Reset(next)
		select {
		case <-ctx.Done():
			return
		case <-l.wake:
		case <-timer.C:
		}
	}
}

// deliverDue delivers every frame whose time has come and says how long to wait for the next.
func (l *Line) deliverDue() time.Duration {
	for {
		l.mu.Lock()
		if len(l.waiting) == 0 {
			l.mu.Unlock()
			return time.Hour
		}
		if wait := time.Until(l.waiting[0].at); wait > 0 {
			l.mu.Unlock()
			return wait
		}
		frame := heap.Pop(&l.waiting).(held).frame
		l.counters.Delivered++
		l.mu.Unlock()
		l.deliver(frame)
	}
}

type held struct {
	at    time.Time
	order uint64 // frames of one instant keep their order
	frame []byte
}

// queue is a heap by time of arrival.
type queue []held

func (q queue) Len() int { return len(q) }
func (q queue) Less(i, j int) bool {
	return q[i].at.Before(q[j].at) || q[i].at.Equal(q[j].at) && q[i].order < q[j].order
}
func (q queue) Swap(i, j int) { q[i], q[j] = q[j], q[i] }
func (q *queue) Push(x any)   { *q = append(*q, x.(held)) }
func (q *queue) Pop() any {
	old := *q
	last := old[len(old)-1]
	old[len(old)-1] = held{}
	*q = old[:len(old)-1]
	return last
}

// String says what is bad about the line, or "good".
func (i Impairment) String() string {
	if i == (Impairment{}) {
		return "good"
	}
	if i.Partition {
		return "cut"
	}
	var parts []string
	for _, part := range []struct {
		is   bool
		text string
	}{
		{i.Delay > 0, fmt.Sprintf("delay %v", i.Delay)},
		{i.Jitter > 0, fmt.Sprintf("jitter %v", i.Jitter)},
		{i.Loss > 0, fmt.Sprintf("loss %g %%", i.Loss*100)},
		{i.Duplicate > 0, fmt.Sprintf("duplicates %g %%", i.Duplicate*100)},
		{i.Reorder > 0, fmt.Sprintf("reorders %g %%", i.Reorder*100)},
		{i.Corrupt > 0, fmt.Sprintf("corrupts %g %%", i.Corrupt*100)},
		{i.Rate > 0, fmt.Sprintf("rate %d bit/s", i.Rate)},
	} {
		if part.is {
			parts = append(parts, part.text)
		}
	}
	return strings.Join(parts, ", ")
}
