package wire

import (
	"context"
	"io"
	"sync"
)

// maxFrame is the largest frame: no segmentation offload on a tap without a virtio header, so the MTU and its headers.
const maxFrame = 64 << 10

// Wire joins two taps: each Read gives one Ethernet frame, each Write takes one.
type Wire struct {
	taps  [2]io.ReadWriteCloser
	lines [2]*Line // lines[0] carries from taps[0] to taps[1]
}

// New makes a perfect wire. Both directions are deterministic by the seed, each with numbers of its own.
func New(a, b io.ReadWriteCloser, seed uint64) *Wire {
	w := &Wire{taps: [2]io.ReadWriteCloser{a, b}}
	// A tap refuses a frame while its interface is down: as on a pulled cable, the frame is lost.
	w.lines[0] = NewLine(seed*2, func(frame []byte) { _, _ = b.Write(frame) })
	w.lines[1] = NewLine(seed*2+1, func(frame []byte) { _, _ = a.Write(frame) })
	return w
}

// Impair changes both directions.
func (w *Wire) Impair(i Impairment) {
	w.lines[0].Impair(i)
	w.lines[1].Impair(i)
}

// ImpairFrom changes the direction that begins at end 0 or 1.
func (w *Wire) ImpairFrom(end int, i Impairment) { w.lines[end].Impair(i) }

// Counters returns both directions' counters.
func (w *Wire) Counters() [2]Counters {
	return [2]Counters{w.lines[0].Counters(), w.lines[1].Counters()}
}

// Run carries frames until ctx ends or a tap is gone, then closes both taps. It returns when all its goroutines have.
func (w *Wire) Run(ctx context.Context) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var running sync.WaitGroup
	for end := range w.lines {
		running.Go(func() { w.lines[end].Run(ctx) })
		running.Go(func() {
			defer cancel()
			buffer := make([]byte, maxFrame)
			for {
				n, err := w.taps[end].Read(buffer)
				if err != nil {
					return
				}
				w.lines[end].Send(buffer[:n])
			}
		})
	}
	<-ctx.Done()
	w.taps[0].Close()
	w.taps[1].Close()
	running.Wait()
}
