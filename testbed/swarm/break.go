package swarm

import (
	"context"
	crypto "crypto/rand"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"time"
)

// Break is one way in which a peer goes bad. Of the fields, How needs some and ignores the others: see Breakages.
type Break struct {
	How     string         `json:"how"`
	Rate    int            `json:"rate,omitempty"`    // packets a second, for floods; 0: 100
	Seconds float64        `json:"seconds,omitempty"` // how long a flood lasts; 0: until mended
	Seed    uint64         `json:"seed,omitempty"`    // of what is random in it
	Local   netip.AddrPort `json:"local,omitzero"`    // where to roam to; zero: another port
	To      netip.Addr     `json:"to,omitzero"`       // inner destination; zero: a random one
	Port    uint16         `json:"port,omitempty"`    // inner destination port; 0: a random one
	Source  netip.Addr     `json:"source,omitzero"`   // inner source to pretend; zero: what How says
}

const defaultBreakRate = 100

// Breakage is a way that Break knows. Exactly one of its functions is set.
type Breakage struct {
	Name  string `json:"name"`
	Means string `json:"means"`
	// Weight is how many packets of the usual size one of its comes to; 0 is 1. Whoever wants to break a peer, and not to load the machine, sends the fewer.
	Weight int `json:"weight,omitempty"`

	once  func(p *peer, b Break) error                // changes the peer
	outer func(p *peer, b Break, r *rand.Rand) []byte // a datagram to the far endpoint, again and again
	inner func(b Break, w innerAddresses) []byte      // a packet through the tunnel, again and again
	loop  func(p *peer, b Break, r *rand.Rand) bool   // anything, again and again; false: it cannot
}

// innerAddresses is what an inner packet is made from.
type innerAddresses struct {
	source, to netip.Addr // of one family
	port       uint16
	random     *rand.Rand
}

// Breakages lists every way to break a peer: those of its state, those of its outer packets, those of its inner packets.
func Breakages() []Breakage {
	list := stateBreakages()
	list = append(list, outerBreakages()...)
	return append(list, innerBreakages()...)
}

