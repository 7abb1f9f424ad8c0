package swarm

import (
	"errors"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"

	"golang.zx2c4.com/wireguard/conn"
)

// remembered is how many of the transport packets last sent a bind keeps, to replay them.
const remembered = 64

// bind is a conn.Bind on one address. It takes one packet at a time: a device keeps a buffer of 64 KiB for each packet of a batch,
// and there may be a thousand devices.
type bind struct {
	sentBytes, receivedBytes atomic.Uint64
	handshakes               atomic.Uint64 // responses sent or received: one for each handshake that was completed

	mu     sync.Mutex // guards what follows
	local  netip.AddrPort
	socket *net.UDPConn   // nil while closed
	storm  []*net.UDPConn // sockets to send from in turn, instead of socket
	turn   int
	sent   [][]byte // transport packets last sent, a ring
	next   int
}

// endpoint is the far side's outer address.
type endpoint netip.AddrPort

func (endpoint) ClearSrc()             {}
func (endpoint) SrcToString() string   { return "" }
func (endpoint) SrcIP() netip.Addr     { return netip.Addr{} }
func (e endpoint) DstToString() string { return netip.AddrPort(e).String() }
func (e endpoint) DstIP() netip.Addr   { return netip.AddrPort(e).Addr() }
func (e endpoint) DstToBytes() []byte {
	b, _ := netip.AddrPort(e).MarshalBinary() // never fails
	return b
}

// Open binds the socket. The port is that of local, whatever the device thinks: only the address and port together say who we are.
func (b *bind) Open(uint16) ([]conn.ReceiveFunc, uint16, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.socket != nil {
		return nil, 0, conn.ErrBindAlreadyOpen
	}
	socket, err := net.ListenUDP("udp", net.UDPAddrFromAddrPort(b.local))
	if err != nil {
		return nil, 0, err
	}
	b.socket = socket
	return []conn.ReceiveFunc{b.receive}, localPort(socket), nil
}

func localPort(socket *net.UDPConn) uint16 {
	return socket.LocalAddr().(*net.UDPAddr).AddrPort().Port()
}

func (b *bind) receive(packets [][]byte, sizes []int, endpoints []conn.Endpoint) (int, error) {
	for {
		socket := b.current()
		if socket == nil {
			return 0, net.ErrClosed
		}
		n, from, err := socket.ReadFromUDPAddrPort(packets[0])
		if err != nil {
			if errors.Is(err, net.ErrClosed) && b.current() != socket {
				continue // roamed: another socket has taken its place, or none
			}
			return 0, err
		}
		b.receivedBytes.Add(uint64(n))
		if n > 0 && packets[0][0] == messageResponse {
			b.handshakes.Add(1)
		}
		sizes[0] = n
		endpoints[0] = endpoint(netip.AddrPortFrom(from.Addr().Unmap(), from.Port()))
		return 1, nil
	}
}

func (b *bind) current() *net.UDPConn {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.socket
}

// Close closes the socket; receive then says net.ErrClosed.
func (b *bind) Close() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.calm()
	if b.socket == nil {
		return nil
	}
	err := b.socket.Close()
	b.socket = nil
	return err
}

// calm ends a storm. The caller holds mu.
func (b *bind) calm() {
	for _, socket := range b.storm {
		socket.Close()
	}
	b.storm = nil
}

// Send sends packets that the device made.
func (b *bind) Send(packets [][]byte, to conn.Endpoint) error {
	for _, packet := range packets {
		switch packet[0] {
		case messageTransport:
			b.remember(packet)
		case messageResponse:
			b.handshakes.Add(1)
		}
		if err := b.sendRaw(packet, netip.AddrPort(to.(endpoint))); err != nil {
			return err
		}
	}
	return nil
}

// sendRaw sends any bytes.
func (b *bind) sendRaw(packet []byte, to netip.AddrPort) error {
	b.mu.Lock()
	socket := b.socket
	if len(b.storm) > 0 {
		b.turn = (b.turn + 1) % len(b.storm)
		socket = b.storm[b.turn]
	}
	b.mu.Unlock()
	if socket == nil {
		return net.ErrClosed
	}
	n, err := socket.WriteToUDPAddrPort(packet, to)
	b.sentBytes.Add(uint64(n))
	return err
}

func (b *bind) remember(packet []byte) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.sent == nil {
		b.sent = make([][]byte, 0, remembered)
	}
	if len(b.sent) < remembered {
		b.sent = append(b.sent, append([]byte(nil), packet...))
		return
	}
	b.sent[b.next] = append(b.sent[b.next][:0], packet...)
	b.next = (b.next + 1) % remembered
}

// recall returns a copy of a transport packet that was sent, the n-th of those remembered; nil if there is none.
func (b *bind) recall(n int) []byte {
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.sent) == 0 {
		return nil
	}
	return append([]byte(nil), b.sent[n%len(b.sent)]...)
}

// roam moves to another local address or port without the device knowing, as when a client changes networks.
func (b *bind) roam(local netip.AddrPort) error {
	socket, err := net.ListenUDP("udp", net.UDPAddrFromAddrPort(local))
	if err != nil {
		return err
	}
	b.mu.Lock()
	old := b.socket
	b.socket = socket
	b.mu.Unlock()
	if old != nil {
		return old.Close()
	}
	return nil
}

// address is where the bind is bound, with the port that the kernel chose; else where it would be.
func (b *bind) address() netip.AddrPort {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.socket == nil {
		return b.local
	}
	bound := b.socket.LocalAddr().(*net.UDPAddr).AddrPort()
	return netip.AddrPortFrom(bound.Addr().Unmap(), bound.Port())
}

// beginStorm: from now on every packet leaves from another port.
func (b *bind) beginStorm(ports int) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	for range ports {
		socket, err := net.ListenUDP("udp", net.UDPAddrFromAddrPort(netip.AddrPortFrom(b.local.Addr(), 0)))
		if err != nil {
			b.calm()
			return err
		}
		b.storm = append(b.storm, socket)
	}
	return nil
}

// SetMark does nothing: a test peer is not subject to the rules of its host.
func (b *bind) SetMark(uint32) error { return nil }

// ParseEndpoint reads address:port.
func (b *bind) ParseEndpoint(s string) (conn.Endpoint, error) {
	to, err := netip.ParseAddrPort(s)
	return endpoint(to), err
}

// BatchSize is one: see bind.
func (b *bind) BatchSize() int { return 1 }
