package proof

import (
	"cmp"
	"encoding/binary"
	"math/bits"
	"net/netip"
)

// number is an unsigned number of up to 128 bits: an address, a port, a mark.
type number struct{ high, low uint64 }

func small(n uint64) number { return number{low: n} }

func addressNumber(a netip.Addr) number {
	if a.Is4() {
		b := a.As4()
		return small(uint64(binary.BigEndian.Uint32(b[:])))
	}
	b := a.As16()
	return number{binary.BigEndian.Uint64(b[:8]), binary.BigEndian.Uint64(b[8:])}
}

func (n number) address4() netip.Addr {
	return netip.AddrFrom4([4]byte(binary.BigEndian.AppendUint32(nil, uint32(n.low))))
}

func (n number) address6() netip.Addr {
	return netip.AddrFrom16([16]byte(binary.BigEndian.AppendUint64(binary.BigEndian.AppendUint64(nil, n.high), n.low)))
}

// bit counts from the lowest, 0.
func (n number) bit(i int) bool {
	if i >= 64 {
		return n.high>>(i-64)&1 != 0
	}
	return n.low>>i&1 != 0
}

func (n number) next() (number, bool) {
	low, carry := bits.Add64(n.low, 1, 0)
	high, carry := bits.Add64(n.high, 0, carry)
	return number{high, low}, carry != 0
}

func (n number) shifted(in bool) number {
	n.high, n.low = n.high<<1|n.low>>63, n.low<<1
	if in {
		n.low |= 1
	}
	return n
}

func (n number) less(other number) bool {
	return n.high < other.high || n.high == other.high && n.low < other.low
}

// last is the highest number that shares its leading bits, of so many, with n, whose low bits are zero.
func (n number) last(width, leading int) number {
	for i := range width - leading {
		if i >= 64 {
			n.high |= 1 << (i - 64)
		} else {
			n.low |= 1 << i
		}
	}
	return n
}

func (n number) before() number {
	low, borrow := bits.Sub64(n.low, 1, 0)
	high, _ := bits.Sub64(n.high, 0, borrow)
	return number{high, low}
}

func (n number) compare(other number) int {
	return cmp.Or(cmp.Compare(n.high, other.high), cmp.Compare(n.low, other.low))
}
