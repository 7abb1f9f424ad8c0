package source

import (
	"context"
	"fmt"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"shekara/netctl/clock"
	"shekara/timesync"
)

const lookEvery = time.Second // at the clock, and whether what was known has grown too old

// Watch asks the sources of a Spec, and knows how the clock stands. It is made by New and works while Run does.
type Watch struct {
	spec     timesync.Spec
	file     string
	complain func(error)
	open     func(s timesync.Source, certTime func() time.Time) func(context.Context) (answer, error)
	read     func() (clock.Reading, error)

	current    atomic.Pointer[timesync.Status]
	changed    chan struct{} // of one element
	generation atomic.Uint64 // of samples: it ends when the clock is set
	good       atomic.Int64  // Unix seconds that are known to be over; 0: none

	// Of Run's goroutine.
	peers    []*peer
	status   []timesync.SourceStatus // of each, as decided last
	judge    *Judge
	drift    drift
	followed int // index of the source, -1: none
	set      Steps
	kernel   timesync.Kernel
	steps    uint64
	lastStep time.Duration
	ours     []netip.Addr
}

// New makes a Watch of a Spec. file keeps the last good time and the drift over a restart, "" for nowhere; its folder must be there. What cannot be read or written is told
// to complain, and goes without.
func New(spec timesync.Spec, file string, complain func(error)) *Watch {
	w := &Watch{spec: spec, file: file, complain: complain, read: clock.Read, changed: make(chan struct{}, 1), followed: -1, ours: spec.Addresses}
	w.open = func(s timesync.Source, certTime func() time.Time) func(context.Context) (answer, error) {
		e := &exchanger{source: s, keyFile: spec.KeyFile, certTime: certTime}
		return e.exchange
	}
	for _, s := range spec.Sources {
		w.peers = append(w.peers, newPeer(s))
	}
	now := time.Now()
	w.judge = NewJudge(w.maxDistance(), now)
	w.decide(now)
	w.publish(now)
	return w
}

// maxDistance is the Spec's, or that of RFC 5905 (MAXDIST) where it says none.
func (w *Watch) maxDistance() time.Duration {
	if w.spec.MaxDistance > 0 {
		return w.spec.MaxDistance
	}
	return time.Second
}

// Standing is what is true of the clock. It may be asked from anywhere, at any time, and waits for nobody.
func (w *Watch) Standing() timesync.Standing { return w.current.Load().Standing }

// Status is all that is known. What it points at is not changed any more.
func (w *Watch) Status() timesync.Status { return *w.current.Load() }

// Changed is poked when a state, a verdict or the warnings have changed. It has one receiver.
func (w *Watch) Changed() <-chan struct{} { return w.changed }

// result is what came of a request.
type result struct {
	source     int
	answer     answer
	err        error
	poll       time.Duration // until the next
	generation uint64        // in which it was begun
}

// Run asks until the context ends.
func (w *Watch) Run(ctx context.Context) error {
	m, err := recall(w.file)
	if err != nil {
		w.complain(fmt.Errorf("recall the drift and the last good time: %w", err))
	}
	w.drift.rate = m.Drift
	if !m.Good.IsZero() {
		w.good.Store(m.Good.Unix())
	}
	w.look(time.Now(), nil)

	var group sync.WaitGroup
	defer group.Wait()
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	results := make(chan result)
	hurries := make([]chan struct{}, len(w.peers))
	for i := range w.peers {
		hurries[i] = make(chan struct{}, 1)
		group.Go(func() { w.poll(ctx, i, results, hurries[i]) })
	}
	keep := make(chan memory, 1)
	group.Go(func() { w.remember(ctx, keep) })

	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case r := <-results:
			w.look(time.Now(), hurries)
			w.take(r)
		case <-tick.C:
			w.look(time.Now(), hurries)
		}
		now := time.Now()
		w.decide(now)
		w.publish(now)
		if w.judge.standing.State == timesync.Synchronised {
			w.good.Store(max(w.good.Load(), now.Unix())) // what is over stays over
			select {
			case keep <- memory{Good: time.Unix(w.good.Load(), 0).UTC(), Drift: w.drift.rate}:
			default: // the one before is being written
			}
		}
	}
}

// poll asks one source for ever, at its pace. A name server or a certificate that keeps it waiting keeps nobody else.
func (w *Watch) poll(ctx context.Context, i int, results chan<- result, hurry <-chan struct{}) {
	p := newPace()
	exchange := w.open(w.spec.Sources[i], w.certTime)
	for {
		r := result{source: i, generation: w.generation.Load()}
		r.answer, r.err = exchange(ctx)
		r.poll = p.next(r.err == nil)
		if r.err == nil && r.answer.kiss == kissRate {
			r.poll = p.slow()
		}
		select {
		case results <- r:
		case <-ctx.Done():
			return
		}
		if r.err == nil && (r.answer.kiss == kissDeny || r.answer.kiss == kissRestrict) {
			return // RFC 5905 section 7.4: stop sending
		}
		wait := time.NewTimer(r.poll)
		select {
		case <-wait.C:
		case <-hurry:
			p.hurry()
			if p.floor > 0 {
				select {
				case <-wait.C:
				case <-ctx.Done():
				}
			}
		case <-ctx.Done():
		}
		wait.Stop()
		if ctx.Err() != nil {
			return
		}
	}
}

// certTime is what certificates are held against: the clock, or, where that is in the past after a power cut, the last time that is known to be over.
func (w *Watch) certTime() time.Time {
	now := time.Now()
	if good := time.Unix(w.good.Load(), 0); good.After(now) {
		return good
	}
	return now
}

// remember writes what is to be known after a restart, seldom: at once, and then when it has grown old.
func (w *Watch) remember(ctx context.Context, keep <-chan memory) {
	if w.file == "" {
		return
	}
	for {
		select {
		case m := <-keep:
			if err := m.keep(w.file); err != nil {
				w.complain(fmt.Errorf("keep the drift and the last good time: %w", err))
			}
		case <-ctx.Done():
			return
		}
		select {
		case <-time.After(rememberEvery):
		case <-ctx.Done():
			return
		}
		select {
		case <-keep: // it has waited for as long
		default:
		}
	}
}

// look reads the clock. If somebody set it, what was measured before is void, and the sources are asked anew at once.
func (w *Watch) look(now time.Time, hurries []chan struct{}) {
	r, err := w.read()
	if err != nil {
		w.complain(fmt.Errorf("look at the clock: %w", err))
		return
	}
	w.kernel = KernelOf(r.State)
	by := w.set.By(r)
	if by == 0 {
		return
	}
	w.lastStep = by
	w.steps++
	w.generation.Add(1)
	w.drift.restart()
	for _, p := range w.peers {
		p.void()
	}
	w.judge.Stepped(now, by)
	for _, h := range hurries {
		select {
		case h <- struct{}{}:
		default:
		}
	}
}

// take notes what came of a request. What was begun before the clock was set is not measured.
func (w *Watch) take(r result) {
	p := w.peers[r.source]
	p.status.Poll = r.poll
	if r.generation == w.generation.Load() {
		p.take(time.Now(), r.answer, r.err, w.ours)
	}
}

// KernelOf is what the kernel was told, in the words of a Status.
func KernelOf(s clock.State) timesync.Kernel {
	leap := map[int]timesync.Leap{1: timesync.LeapInsert, -1: timesync.LeapDelete}[s.Leap]
	return timesync.Kernel{Synchronised: s.Synchronised, Leap: leap, MaxError: s.MaxError}
}
