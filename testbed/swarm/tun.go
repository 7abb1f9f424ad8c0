package swarm

import (
	"os"
	"sync"

	"golang.zx2c4.com/wireguard/tun"
)

// memoryTUN is the inside of a peer: packets that it sends come from a channel, packets that arrive go to a function.
type memoryTUN struct {
	mtu     int
	sends   chan []byte
	arrives func(packet []byte) // may not keep packet, may not block
	events  chan tun.Event
	closed  chan struct{}
	close   sync.Once
}

func newMemoryTUN(mtu int, arrives func([]byte)) *memoryTUN {
	return &memoryTUN{
		mtu: mtu, arrives: arrives,
		sends:  make(chan []byte, 128),
		events: make(chan tun.Event),
		closed: make(chan struct{}),
	}
}

// send hands a packet to the device; false: the device is closed.
func (t *memoryTUN) send(packet []byte) bool {
	select {
	case t.sends <- packet:
		return true
	case <-t.closed:
		return false
	}
}

// offer is send for callers that may not wait; false: there was no room.
func (t *memoryTUN) offer(packet []byte) bool {
	select {
	case t.sends <- packet:
		return true
	default:
		return false
	}
}

func (t *memoryTUN) Read(buffers [][]byte, sizes []int, offset int) (int, error) {
	select {
	case packet := <-t.sends:
		sizes[0] = copy(buffers[0][offset:], packet)
		return 1, nil
	case <-t.closed:
		return 0, os.ErrClosed
	}
}

func (t *memoryTUN) Write(buffers [][]byte, offset int) (int, error) {
	for _, buffer := range buffers {
		t.arrives(buffer[offset:])
	}
	return len(buffers), nil
}

func (t *memoryTUN) Close() error {
	t.close.Do(func() {
		close(t.closed)
		close(t.events)
	})
	return nil
}

func (t *memoryTUN) File() *os.File           { return nil }
func (t *memoryTUN) MTU() (int, error)        { return t.mtu, nil }
func (t *memoryTUN) Name() (string, error)    { return "swarm", nil }
func (t *memoryTUN) Events() <-chan tun.Event { return t.events }
func (t *memoryTUN) BatchSize() int           { return 1 }
