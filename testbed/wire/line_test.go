package wire

import (
	"bytes"
	"context"
	"encoding/binary"
	"io"
	"math/bits"
	"net"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
)

// arrival is a frame as the far end got it.
type arrival struct {
	number uint32
	after  time.Duration
	turned int // bits that differ from what was sent
}

// send runs count frames of size bytes, one each gap, through a line and returns what arrived within the time given.
func send(t *testing.T, i Impairment, count, size int, gap, within time.Duration) (got []arrival, counters Counters) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		began := time.Now()
		var delivering sync.Mutex // Send and Run may deliver at one instant
		line := NewLine(7, func(frame []byte) {
			turned := 0
			for at, b := range frame[4:] {
				turned += bits.OnesCount8(b ^ frame[:4][at%4])
			}
			delivering.Lock()
			defer delivering.Unlock()
			got = append(got, arrival{binary.BigEndian.Uint32(frame), time.Since(began), turned})
		})
		line.Impair(i)
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() { line.Run(ctx); close(done) }()
		for n := range count {
			var number [4]byte
			binary.BigEndian.PutUint32(number[:], uint32(n))
			line.Send(bytes.Repeat(number[:], size/4))
			time.Sleep(gap)
		}
		time.Sleep(within)
		cancel()
		<-done
		counters = line.Counters()
	})
	return got, counters
}

func TestPerfectLineDeliversAtOnceInOrder(t *testing.T) {
	got, counters := send(t, Impairment{}, 3, 60, time.Millisecond, 0)
	want := []arrival{{0, 0, 0}, {1, time.Millisecond, 0}, {2, 2 * time.Millisecond, 0}}
	if diff := cmp.Diff(want, got, cmp.AllowUnexported(arrival{})); diff != "" {
		t.Error(diff)
	}
	if counters != (Counters{Sent: 3, Delivered: 3}) {
		t.Errorf("counters %+v", counters)
	}
}

func TestDelayAndJitterKeepTheOrder(t *testing.T) {
	got, _ := send(t, Impairment{Delay: 20 * time.Millisecond, Jitter: 30 * time.Millisecond}, 500, 60, time.Millisecond, time.Second)
	if len(got) != 500 {
		t.Fatalf("%d of 500 arrived", len(got))
	}
	spread := map[time.Duration]bool{}
	for n, a := range got {
		sent := time.Duration(a.number) * time.Millisecond
		if a.number != uint32(n) {
			t.Fatalf("frame %d arrived as number %d: jitter must not reorder", a.number, n)
		}
		if took := a.after - sent; took < 20*time.Millisecond || took > 50*time.Millisecond {
			t.Fatalf("frame %d took %v, want 20 to 50 ms", a.number, took)
		}
		spread[a.after-sent] = true
	}
	if len(spread) < 50 {
		t.Errorf("only %d different delays: no jitter", len(spread))
	}
}

func TestSharesAreMet(t *testing.T) {
	const frames = 20000
	for _, test := range []struct {
		name       string
		impairment Impairment
		count      func(Counters) uint64
	}{
		{"loss", Impairment{Loss: 0.1}, func(c Counters) uint64 { return c.Lost }},
		{"duplicate", Impairment{Duplicate: 0.1}, func(c Counters) uint64 { return c.Duplicated }},
		{"reorder", Impairment{Reorder: 0.1}, func(c Counters) uint64 { return c.Reordered }},
		{"corrupt", Impairment{Corrupt: 0.1}, func(c Counters) uint64 { return c.Corrupted }},
	} {
		t.Run(test.name, func(t *testing.T) {
			got, counters := send(t, test.impairment, frames, 64, time.Millisecond, time.Second)
			// Binomial: the standard deviation is 42; five of them.
			if n := test.count(counters); n < 1790 || n > 2210 {
				t.Errorf("%d of %d frames, want about 2000", n, frames)
			}
			if want := counters.Sent - counters.Lost + counters.Duplicated; uint64(len(got)) != want {
				t.Errorf("%d arrived, counters say %d", len(got), want)
			}
			overtaken, turned := 0, 0
			highest := uint32(0)
			for _, a := range got {
				highest = max(highest, a.number)
				if a.number < highest {
					overtaken++
				}
				if a.turned == 1 || a.turned > 1 && a.turned < 33 {
					turned++
				}
			}
			if (test.name == "reorder") != (overtaken > 1000) {
				t.Errorf("%d frames were overtaken", overtaken)
			}
			if uint64(turned) != counters.Corrupted && test.name != "corrupt" {
				t.Errorf("%d frames corrupted", turned)
			}
			if test.name == "corrupt" && turned < 1000 {
				t.Errorf("only %d frames differ from what was sent", turned)
			}
		})
	}
}

