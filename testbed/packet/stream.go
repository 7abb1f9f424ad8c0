package packet

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Stream is a stream of numbered packets to a far end and back: UDP to an echo that Run opens there, or ICMP echo.
type Stream struct {
	From        Place
	To          Place // UDP alone: where Destination lives
	Source      netip.Addr
	Destination netip.Addr
	Port        uint16 // UDP; 0: ICMP echo
	Rate        int    // packets per second
	Size        int    // payload in bytes; at least 16
}

// Account is what became of a stream's packets.
type Account struct {
	Sent       int           `json:"sent"`
	Received   int           `json:"received"` // that came back, each counted once
	Reordered  int           `json:"reordered"`
	Duplicated int           `json:"duplicated"`
	LongestGap time.Duration `json:"longestGap"` // longest time without an answer while packets were sent, in nanoseconds
	Took       time.Duration `json:"took"`
}

// Lost is how many packets did not come back.
func (a Account) Lost() int { return a.Sent - a.Received }

func (a Account) String() string {
	return fmt.Sprintf("%d sent, %d lost, %d reordered, %d duplicated, longest gap %v", a.Sent, a.Lost(), a.Reordered, a.Duplicated, a.LongestGap.Round(time.Millisecond))
}

// Running is a stream under way.
type Running struct {
	stream  Stream
	conn    net.PacketConn
	to      net.Addr
	echo    net.PacketConn
	id      uint16
	stop    context.CancelFunc
	threads sync.WaitGroup
	sender  sync.WaitGroup // ends before the account is closed

	mu       sync.Mutex // guards below
	began    time.Time
	account  Account
	seen     []uint64    // a bit for each number that came back
	first    int         // the lowest number that may be on the way
	pending  int         // how many from there on have not come back
	sentAt   []time.Time // of those from there on, a ring
	highest  int
	last     time.Time // newest answer, or the start
	complete chan struct{}
	stopped  bool
}

// Start begins the stream. It goes on until Stop.
func (s Stream) Start() (*Running, error) {
	if s.Rate < 1 || s.Rate > 200_000 {
		return nil, fmt.Errorf("stream: rate is %d packets a second, 1 to 200000 is wanted", s.Rate)
	}
	s.Size = max(s.Size, 16)
	r := &Running{stream: s, highest: -1, sentAt: make([]time.Time, leastWindow+2*s.Rate), complete: make(chan struct{}, 1)}
	if err := r.open(); err != nil {
		r.close()
		return nil, fmt.Errorf("stream from %s to %s: %w", s.Source, s.Destination, err)
	}
	ctx, stop := context.WithCancel(context.Background())
	r.stop = stop
	r.began = time.Now()
	r.last = r.began
	if r.echo != nil {
		r.threads.Go(r.answer)
	}
	r.threads.Go(r.receive)
	r.sender.Go(func() { r.send(ctx) })
	return r, nil
}

func (r *Running) open() error {
	s := r.stream
	if s.Port == 0 {
		network := "ip4:icmp"
		if s.Source.Is6() {
			network = "ip6:ipv6-icmp"
		}
		r.to = &net.IPAddr{IP: s.Destination.AsSlice()}
		return s.From.Do(func() (err error) {
			r.conn, err = listen(network, s.Source.String())
			if err != nil {
				return err
			}
			r.id = uint16(time.Now().UnixNano()) // tells this stream's answers from others of the same host
			return nil
		})
	}
	r.to = net.UDPAddrFromAddrPort(netip.AddrPortFrom(s.Destination, s.Port))
	err := s.To.Do(func() (err error) {
		r.echo, err = listen("udp", netip.AddrPortFrom(s.Destination, s.Port).String())
		return err
	})
	if err != nil {
		return err
	}
	return s.From.Do(func() (err error) {
		r.conn, err = listen("udp", netip.AddrPortFrom(s.Source, 0).String())
		return err
	})
}

// listen opens a socket whose queue holds several seconds of a stream. The default of 208 KiB holds some 90 packets that came
// through a TUN (2,304 bytes each in the kernel's account): a busy machine would lose them here, and the account would blame the path.
func listen(network, address string) (net.PacketConn, error) {
	config := net.ListenConfig{Control: func(_, _ string, raw syscall.RawConn) error {
		var refused error
		err := raw.Control(func(fd uintptr) {
			refused = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, 16<<20)
		})
		return errors.Join(err, refused)
	}}
	return config.ListenPacket(context.Background(), network, address)
}

func (r *Running) close() {
	if r.conn != nil {
		r.conn.Close()
	}
	if r.echo != nil {
		r.echo.Close()
	}
}

func (r *Running) answer() {
	buffer := make([]byte, 64<<10)
	for {
		n, from, err := r.echo.ReadFrom(buffer)
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err == nil {
			_, _ = r.echo.WriteTo(buffer[:n], from) // a lost answer is what the stream counts
		}
	}
}

const (
	leastWindow = 64          // packets that may be on the way at once, whatever the rate
	lostAfter   = time.Second // what has not come back by then is on the way no more; it counts if it comes back still
)

