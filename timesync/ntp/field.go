package ntp

import (
	"encoding/binary"
)

const (
	minField = 16 // bytes of an extension field, its own four among them (RFC 7822 section 7.5)
	// maxMAC is the longest that follows the header with its key's number: 20 bytes of SHA-1. What is longer is an extension field, in version 4 (RFC 7822 section 7.5.1.3).
	maxMAC = 24
	minMAC = 20 // 16 bytes of AES-CMAC, or of MD5
	// CryptoNAK is the length of a code with no more than the key's number: "I could not authenticate that" (RFC 5905 section 7.3).
	CryptoNAK = 4
)

// Packet is a datagram taken apart. Its slices are of the datagram.
type Packet struct {
	Header
	Extensions Extensions // all of them, each whole
	MAC        []byte     // with the key's number in front: 20 or 24 bytes, or 4, which is a crypto-NAK; nil: none
}

// Parse takes a datagram apart, whoever sent it. The error is ErrShort, ErrVersion or ErrMalformed; nothing of it is authenticated.
func (p *Packet) Parse(datagram []byte) error {
	p.Extensions, p.MAC = nil, nil
	if err := p.Decode(datagram); err != nil {
		return err
	}
	rest := datagram[HeaderLen:]
	if p.Version == 4 {
		extensions := Extensions(rest)
		for len(rest) > maxMAC {
			_, after, ok := Extensions(rest).Next()
			if !ok {
				return ErrMalformed
			}
			rest = after
		}
		p.Extensions = extensions[:len(extensions)-len(rest)]
	}
	switch len(rest) {
	case 0:
	case CryptoNAK, minMAC, maxMAC:
		p.MAC = rest
	case minField: // RFC 7822 has the last be 28 bytes long where no code follows; a shorter one can still be nothing else
		field, _, ok := Extensions(rest).Next()
		if !ok || p.Version != 4 || len(field.Value) != minField-4 {
			return ErrMalformed
		}
		p.Extensions = datagram[HeaderLen:]
	default:
		return ErrMalformed
	}
	return nil
}

// KeyID is the number of the key that the packet says to be authenticated with; 0: with none.
func (p *Packet) KeyID() uint32 {
	if len(p.MAC) < 4 {
		return 0
	}
	return binary.BigEndian.Uint32(p.MAC)
}

// Extensions are the extension fields of a packet one after the other.
type Extensions []byte

// Field is one of them. Value is of the datagram, with the padding.
type Field struct {
	Type  uint16
	Value []byte
}

// Len is how many bytes of the packet the field takes.
func (f Field) Len() int { return 4 + len(f.Value) }

// Next takes the first off. It is not ok at the end, and where what follows is no field; in a Packet it is the end.
func (e Extensions) Next() (first Field, rest Extensions, ok bool) {
	if len(e) < minField {
		return Field{}, nil, false
	}
	length := int(binary.BigEndian.Uint16(e[2:]))
	if length < minField || length%4 != 0 || length > len(e) {
		return Field{}, nil, false
	}
	return Field{binary.BigEndian.Uint16(e), e[4:length:length]}, e[length:], true
}

// AppendField writes an extension field after b, padded with zeros to a multiple of four and to least bytes, its own four among them: 16, and 28 for the last
// where no message authentication code follows (RFC 7822 section 7.5).
func AppendField(b []byte, kind uint16, value []byte, least int) []byte {
	length := max(4+len(value)+3, least+3, minField) &^ 3
	b = binary.BigEndian.AppendUint16(b, kind)
	b = binary.BigEndian.AppendUint16(b, uint16(length))
	b = append(b, value...)
	for range length - 4 - len(value) {
		b = append(b, 0)
	}
	return b
}
