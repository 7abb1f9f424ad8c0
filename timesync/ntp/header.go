package ntp

import (
	"encoding/binary"
	"errors"

	"shekara/timesync"
)

const (
	Port      = 123 // UDP
	HeaderLen = 48  // bytes (RFC 5905 figure 8)
)

// Mode is how the sender takes part (RFC 5905 figure 10).
type Mode uint8

const (
	Reserved         Mode = 0 // version 1's clients
	SymmetricActive  Mode = 1
	SymmetricPassive Mode = 2
	Client           Mode = 3
	Server           Mode = 4
	Broadcast        Mode = 5
	Control          Mode = 6 // of ntpq: answers are longer than requests
	Private          Mode = 7 // of ntpdc: as above, up to 200 times
)

// Kiss codes are the reference ID of an answer of stratum 0 that tells no time (RFC 5905 figure 13, RFC 8915 section 5.7).
const (
	KissDeny uint32 = 'D'<<24 | 'E'<<16 | 'N'<<8 | 'Y' // not you: stop asking
	KissRSTR uint32 = 'R'<<24 | 'S'<<16 | 'T'<<8 | 'R' // as above, by a rule of the server's
	KissRate uint32 = 'R'<<24 | 'A'<<16 | 'T'<<8 | 'E' // too often
	KissInit uint32 = 'I'<<24 | 'N'<<16 | 'I'<<8 | 'T' // not in step yet
	KissStep uint32 = 'S'<<24 | 'T'<<16 | 'E'<<8 | 'P' // not in step since the clock was set
	KissNTSN uint32 = 'N'<<24 | 'T'<<16 | 'S'<<8 | 'N' // the cookie is not known: establish keys anew
	KissCryp uint32 = 'C'<<24 | 'R'<<16 | 'Y'<<8 | 'P' // the code is wrong
)

// Header is the first 48 bytes of a packet.
type Header struct {
	Leap           timesync.Leap
	Version        uint8 // 3 or 4 when decoded
	Mode           Mode
	Stratum        uint8 // 0: not said, or a kiss code; 16: not synchronised, which others write as 0
	Poll           int8  // log2 of the seconds between requests
	Precision      int8  // log2 of the seconds that the clock can tell apart
	RootDelay      Short
	RootDispersion Short
	ReferenceID    uint32
	Reference      Timestamp // when the clock was set last
	Origin         Timestamp // the request's Transmit, by the client's clock; in interleaved mode its Receive
	Receive        Timestamp // when the request came, by the server's clock
	Transmit       Timestamp // when this packet left; in a request it may be any number that the answer must bring back
}

var (
	ErrShort     = errors.New("fewer than 48 bytes")
	ErrVersion   = errors.New("neither version 3 nor 4")
	ErrMalformed = errors.New("what follows the header is neither extension fields nor a message authentication code")
)

// ModeOf is the mode that a datagram claims, whatever its version and the rest of it; Reserved when it is empty.
func ModeOf(datagram []byte) Mode {
	if len(datagram) == 0 {
		return Reserved
	}
	return Mode(datagram[0] & 7)
}

// Decode reads the header at the start of datagram. The error is ErrShort or ErrVersion.
func (h *Header) Decode(datagram []byte) error {
	if len(datagram) < HeaderLen {
		return ErrShort
	}
	b := datagram[:HeaderLen]
	version := b[0] >> 3 & 7
	if version != 3 && version != 4 {
		return ErrVersion
	}
	*h = Header{
		Leap:           timesync.Leap(b[0] >> 6),
		Version:        version,
		Mode:           Mode(b[0] & 7),
		Stratum:        b[1],
		Poll:           int8(b[2]),
		Precision:      int8(b[3]),
		RootDelay:      Short(binary.BigEndian.Uint32(b[4:])),
		RootDispersion: Short(binary.BigEndian.Uint32(b[8:])),
		ReferenceID:    binary.BigEndian.Uint32(b[12:]),
		Reference:      Timestamp(binary.BigEndian.Uint64(b[16:])),
		Origin:         Timestamp(binary.BigEndian.Uint64(b[24:])),
		Receive:        Timestamp(binary.BigEndian.Uint64(b[32:])),
		Transmit:       Timestamp(binary.BigEndian.Uint64(b[40:])),
	}
	return nil
}

// Put writes the header over the first 48 bytes of b, which must have them.
func (h *Header) Put(b []byte) {
	_ = b[HeaderLen-1]
	b[0] = byte(h.Leap)<<6 | h.Version&7<<3 | byte(h.Mode)&7
	b[1] = h.Stratum
	b[2] = byte(h.Poll)
	b[3] = byte(h.Precision)
	binary.BigEndian.PutUint32(b[4:], uint32(h.RootDelay))
	binary.BigEndian.PutUint32(b[8:], uint32(h.RootDispersion))
	binary.BigEndian.PutUint32(b[12:], h.ReferenceID)
	binary.BigEndian.PutUint64(b[16:], uint64(h.Reference))
	binary.BigEndian.PutUint64(b[24:], uint64(h.Origin))
	binary.BigEndian.PutUint64(b[32:], uint64(h.Receive))
	binary.BigEndian.PutUint64(b[40:], uint64(h.Transmit))
}

// PutTransmit writes over the Transmit of a header that is written.
func PutTransmit(datagram []byte, at Timestamp) {
	binary.BigEndian.PutUint64(datagram[40:HeaderLen], uint64(at))
}

// Append writes the header after b.
func (h *Header) Append(b []byte) []byte {
	n := len(b)
	b = append(b, make([]byte, HeaderLen)...) // the compiler makes no slice of this
	h.Put(b[n:])
	return b
}

// Kiss is the kiss code of an answer, as its four characters; "" when it is none.
func (h *Header) Kiss() string {
	if h.Stratum != 0 || h.ReferenceID == 0 {
		return ""
	}
	code := binary.BigEndian.AppendUint32(nil, h.ReferenceID)
	for _, c := range code {
		if c < ' ' || c > '~' {
			return ""
		}
	}
	return string(code)
}