// send keeps the rate over a pause: what fell due is sent at the next millisecond, but no more than the window. A busy machine so makes the
// stream slower instead of overrunning a queue on the way, which the account would blame the path for.
func (r *Running) send(ctx context.Context) {
	tick := time.NewTicker(max(time.Millisecond, time.Second/time.Duration(r.stream.Rate)))
	defer tick.Stop()
	payload := make([]byte, r.stream.Size)
	skipped := 0 // fell due while the window was full
	for number := 0; ; {
		due := int(time.Since(r.began).Seconds()*float64(r.stream.Rate)) + 1 - skipped
		for number < due {
			if !r.admit(number) {
				skipped += due - number
				break
			}
			binary.BigEndian.PutUint64(payload[8:], uint64(number))
			_, _ = r.conn.WriteTo(r.frame(payload, uint16(number)), r.to) // refused is lost
			number++
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// admit counts a packet as sent if the window has room for it.
func (r *Running) admit(number int) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	now := time.Now()
	for ; r.first < number; r.first++ {
		back := r.cameBack(r.first)
		if !back && now.Sub(r.sentAt[r.first%len(r.sentAt)]) <= lostAfter {
			break
		}
		if !back {
			r.pending--
		}
	}
	full := r.pending >= max(leastWindow, r.stream.Rate/20) && now.Sub(r.last) < lostAfter // where nothing comes back, nothing is on the way
	if full || number-r.first >= len(r.sentAt) {
		return false
	}
	r.sentAt[number%len(r.sentAt)] = now
	r.pending++
	r.account.Sent++
	return true
}

func (r *Running) cameBack(number int) bool {
	return number/64 < len(r.seen) && r.seen[number/64]&(1<<(number%64)) != 0
}

// frame puts an ICMP echo header before the payload.
func (r *Running) frame(payload []byte, sequence uint16) []byte {
	if r.stream.Port != 0 {
		return payload
	}
	kind := byte(8)
	if r.stream.Source.Is6() {
		kind = 128 // its checksum is the kernel's (RFC 3542, 3.1)
	}
	frame := append([]byte{kind, 0, 0, 0}, binary.BigEndian.AppendUint16(binary.BigEndian.AppendUint16(nil, r.id), sequence)...)
	frame = append(frame, payload...)
	if kind == 8 {
		binary.BigEndian.PutUint16(frame[2:], checksum(frame))
	}
	return frame
}

// checksum is RFC 1071's.
func checksum(data []byte) uint16 {
	var sum uint32
	for i := 0; i+1 < len(data); i += 2 {
		sum += uint32(binary.BigEndian.Uint16(data[i:]))
	}
	if len(data)%2 == 1 {
		sum += uint32(data[len(data)-1]) << 8
	}
	for sum > 0xffff {
		sum = sum>>16 + sum&0xffff
	}
	return ^uint16(sum)
}

func (r *Running) receive() {
	buffer := make([]byte, 64<<10)
	for {
		n, _, err := r.conn.ReadFrom(buffer)
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			continue // an ICMP error of an earlier packet
		}
		data := buffer[:n]
		if r.stream.Port == 0 {
			if len(data) < 8 || data[0] != 0 && data[0] != 129 || binary.BigEndian.Uint16(data[4:]) != r.id {
				continue
			}
			data = data[8:]
		}
		if len(data) >= 16 {
			r.count(int(binary.BigEndian.Uint64(data[8:])), time.Now())
		}
	}
}

func (r *Running) count(number int, at time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if number < 0 || number >= r.account.Sent {
		return // not ours
	}
	for len(r.seen) <= number/64 {
		r.seen = append(r.seen, 0)
	}
	if r.cameBack(number) {
		r.account.Duplicated++
		return
	}
	r.seen[number/64] |= 1 << (number % 64)
	if number >= r.first {
		r.pending--
	}
	r.account.Received++
	if number < r.highest {
		r.account.Reordered++
	}
	r.highest = max(r.highest, number)
	r.account.LongestGap = max(r.account.LongestGap, at.Sub(r.last))
	r.last = at
	if r.stopped && r.account.Received == r.account.Sent {
		select {
		case r.complete <- struct{}{}:
		default:
		}
	}
}

// Account is what happened so far. Packets under way count as lost.
func (r *Running) Account() Account {
	r.mu.Lock()
	defer r.mu.Unlock()
	a := r.account
	a.Took = time.Since(r.began)
	return a
}

// patience is how long Stop waits for packets that are under way.
const patience = 3 * time.Second

// Stop ends the stream, waits for what is under way, and returns the account.
func (r *Running) Stop() Account {
	r.stop()
	r.sender.Wait()
	r.mu.Lock()
	r.stopped = true
	account := r.account
	// The gap that is still open counts too, unless everything has come back.
	if account.Received < account.Sent {
		r.account.LongestGap = max(account.LongestGap, time.Since(r.last))
	}
	took := time.Since(r.began)
	r.mu.Unlock()
	if account.Received < account.Sent {
		timer := time.NewTimer(patience)
		select {
		case <-r.complete:
		case <-timer.C:
		}
		timer.Stop()
	}
	r.close()
	r.threads.Wait()
	r.mu.Lock()
	defer r.mu.Unlock()
	r.account.Took = took
	return r.account
}

// Abandon ends the stream at once.
func (r *Running) Abandon() {
	r.stop()
	r.close()
	r.sender.Wait()
	r.threads.Wait()
}
