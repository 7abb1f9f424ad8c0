package multicast

import (
	"encoding/binary"

	"golang.org/x/sys/unix"
)

// Attributes goes through a message's attributes as far as they are well formed. Nested ones may bear a flag, which is not part of their kind.
func Attributes(list []byte) func(yield func(kind uint16, value []byte) bool) {
	const typeMask = 0x3fff // NLA_TYPE_MASK
	return func(yield func(uint16, []byte) bool) {
		for len(list) >= unix.SizeofRtAttr {
			length := int(binary.NativeEndian.Uint16(list))
			if length < unix.SizeofRtAttr || length > len(list) {
				return
			}
			if !yield(binary.NativeEndian.Uint16(list[2:])&typeMask, list[unix.SizeofRtAttr:length]) {
				return
			}
			list = list[min((length+3)&^3, len(list)):]
		}
	}
}
