package swarm

import (
	"bytes"
	"encoding/binary"
	"math/rand/v2"

	"golang.zx2c4.com/wireguard/device"
)

// Sizes of datagrams over IPv4 and Ethernet, and at most.
const (
	ethernetPayload = 1472
	largestPayload  = 65507
)

// outerBreakages are datagrams to the far endpoint that only someone on the network, or the peer itself, could send.
func outerBreakages() []Breakage {
	return []Breakage{
		{Name: "garbage", Means: "random bytes of random length", outer: func(_ *peer, _ Break, r *rand.Rand) []byte {
			return randomBytes(r, 1+r.IntN(ethernetPayload))
		}},
		{Name: "garbage-typed", Means: "random bytes with the type and length of each message", outer: func(_ *peer, _ Break, r *rand.Rand) []byte {
			kind := 1 + r.IntN(4)
			lengths := []int{device.MessageInitiationSize, device.MessageResponseSize, device.MessageCookieReplySize, 32 + 16*r.IntN(88)}
			return typed(r, byte(kind), lengths[kind-1])
		}},
		{Name: "empty", Means: "datagrams of no bytes", outer: func(*peer, Break, *rand.Rand) []byte { return []byte{} }},
		{Name: "large", Means: "the largest datagrams there are, in fragments", outer: func(_ *peer, _ Break, r *rand.Rand) []byte {
			packet := make([]byte, largestPayload)
			packet[0] = messageTransport
			binary.LittleEndian.PutUint32(packet[4:], r.Uint32())
			return packet
		}},
		{Name: "type-unknown", Means: "a message of a type that does not exist", outer: func(_ *peer, _ Break, r *rand.Rand) []byte {
			return typed(r, byte(5+r.IntN(251)), device.MessageInitiationSize)
		}},
		{Name: "reserved-bits", Means: "an initiation whose reserved bytes are not zero", outer: func(p *peer, b Break, r *rand.Rand) []byte {
			packet := p.initiation()
			if packet != nil {
				packet[1+r.IntN(3)] = byte(1 + r.IntN(255))
			}
			return packet
		}},
		{Name: "initiations-forged", Means: "initiations of nobody, right enough to cost a key exchange each", outer: func(p *peer, _ Break, r *rand.Rand) []byte {
			packet := typed(r, messageInitiation, device.MessageInitiationSize)
			authenticate(packet, p.config.FarKey)
			return packet
		}},
		{Name: "initiations-own", Means: "right initiations of the peer, as fast as it can", outer: func(p *peer, _ Break, _ *rand.Rand) []byte { return p.initiation() }},
		{Name: "initiations-replayed", Means: "one right initiation, again and again", outer: replayedInitiation()},
		{Name: "initiations-truncated", Means: "right initiations cut short", outer: func(p *peer, _ Break, r *rand.Rand) []byte {
			return cut(p.initiation(), r)
		}},
		{Name: "responses-unasked", Means: "responses that nobody asked for", outer: func(p *peer, _ Break, r *rand.Rand) []byte {
			packet := typed(r, messageResponse, device.MessageResponseSize)
			authenticate(packet, p.config.FarKey)
			return packet
		}},
		{Name: "cookies-forged", Means: "cookie replies that nobody asked for", outer: func(_ *peer, _ Break, r *rand.Rand) []byte {
			return typed(r, messageCookie, device.MessageCookieReplySize)
		}},
		{Name: "transport-unknown", Means: "transport packets of sessions that do not exist", outer: func(_ *peer, _ Break, r *rand.Rand) []byte {
			return typed(r, messageTransport, 32+16*r.IntN(88))
		}},
		{Name: "transport-replayed", Means: "transport packets of the peer's own, sent again (needs a session)", outer: func(p *peer, _ Break, r *rand.Rand) []byte {
			return p.bind.recall(r.IntN(remembered))
		}},
		{Name: "transport-flipped", Means: "transport packets of the peer's own with one bit changed (needs a session)", outer: func(p *peer, _ Break, r *rand.Rand) []byte {
			packet := p.bind.recall(r.IntN(remembered))
			if packet != nil {
				packet[8+r.IntN(len(packet)-8)] ^= 1 << r.IntN(8)
			}
			return packet
		}},
		{Name: "transport-truncated", Means: "transport packets of the peer's own cut short (needs a session)", outer: func(p *peer, _ Break, r *rand.Rand) []byte {
			return cut(p.bind.recall(r.IntN(remembered)), r)
		}},
		{Name: "transport-counter", Means: "transport packets of the peer's own with a counter near the end of all counters (needs a session)", outer: func(p *peer, _ Break, r *rand.Rand) []byte {
			packet := p.bind.recall(r.IntN(remembered))
			if packet != nil {
				binary.LittleEndian.PutUint64(packet[8:], ^r.Uint64N(1<<14))
			}
			return packet
		}},
	}
}

// typed is random bytes that begin like a message of a type.
func typed(r *rand.Rand, kind byte, length int) []byte {
	packet := randomBytes(r, length)
	packet[0], packet[1], packet[2], packet[3] = kind, 0, 0, 0
	return packet
}

// authenticate gives a handshake message the first of its two codes, which whoever knows the far public key can compute.
func authenticate(packet []byte, farKey Key) {
	var generator device.CookieGenerator
	generator.Init([32]byte(farKey))
	generator.AddMacs(packet)
}

func cut(packet []byte, r *rand.Rand) []byte {
	if packet == nil {
		return nil
	}
	return packet[:r.IntN(len(packet))]
}

// initiation is a right initiation, of which the device knows, so that it takes the response; nil if it cannot make one now.
func (p *peer) initiation() []byte {
	far := p.device.LookupPeer([32]byte(p.config.FarKey))
	if far == nil {
		return nil
	}
	message, err := p.device.CreateMessageInitiation(far)
	if err != nil {
		return nil
	}
	var packet bytes.Buffer
	_ = binary.Write(&packet, binary.LittleEndian, message) // a buffer takes all
	authenticate(packet.Bytes(), p.config.FarKey)
	return packet.Bytes()
}

// replayedInitiation keeps the first initiation that it made. Each Break has its own, as Breakages is called anew for it.
func replayedInitiation() func(*peer, Break, *rand.Rand) []byte {
	var kept []byte
	return func(p *peer, _ Break, _ *rand.Rand) []byte {
		if kept == nil {
			kept = p.initiation()
		}
		return kept
	}
}
