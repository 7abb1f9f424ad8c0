package testbed

import (
	"context"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/netip"
	"sync"
	"time"
)

// asked is what came of many requests for the time.
type asked struct {
	Sent          int `json:"sent"`
	SentBytes     int `json:"sentBytes"`
	Answered      int `json:"answered"` // by any datagram from the server
	AnsweredBytes int `json:"answeredBytes"`
	Good          int `json:"good"`           // by an answer to a request of these, that a client can set its clock by
	Kisses        int `json:"kisses"`         // by a kiss-o'-death (RFC 5905 section 7.4)
	Unsynced      int `json:"unsynchronised"` // by one that says that the server does not know the time
}

// questions is what is sent, from where, and how fast.
type questions struct {
	to      netip.AddrPort
	from    []netip.Addr // in turn
	rate    int          // a second, over all
	lasting time.Duration
	payload func() []byte // nil: a client's request
}

// answersWithin is how long answers are waited for after the last request; lateWithin how much longer where some came and others did not.
const (
	answersWithin = time.Second
	lateWithin    = 3 * time.Second
)

// askTime sends requests at a steady rate, whether they are answered or not, and prints what came of them: clients, floods and malformed packets of the scenarios. It is an
// error if more bytes come back than were sent, or other shares than wanted.
func askTime(ctx context.Context, args []string, stdout io.Writer) error {
	flags := flag.NewFlagSet("ask", flag.ContinueOnError)
	flags.SetOutput(io.Discard)
	to := flags.String("to", "", "")
	from := flags.String("from", "", "") // addresses, or one prefix of which every address asks
	rate := flags.Int("rate", 1, "")
	lasting := flags.Duration("for", time.Second, "")
	payload := flags.String("payload", "", "")    // hexadecimal
	malformed := flags.Uint64("malformed", 0, "") // seed of random packets
	least := flags.Float64("least", 0, "")        // of what was sent, with a good answer
	most := flags.Float64("most", 1, "")          // of what was sent, with any answer
	if err := flags.Parse(args); err != nil || flags.NArg() > 0 || *rate < 1 {
		return flag.ErrHelp
	}
	q := questions{rate: *rate, lasting: *lasting}
	var err error
	if q.to, err = netip.ParseAddrPort(*to); err != nil {
		return fmt.Errorf("--to: %w", err)
	}
	if q.from, err = sources(*from); err != nil {
		return fmt.Errorf("--from: %w", err)
	}
	switch {
	case *payload != "":
		var packets [][]byte
		for _, text := range split(*payload) {
			packet, err := hex.DecodeString(text)
			if err != nil {
				return fmt.Errorf("--payload: %w", err)
			}
			packets = append(packets, packet)
		}
		next := 0
		q.payload = func() []byte { next++; return packets[next%len(packets)] }
	case *malformed != 0:
		q.payload = malformedPackets(*malformed)
	}
	result, err := q.run(ctx)
	if err != nil {
		return err
	}
	if err := json.NewEncoder(stdout).Encode(result); err != nil {
		return err
	}
	switch sent := float64(result.Sent); {
	case result.AnsweredBytes > result.SentBytes:
		return fmt.Errorf("%d bytes were sent, and %d came back", result.SentBytes, result.AnsweredBytes)
	case float64(result.Good) < *least*sent:
		return fmt.Errorf("%d of %d have a good answer, %g must", result.Good, result.Sent, *least)
	case float64(result.Answered) > *most*sent:
		return fmt.Errorf("%d of %d have an answer, %g may", result.Answered, result.Sent, *most)
	}
	return nil
}

func sources(list string) ([]netip.Addr, error) {
	if prefix, err := netip.ParsePrefix(list); err == nil {
		var all []netip.Addr
		for a := prefix.Masked().Addr(); prefix.Contains(a) && len(all) < 1<<10; a = a.Next() {
			all = append(all, a)
		}
		return all, nil
	}
	var all []netip.Addr
	for _, text := range split(list) {
		a, err := netip.ParseAddr(text)
		if err != nil {
			return nil, err
		}
		all = append(all, a)
	}
	return all, nil
}