func TestRateSpreadsFramesAndBoundsTheQueue(t *testing.T) {
	// 1000 bytes at 1 Mbit/s take 8 ms; all ten are sent at once.
	got, _ := send(t, Impairment{Rate: 1_000_000}, 10, 1000, 0, time.Second)
	for n, a := range got {
		if want := time.Duration(n+1) * 8 * time.Millisecond; a.after != want {
			t.Errorf("frame %d arrived after %v, want %v", n, a.after, want)
		}
	}
	got, counters := send(t, Impairment{Rate: 1_000_000, Queue: 5000}, 10, 1000, 0, time.Second)
	if len(got) != 5 || counters.Overflowed != 5 {
		t.Errorf("%d arrived and %d overflowed of 10, want 5 and 5", len(got), counters.Overflowed)
	}
}

func TestPartitionCanHeal(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		arrived := 0
		line := NewLine(1, func([]byte) { arrived++ })
		line.Impair(Impairment{Partition: true})
		line.Send(make([]byte, 60))
		if arrived != 0 {
			t.Error("a frame crossed the partition")
		}
		line.Impair(Impairment{})
		line.Send(make([]byte, 60))
		if arrived != 1 {
			t.Error("no frame crosses after the partition")
		}
	})
}

func TestSameSeedSameFate(t *testing.T) {
	impairment := Impairment{Delay: time.Millisecond, Jitter: time.Millisecond, Loss: 0.3, Duplicate: 0.2, Reorder: 0.2, Corrupt: 0.2}
	first, _ := send(t, impairment, 1000, 64, time.Millisecond, time.Second)
	second, _ := send(t, impairment, 1000, 64, time.Millisecond, time.Second)
	if diff := cmp.Diff(first, second, cmp.AllowUnexported(arrival{})); diff != "" {
		t.Error(diff)
	}
}

func TestValidate(t *testing.T) {
	for _, bad := range []Impairment{{Loss: 1.1}, {Loss: -0.1}, {Corrupt: 2}, {Delay: -1}, {Jitter: 2 * time.Minute}, {Rate: -1}} {
		if bad.Validate() == nil {
			t.Errorf("%+v is accepted", bad)
		}
	}
	if err := (Impairment{Loss: 1, Delay: time.Second}).Validate(); err != nil {
		t.Error(err)
	}
}

func TestWireJoinsBothWaysAndEnds(t *testing.T) {
	a, hostA := net.Pipe()
	b, hostB := net.Pipe()
	w := New(a, b, 1)
	done := make(chan struct{})
	ctx, cancel := context.WithCancel(t.Context())
	go func() { w.Run(ctx); close(done) }()
	for _, way := range []struct{ from, to net.Conn }{{hostA, hostB}, {hostB, hostA}} {
		if _, err := way.from.Write([]byte("frame")); err != nil {
			t.Fatal(err)
		}
		got := make([]byte, 5)
		if _, err := io.ReadFull(way.to, got); err != nil || string(got) != "frame" {
			t.Fatalf("read %q, %v", got, err)
		}
	}
	cancel()
	<-done
}