func (p *peer) doBreak(b Break) error {
	var way Breakage
	for _, known := range Breakages() {
		if known.Name == b.How {
			way = known
		}
	}
	if way.Name == "" {
		return fmt.Errorf("there is no way %q to break a peer", b.How)
	}
	if b.Rate == 0 {
		b.Rate = defaultBreakRate
	}
	if b.Rate < 1 || b.Rate > maxRate {
		return fmt.Errorf("rate %d is not between 1 and %d packets a second", b.Rate, maxRate)
	}
	if way.once != nil {
		if err := way.once(p, b); err != nil {
			return fmt.Errorf("break peer %q by %s: %w", p.config.Name, b.How, err)
		}
	}
	step, err := p.step(way, b)
	if err != nil {
		return fmt.Errorf("break peer %q by %s: %w", p.config.Name, b.How, err)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.broken = append(p.broken, b.How)
	if step == nil {
		return nil
	}
	ctx, cancel := p.breaks, context.CancelFunc(func() {})
	if b.Seconds > 0 {
		ctx, cancel = context.WithTimeout(ctx, time.Duration(b.Seconds*float64(time.Second)))
	}
	p.loops.Go(func() {
		defer cancel()
		pace(ctx, b.Rate, step)
	})
	return nil
}

// step is what a flood does each time; nil for what is done once.
func (p *peer) step(way Breakage, b Break) (func() bool, error) {
	random := rand.New(rand.NewPCG(b.Seed, 0))
	switch {
	case way.outer != nil:
		if !p.config.FarEndpoint.IsValid() {
			return nil, errors.New("peer does not know where the far end is")
		}
		return func() bool {
			if packet := way.outer(p, b, random); packet != nil {
				_ = p.bind.sendRaw(packet, p.config.FarEndpoint) // as lossy as the network
			}
			return true
		}, nil
	case way.inner != nil:
		where := innerAddresses{source: p.config.Addresses[0], to: b.To, port: b.Port, random: random}
		if b.To.IsValid() {
			source, err := p.address(b.To)
			if err != nil {
				return nil, err
			}
			where.source = source
		}
		if b.Source.IsValid() {
			where.source = b.Source
		}
		if b.To.IsValid() && where.source.Is4() != b.To.Is4() {
			return nil, fmt.Errorf("source %s and destination %s are not of one family", where.source, b.To)
		}
		return func() bool {
			each := where
			if !each.to.IsValid() {
				each.to = randomAddress(random, each.source.Is4())
			}
			if each.port == 0 {
				each.port = uint16(1 + random.IntN(65535))
			}
			return p.tun.send(way.inner(b, each))
		}, nil
	case way.loop != nil:
		return func() bool { return way.loop(p, b, random) }, nil
	}
	return nil, nil
}

func (p *peer) mend() error {
	p.mu.Lock()
	p.peace()
	p.breaks, p.peace = context.WithCancel(p.ctx)
	p.broken = nil
	p.mu.Unlock()
	if err := p.device.Down(); err != nil {
		return fmt.Errorf("mend peer %q: %w", p.config.Name, err)
	}
	p.bind.mu.Lock()
	p.bind.local = p.config.Local
	p.bind.mu.Unlock()
	err := p.device.IpcSet(p.config.settings())
	if err == nil {
		err = p.device.Up()
	}
	if err != nil {
		return fmt.Errorf("mend peer %q: %w", p.config.Name, err)
	}
	return nil
}

// change configures the device otherwise, and drops the sessions it has.
func (p *peer) change(edit func(*Config)) error {
	config := p.config
	edit(&config)
	return p.device.IpcSet(config.settings())
}

func randomKey() Key {
	var key Key
	_, _ = crypto.Read(key[:]) // never fails
	return key
}

func stateBreakages() []Breakage {
	return []Breakage{
		{Name: "stop", Means: "the peer falls silent: its socket is closed", once: func(p *peer, _ Break) error { return p.device.Down() }},
		{Name: "start", Means: "a silent peer comes back", once: func(p *peer, _ Break) error { return p.device.Up() }},
		{Name: "key-changed", Means: "the peer uses a private key that nobody knows", once: func(p *peer, _ Break) error {
			return p.change(func(c *Config) { c.PrivateKey = randomKey() })
		}},
		{Name: "far-key-wrong", Means: "the peer asks the far endpoint for another key's owner", once: func(p *peer, _ Break) error {
			wrong, err := randomKey().Public()
			if err != nil {
				return err
			}
			return p.change(func(c *Config) { c.FarKey = wrong })
		}},
		{Name: "psk-wrong", Means: "the peer uses another preshared key", once: func(p *peer, _ Break) error {
			return p.change(func(c *Config) { c.PresharedKey = randomKey() })
		}},
		{Name: "psk-removed", Means: "the peer uses no preshared key", once: func(p *peer, _ Break) error {
			return p.change(func(c *Config) { c.PresharedKey = Key{} })
		}},
		{Name: "roam", Means: "the peer moves to another port or address in mid-session (local)", once: func(p *peer, b Break) error {
			local := b.Local
			if !local.IsValid() {
				local = netip.AddrPortFrom(p.config.Local.Addr(), 0)
			}
			return p.bind.roam(local)
		}},
		{Name: "roam-storm", Means: "every packet leaves from another of 32 ports", once: func(p *peer, _ Break) error { return p.bind.beginStorm(32) }},
		{Name: "restart-storm", Means: "the peer forgets its session and begins a new one, again and again", loop: func(p *peer, _ Break, _ *rand.Rand) bool {
			return p.device.Down() == nil && p.device.Up() == nil && p.nudge()
		}},
		{Name: "keepalive-flood", Means: "empty authenticated packets", loop: func(p *peer, _ Break, _ *rand.Rand) bool { return p.nudge() }},
	}
}

// nudge sends a keepalive, or the handshake that it needs first.
func (p *peer) nudge() bool {
	far := p.device.LookupPeer([32]byte(p.config.FarKey))
	if far == nil {
		return false
	}
	far.SendKeepalive()
	return true
}

func randomAddress(r *rand.Rand, v4 bool) netip.Addr {
	var b [16]byte
	for i := range b {
		b[i] = byte(r.Uint32())
	}
	if v4 {
		return netip.AddrFrom4([4]byte(b[:4]))
	}
	b[0], b[1] = 0x20, 0x01 // global unicast
	return netip.AddrFrom16(b)
}

func randomBytes(r *rand.Rand, length int) []byte {
	b := make([]byte, length)
	for i := range b {
		b[i] = byte(r.Uint32())
	}
	return b
}
