package compile

import (
	"crypto/sha256"
	"encoding/base32"
	"encoding/binary"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"shekara/netctl"
)

// markBase is the upper half of every mark: "SK". The lower half tells the outer addresses apart. A mark is also the number of the
// outer route table that it selects.
const markBase uint32 = 0x534b0000

// A device whose far side is mapped has a conntrack zone; its mark and the number of its route table, and the mark of what arrives by it,
// are the zone's number under these.
const (
	mappedBase  uint32 = 0x534c0000
	arrivedBase uint32 = 0x534d0000
)

// marks gives each outer address a mark that follows from the address alone. Of two addresses whose hashes meet (one chance in 65,536
// for each pair) the higher takes the next free number; only then can a number depend on another address.
func marks(addresses []netip.Addr) map[netip.Addr]uint32 {
	made := map[netip.Addr]uint32{}
	for a, n := range numbers(addresses, netip.Addr.Compare, netip.Addr.String) {
		made[a] = markBase | uint32(n)
	}
	return made
}

// numbers gives each thing a number other than 0 that follows from its text.
func numbers[T comparable](things []T, compare func(a, b T) int, text func(T) string) map[T]uint16 {
	sorted := slices.Clone(things)
	slices.SortFunc(sorted, compare)
	made, taken := map[T]uint16{}, map[uint16]bool{0: true}
	for _, t := range slices.Compact(sorted) {
		sum := sha256.Sum256([]byte(text(t)))
		n := binary.BigEndian.Uint16(sum[:])
		for taken[n] {
			n++
		}
		taken[n] = true
		made[t] = n
	}
	return made
}

// A link name is "sk-", up to readableBytes of the far zone for people, "-", and hashBytes of hash: 15 in all, the kernel's limit
// (IFNAMSIZ less the ending zero).
const (
	readableBytes = 7
	hashBytes     = 4
)

// linkNames names each device after its far zone, environment and peer alone, so that a name stays when other documents change.
// Of two whose names meet (20 bits of hash, and the same readable part) the later in order is hashed again.
func linkNames(keys []deviceKey) map[deviceKey]string {
	sorted := slices.Clone(keys)
	slices.SortFunc(sorted, deviceKey.compare)
	made, taken := map[deviceKey]string{}, map[string]bool{}
	for _, k := range slices.Compact(sorted) {
		name := linkName(k, 0)
		for again := 1; taken[name]; again++ {
			name = linkName(k, again)
		}
		taken[name] = true
		made[k] = name
	}
	return made
}

func linkName(k deviceKey, again int) string {
	text := k.farZone + "/" + string(k.environment) + "/" + k.peer
	if k.tunnel != "" {
		text += "/" + k.tunnel
	}
	if again > 0 {
		text += "/" + strconv.Itoa(again)
	}
	sum := sha256.Sum256([]byte(text))
	hash := strings.ToLower(base32.StdEncoding.EncodeToString(sum[:]))[:hashBytes]
	return netctl.LinkPrefix + strings.TrimRight(k.farZone[:min(len(k.farZone), readableBytes)], "-") + "-" + hash
}
