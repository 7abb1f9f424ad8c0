package wireguardtest

import (
	"encoding/binary"
	"errors"
	"net"
	"net/netip"
	"sync"
	"testing"
	"time"
)

// stream is a flow of numbered datagrams to an echo on another host, so that each one that is lost on either way is counted.
type stream struct {
	t        *testing.T
	out      *net.UDPConn
	stop     chan struct{}
	sending  sync.WaitGroup
	back     chan struct{} // closed when nothing more is read
	mu       sync.Mutex
	sent     uint64
	returned map[uint64]bool
	news     chan struct{} // something came back
	close    func()        // once; waits for all
}

const (
	streamEvery   = time.Millisecond // 1,000 packets a second
	streamSize    = 200
	streamWindow  = 48               // packets on the way at once: a busy machine makes the flow slower, and overruns no socket's queue (208 KiB hold some 90 that came through a TUN)
	streamPatient = 30 * time.Second // after the last packet nothing can be on the way for longer, on a line of one busy host
)

// stream starts a flow through the tunnel to a host's inner address. The tunnel has a session already, so that not even the first waits.
func (s *site) stream(far *site, address string) *stream {
	s.t.Helper()
	to := netip.AddrPortFrom(netip.MustParseAddr(address), 7)
	var echo *net.UDPConn
	far.Do(func() {
		var err error
		if echo, err = net.ListenUDP("udp", net.UDPAddrFromAddrPort(to)); err != nil {
			s.t.Fatal(err)
		}
	})
	st := &stream{t: s.t, stop: make(chan struct{}), back: make(chan struct{}), returned: map[uint64]bool{}, news: make(chan struct{}, 1)}
	s.Do(func() {
		var err error
		if st.out, err = net.DialUDP("udp", nil, net.UDPAddrFromAddrPort(to)); err != nil {
			s.t.Fatal(err)
		}
	})
	var echoing sync.WaitGroup
	echoing.Go(func() {
		buffer := make([]byte, 2*streamSize)
		for {
			n, from, err := echo.ReadFromUDPAddrPort(buffer)
			if errors.Is(err, net.ErrClosed) {
				return
			}
			if err == nil {
				_, _ = echo.WriteToUDPAddrPort(buffer[:n], from) // what does not leave is lost, and counted
			}
		}
	})
	st.sending.Go(st.send)
	go st.receive()
	st.close = sync.OnceFunc(func() {
		st.finish()
		st.out.Close()
		echo.Close()
		<-st.back
		echoing.Wait()
	})
	s.t.Cleanup(st.close)
	return st
}

func (st *stream) send() {
	tick := time.NewTicker(streamEvery)
	defer tick.Stop()
	packet := make([]byte, streamSize)
	for {
		select {
		case <-st.stop:
			return
		case <-tick.C:
			st.mu.Lock()
			n, full := st.sent, st.sent-uint64(len(st.returned)) >= streamWindow
			if !full {
				st.sent++
			}
			st.mu.Unlock()
			if full {
				continue
			}
			binary.BigEndian.PutUint64(packet, n)
			_, _ = st.out.Write(packet) // what does not leave is lost, and counted
		}
	}
}

func (st *stream) receive() {
	defer close(st.back)
	buffer := make([]byte, 2*streamSize)
	for {
		n, err := st.out.Read(buffer)
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil || n < 8 { // an ICMP error shows up here; the packet it speaks of is lost, and counted
			continue
		}
		st.mu.Lock()
		st.returned[binary.BigEndian.Uint64(buffer)] = true
		st.mu.Unlock()
		select {
		case st.news <- struct{}{}:
		default:
		}
	}
}

func (st *stream) finish() {
	select {
	case <-st.stop:
	default:
		close(st.stop)
	}
	st.sending.Wait()
}

// end stops the flow, waits for what is on the way, and gives what was sent and lost.
func (st *stream) end() (sent, lost int) {
	st.t.Helper()
	defer st.close()
	st.finish()
	timeout := time.After(streamPatient)
	for {
		st.mu.Lock()
		sent, lost = int(st.sent), int(st.sent)-len(st.returned)
		st.mu.Unlock()
		if lost == 0 {
			return sent, 0
		}
		select {
		case <-st.news:
		case <-timeout:
			return sent, lost
		}
	}
}

// atLeast waits until so many more packets have come back, so that what is tested happens amid traffic.
func (st *stream) atLeast(n int) {
	st.t.Helper()
	st.mu.Lock()
	goal := len(st.returned) + n
	st.mu.Unlock()
	timeout := time.After(30 * time.Second)
	for {
		st.mu.Lock()
		have := len(st.returned)
		st.mu.Unlock()
		if have >= goal {
			return
		}
		select {
		case <-st.news:
		case <-timeout:
			st.t.Fatalf("only %d of %d packets came back in 30 s", have, goal)
		}
	}
}

// mustLoseNothing ends the flow and fails the test if anything was lost, or if it carried too little to say so.
func (st *stream) mustLoseNothing() {
	st.t.Helper()
	sent, lost := st.end()
	if lost > 0 || sent < 100 {
		st.t.Errorf("%d of %d packets lost", lost, sent)
	}
}
