package swarm

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.zx2c4.com/wireguard/device"
)

// WireGuard message types, as the first byte of a packet.
const (
	messageInitiation = device.MessageInitiationType
	messageResponse   = device.MessageResponseType
	messageCookie     = device.MessageCookieReplyType
	messageTransport  = device.MessageTransportType
)

// Config is a test peer.
type Config struct {
	Name             string         `json:"name"`
	PrivateKey       Key            `json:"privateKey"`
	PresharedKey     Key            `json:"presharedKey,omitzero"`
	Local            netip.AddrPort `json:"local"` // outer address and port to bind; port 0: any
	FarKey           Key            `json:"farKey"`
	FarEndpoint      netip.AddrPort `json:"farEndpoint,omitzero"` // zero: wait to be spoken to
	Addresses        []netip.Addr   `json:"addresses"`            // inner; the first of a family is the source of its streams
	AllowedIPs       []netip.Prefix `json:"allowedIPs,omitempty"` // what is sent to and taken from the far end; none: everything
	KeepaliveSeconds int            `json:"keepaliveSeconds,omitempty"`
	MTU              int            `json:"mtu,omitempty"` // 0: 1420
}

const defaultMTU = 1420

func (c Config) check() error {
	switch {
	case c.Name == "":
		return errors.New("peer has no name")
	case c.PrivateKey == Key{} || c.FarKey == Key{}:
		return fmt.Errorf("peer %q lacks its own private or the far public key", c.Name)
	case !c.Local.IsValid() || c.Local.Addr().IsUnspecified():
		return fmt.Errorf("peer %q has no address of its own to be bound to", c.Name)
	case len(c.Addresses) == 0:
		return fmt.Errorf("peer %q has no inner address", c.Name)
	case c.MTU < 0 || c.MTU > 65535 || c.KeepaliveSeconds < 0 || c.KeepaliveSeconds > 65535:
		return fmt.Errorf("peer %q: MTU or keepalive is not between 0 and 65535", c.Name)
	}
	return nil
}

// settings is the configuration in the text form of the WireGuard configuration protocol.
func (c Config) settings() string {
	var b strings.Builder
	fmt.Fprintf(&b, "private_key=%s\nreplace_peers=true\npublic_key=%s\n", c.PrivateKey.hex(), c.FarKey.hex())
	fmt.Fprintf(&b, "preshared_key=%s\npersistent_keepalive_interval=%d\n", c.PresharedKey.hex(), c.KeepaliveSeconds)
	if c.FarEndpoint.IsValid() {
		fmt.Fprintf(&b, "endpoint=%s\n", c.FarEndpoint)
	}
	allowed := c.AllowedIPs
	if len(allowed) == 0 {
		allowed = []netip.Prefix{netip.MustParsePrefix("0.0.0.0/0"), netip.MustParsePrefix("::/0")}
	}
	for _, prefix := range allowed {
		fmt.Fprintf(&b, "allowed_ip=%s\n", prefix)
	}
	return b.String()
}

// peer is a running test peer.
type peer struct {
	config Config
	bind   *bind
	tun    *memoryTUN
	device *device.Device
	loops  sync.WaitGroup
	ctx    context.Context // ends with the peer
	cancel context.CancelFunc

	mu      sync.Mutex // guards what follows
	streams []*stream
	quiet   context.CancelFunc // ends the streams that run
	running context.Context
	broken  []string           // how, since it was last mended
	peace   context.CancelFunc // ends the breaking
	breaks  context.Context
	echoed  uint64 // requests of others that were answered
	strays  uint64
	other   uint64
}

func newPeer(config Config) (*peer, error) {
	if err := config.check(); err != nil {
		return nil, err
	}
	p := &peer{config: config, bind: &bind{local: config.Local}}
	mtu := config.MTU
	if mtu == 0 {
		mtu = defaultMTU
	}
	p.tun = newMemoryTUN(mtu, p.arrive)
	p.ctx, p.cancel = context.WithCancel(context.Background())
	p.running, p.quiet = context.WithCancel(p.ctx)
	p.breaks, p.peace = context.WithCancel(p.ctx)
	p.device = device.NewDevice(p.tun, p.bind, device.NewLogger(device.LogLevelSilent, ""))
	err := p.device.IpcSet(config.settings())
	if err == nil {
		err = p.device.Up()
	}
	if err != nil {
		p.close()
		return nil, fmt.Errorf("start peer %q: %w", config.Name, err)
	}
	return p, nil
}

func (p *peer) close() {
	p.cancel()
	p.device.Close()
	p.loops.Wait()
}

// address is the inner address of the same family as to.
func (p *peer) address(to netip.Addr) (netip.Addr, error) {
	i := slices.IndexFunc(p.config.Addresses, func(a netip.Addr) bool { return a.Is4() == to.Is4() })
	if i < 0 {
		return netip.Addr{}, fmt.Errorf("peer %q has no inner address of the family of %s", p.config.Name, to)
	}
	return p.config.Addresses[i], nil
}

func (p *peer) stream(s Stream) error {
	if err := s.check(); err != nil {
		return err
	}
	source, err := p.address(s.To)
	if err != nil {
		return err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.streams) == maxStreams {
		return fmt.Errorf("peer %q has %d streams already", p.config.Name, maxStreams)
	}
	begun, ctx := newStream(s, uint16(len(p.streams)), source), p.running
	p.streams = append(p.streams, begun)
	p.loops.Go(func() { begun.run(ctx, p.tun.send) })
	return nil
}

