package echo

import (
	"encoding/binary"
	"net/netip"
	"slices"
)

const (
	messageSize = 8 + 16 // header, then a nonce

	requestV4 = 8 // RFC 792
	replyV4   = 0
	requestV6 = 128 // RFC 4443, section 4
	replyV6   = 129
)

// tag is what tells one request from another, and from those of other programs.
type tag struct {
	id, sequence uint16
	nonce        [16]byte
}

// request is an echo request:
//
//	 0      1      2             4             6             8               24
//	+------+------+-------------+-------------+-------------+---------------+
//	| type | code |  checksum   | identifier  |  sequence   |     nonce     |
//	+------+------+-------------+-------------+-------------+---------------+
//
// The kernel fills in the checksum of ICMPv6, which covers addresses (RFC 3542, section 3.1).
func request(t tag, ipv6 bool) []byte {
	m := make([]byte, messageSize)
	m[0] = requestV4
	if ipv6 {
		m[0] = requestV6
	}
	binary.BigEndian.PutUint16(m[4:], t.id)
	binary.BigEndian.PutUint16(m[6:], t.sequence)
	copy(m[8:], t.nonce[:])
	if !ipv6 {
		binary.BigEndian.PutUint16(m[2:], checksum(m))
	}
	return m
}

// parseReply reads an echo reply that answers a request of ours in shape. ok is false for anything else.
func parseReply(m []byte, ipv6 bool) (t tag, ok bool) {
	kind := byte(replyV4)
	if ipv6 {
		kind = replyV6
	}
	if len(m) != messageSize || m[0] != kind || m[1] != 0 || !ipv6 && checksum(m) != 0 {
		return tag{}, false
	}
	t.id, t.sequence = binary.BigEndian.Uint16(m[4:]), binary.BigEndian.Uint16(m[6:])
	copy(t.nonce[:], m[8:])
	return t, true
}

// checksum is RFC 1071's; it is 0 over a message that holds its own.
func checksum(m []byte) uint16 {
	var sum uint32
	for pair := range slices.Chunk(m, 2) {
		sum += uint32(pair[0]) << 8
		if len(pair) == 2 {
			sum += uint32(pair[1])
		}
	}
	for sum > 0xffff {
		sum = sum>>16 + sum&0xffff
	}
	return ^uint16(sum)
}

func sameFamily(a, b netip.Addr) bool { return a.IsValid() && b.IsValid() && a.Is4() == b.Is4() }
