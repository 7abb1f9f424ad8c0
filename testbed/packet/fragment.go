package packet

import (
	"encoding/binary"
	"errors"
	"fmt"

	"golang.org/x/sys/unix"
)

// firstPiece is how many bytes behind the IP header the first fragment holds: the ports and a marker, and a multiple of 8 (RFC 791, 3.2).
const firstPiece = 128

// Frames are the IP packets that are sent: one, or fragments, each of which carries the marker.
func (p Packet) Frames(marker Marker) ([][]byte, error) {
	if p.Pieces == Whole {
		data, err := p.Build(marker)
		return [][]byte{data}, err
	}
	p.Size = max(p.Size, 2*firstPiece)
	data, err := p.Build(marker)
	if err != nil {
		return nil, err
	}
	both, err := Fragment(data, binary.BigEndian.Uint16([]byte(marker[len(marker)-2:])))
	switch {
	case err != nil:
		return nil, fmt.Errorf("craft %s: %w", p, err)
	case p.Pieces == Both:
		return both, nil
	case p.Pieces == Later:
		return both[1:], nil
	}
	return nil, fmt.Errorf("craft %s: pieces %q: fragments and later are known", p, p.Pieces)
}

// Fragment cuts an IP packet without options in two, of which the first holds the ports. RFC 791, 3.1 and RFC 8200, 4.5 have the fields.
func Fragment(data []byte, id uint16) ([][]byte, error) {
	switch {
	case len(data) < 40+firstPiece+8:
		return nil, fmt.Errorf("a packet of %d bytes is not cut in two", len(data))
	case data[0] == 0x45:
		make4 := func(from, to int, more uint16) []byte {
			piece := append(append([]byte{}, data[:20]...), data[20+from:20+to]...)
			binary.BigEndian.PutUint16(piece[2:], uint16(len(piece)))
			binary.BigEndian.PutUint16(piece[4:], id)
			binary.BigEndian.PutUint16(piece[6:], more<<13|uint16(from/8))
			binary.BigEndian.PutUint16(piece[10:], 0)
			binary.BigEndian.PutUint16(piece[10:], checksum(piece[:20]))
			return piece
		}
		return [][]byte{make4(0, firstPiece, 1), make4(firstPiece, len(data)-20, 0)}, nil
	case data[0]>>4 == 6:
		make6 := func(from, to int, more uint16) []byte {
			piece := append([]byte{}, data[:40]...)
			piece[6] = unix.IPPROTO_FRAGMENT
			piece = append(piece, data[6], 0)
			piece = binary.BigEndian.AppendUint16(piece, uint16(from)|more)
			piece = binary.BigEndian.AppendUint32(piece, uint32(id))
			piece = append(piece, data[40+from:40+to]...)
			binary.BigEndian.PutUint16(piece[4:], uint16(len(piece)-40))
			return piece
		}
		return [][]byte{make6(0, firstPiece, 1), make6(firstPiece, len(data)-40, 0)}, nil
	}
	return nil, errors.New("a packet with IPv4 options is not cut in two")
}