// malformedPackets are of every kind: random bytes of any length, and requests that were cut, made longer, or changed in a byte.
func malformedPackets(seed uint64) func() []byte {
	random := rand.New(rand.NewPCG(seed, 0))
	fill := func(b []byte) []byte {
		for i := range b {
			b[i] = byte(random.Uint32())
		}
		return b
	}
	return func() []byte {
		request := newRequest(random.Uint64())
		switch random.IntN(5) {
		case 0:
			return fill(make([]byte, random.IntN(1400)))
		case 1:
			return request[:random.IntN(ntpLength)]
		case 2:
			return append(request, fill(make([]byte, 1+random.IntN(200)))...)
		case 3: // extension fields whose lengths do not fit (RFC 7822)
			rest := fill(make([]byte, 4*(1+random.IntN(32))))
			binary.BigEndian.PutUint16(rest[2:], uint16(random.IntN(512)))
			return append(request, rest...)
		}
		request[random.IntN(8)] = byte(random.Uint32())
		return request
	}
}

// newRequest is a client's whose transmit time is a number, as clients do that keep their clock to themselves.
func newRequest(number uint64) []byte {
	request := make([]byte, ntpLength)
	request[0] = ntpClientByte
	binary.BigEndian.PutUint64(request[ntpTransmit:], number)
	return request
}

func (q questions) run(ctx context.Context) (asked, error) {
	var result asked
	var mu sync.Mutex // guards result and open
	open := map[uint64]bool{}
	var reading sync.WaitGroup
	var sockets []net.Conn
	defer func() {
		for _, s := range sockets {
			s.Close()
		}
		reading.Wait()
	}()
	if len(q.from) == 0 {
		q.from = []netip.Addr{{}}
	}
	for _, source := range q.from {
		dialer := net.Dialer{Control: roomy.Control}
		if source.IsValid() {
			dialer.LocalAddr = net.UDPAddrFromAddrPort(netip.AddrPortFrom(source, 0))
		}
		socket, err := dialer.DialContext(ctx, "udp", q.to.String())
		if err != nil {
			return asked{}, err
		}
		sockets = append(sockets, socket)
		reading.Go(func() {
			buffer := make([]byte, 64<<10)
			for {
				n, err := socket.Read(buffer)
				if err != nil {
					if errors.Is(err, net.ErrClosed) {
						return
					}
					continue // an ICMP error of an earlier packet
				}
				mu.Lock()
				result.count(buffer[:n], open)
				mu.Unlock()
			}
		})
	}
	began := time.Now()
	for i := 0; i < int(q.lasting.Seconds()*float64(q.rate)) && ctx.Err() == nil; i++ {
		// By the clock and not by a ticker: a busy machine catches up.
		if ahead := time.Duration(i)*time.Second/time.Duration(q.rate) - time.Since(began); ahead > 0 {
			time.Sleep(ahead)
		}
		number := rand.Uint64()
		packet := newRequest(number)
		if q.payload != nil {
			packet = q.payload()
		}
		mu.Lock()
		open[number] = true
		result.Sent, result.SentBytes = result.Sent+1, result.SentBytes+len(packet)
		mu.Unlock()
		_, _ = sockets[i%len(sockets)].Write(packet) // refused, it counts as sent and is not answered
	}
	time.Sleep(answersWithin)
	mu.Lock()
	defer mu.Unlock()
	for late := time.Now(); result.Answered > 0 && result.Answered < result.Sent && time.Since(late) < lateWithin; {
		mu.Unlock()
		time.Sleep(answersWithin / 20)
		mu.Lock()
	}
	return result, nil
}

// count notes an answer. Each request is answered once.
func (r *asked) count(answer []byte, open map[uint64]bool) {
	r.Answered, r.AnsweredBytes = r.Answered+1, r.AnsweredBytes+len(answer)
	if len(answer) < ntpLength || answer[0]&7 != ntpModeServer {
		return
	}
	number := binary.BigEndian.Uint64(answer[ntpOrigin:])
	if !open[number] {
		return
	}
	delete(open, number)
	switch leap, stratum := answer[0]>>6, answer[1]; {
	case stratum == 0 && answer[12] >= ' ':
		r.Kisses++
	case leap == 3 || stratum == 0 || stratum > 15:
		r.Unsynced++
	default:
		r.Good++
	}
}