// stopStreams ends what runs, and waits until it sends no more; forget also forgets all figures.
func (p *peer) stopStreams(forget bool) {
	p.mu.Lock()
	p.quiet()
	p.running, p.quiet = context.WithCancel(p.ctx)
	ending := slices.Clone(p.streams)
	p.mu.Unlock()
	for _, s := range ending {
		<-s.ended
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if forget {
		p.streams, p.echoed, p.strays, p.other = nil, 0, 0, 0
	}
}

// arrive takes an inner packet that the far end sent us.
func (p *peer) arrive(packet []byte) {
	d, err := parse(packet)
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case err == nil && !slices.Contains(p.config.Addresses, d.destination):
		p.strays++
	case err == nil && p.reply(d):
		p.echoed++
	case err != nil || !p.answered(d):
		p.other++
	}
}

// reply answers what asks for an echo.
func (p *peer) reply(d datagram) bool {
	request, reply := echoTypes(d.source.Is6())
	switch {
	case len(d.payload) < 8:
		return false
	case d.protocol == protocolUDP && binary.BigEndian.Uint16(d.payload[2:]) == echoPort:
		back := binary.BigEndian.Uint16(d.payload)
		return p.tun.offer(udp(netip.AddrPortFrom(d.destination, echoPort), netip.AddrPortFrom(d.source, back), d.payload[8:]).build())
	case (d.protocol == protocolICMP || d.protocol == protocolICMPv6) && d.payload[0] == request:
		rest := binary.BigEndian.Uint32(d.payload[4:])
		return p.tun.offer(icmp(d.destination, d.source, reply, 0, rest, d.payload[8:]).build())
	}
	return false
}

// answered gives an answer to the stream that it belongs to.
func (p *peer) answered(d datagram) bool {
	_, reply := echoTypes(d.source.Is6())
	if len(d.payload) < 8 {
		return false
	}
	number := -1
	switch {
	case d.protocol == protocolUDP:
		number = int(binary.BigEndian.Uint16(d.payload[2:])) - firstPort
	case (d.protocol == protocolICMP || d.protocol == protocolICMPv6) && d.payload[0] == reply:
		number = int(binary.BigEndian.Uint16(d.payload[4:])) - firstPort
	}
	return number >= 0 && number < len(p.streams) && p.streams[number].answer(d.source, d.payload[8:])
}

// Report is a peer as it stands.
type Report struct {
	Name          string         `json:"name"`
	PublicKey     Key            `json:"publicKey"`
	Local         netip.AddrPort `json:"local"`
	Handshakes    uint64         `json:"handshakes"`             // completed, by either side's asking
	LastHandshake time.Time      `json:"lastHandshake,omitzero"` // by the device
	ReceivedBytes uint64         `json:"receivedBytes"`          // outer, UDP payload
	SentBytes     uint64         `json:"sentBytes"`
	Sent          uint64         `json:"sent"` // packets, over all streams
	Answered      uint64         `json:"answered"`
	Lost          uint64         `json:"lost"`
	Pending       uint64         `json:"pending"`
	GapSeconds    float64        `json:"gapSeconds"` // the longest of any stream
	Echoed        uint64         `json:"echoed"`     // requests from the far side that were answered
	Strays        uint64         `json:"strays"`     // packets that came for an address which is not ours
	Other         uint64         `json:"other"`      // packets for us that are neither request nor answer
	Broken        []string       `json:"broken,omitempty"`
	Streams       []StreamReport `json:"streams,omitempty"`
}

func (p *peer) report() Report {
	p.mu.Lock()
	r := Report{
		Name: p.config.Name, Local: p.bind.address(), Broken: slices.Clone(p.broken),
		Handshakes: p.bind.handshakes.Load(), ReceivedBytes: p.bind.receivedBytes.Load(), SentBytes: p.bind.sentBytes.Load(),
		Echoed: p.echoed, Strays: p.strays, Other: p.other,
	}
	streams := slices.Clone(p.streams)
	p.mu.Unlock()
	r.PublicKey, _ = p.config.PrivateKey.Public() // it was derived before: checked
	now := time.Now()
	for _, s := range streams {
		one := s.report(now)
		r.Sent, r.Answered, r.Lost, r.Pending = r.Sent+one.Sent, r.Answered+one.Answered, r.Lost+one.Lost, r.Pending+one.Pending
		r.GapSeconds = max(r.GapSeconds, one.GapSeconds)
		r.Streams = append(r.Streams, one)
	}
	r.LastHandshake = p.lastHandshake()
	return r
}

func (p *peer) lastHandshake() time.Time {
	text, err := p.device.IpcGet()
	if err != nil {
		return time.Time{} // closed
	}
	var seconds, nanoseconds int64
	for lines := bufio.NewScanner(strings.NewReader(text)); lines.Scan(); {
		key, value, _ := strings.Cut(lines.Text(), "=")
		switch key {
		case "last_handshake_time_sec":
			seconds, _ = strconv.ParseInt(value, 10, 64)
		case "last_handshake_time_nsec":
			nanoseconds, _ = strconv.ParseInt(value, 10, 64)
		}
	}
	if seconds == 0 && nanoseconds == 0 {
		return time.Time{}
	}
	return time.Unix(seconds, nanoseconds)
}
