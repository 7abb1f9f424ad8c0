package firewall

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"strconv"
	"strings"
)

// Key is an element of a set as the kernel holds it: its fields one after another, each filled up to a multiple of four bytes, numbers in network byte
// order but marks (nft(8), CONCATENATIONS; struct nft_set_elem). An error says that it is none of the set's, or that the set is one that holds more than keys.
func Key(set, element string) ([]byte, error) {
	keyType, known := fixedSets[set]
	if s, ok := parseShape(set); ok {
		keyType, known = s.keyType(), true
	}
	types, fields := strings.Split(keyType, " . "), strings.Split(element, " . ")
	if !known || len(types) != len(fields) {
		return nil, fmt.Errorf("set %s: element %q: not of the form %q", set, element, keyType)
	}
	var key []byte
	for i, field := range fields {
		was := len(key)
		switch types[i] {
		case "mark":
			n, err := strconv.ParseUint(field, 0, 32)
			if err != nil {
				return nil, fmt.Errorf("set %s: element %q: %w", set, element, err)
			}
			key = binary.NativeEndian.AppendUint32(key, uint32(n))
		case "inet_proto":
			n, err := strconv.ParseUint(field, 10, 8)
			if err != nil {
				return nil, fmt.Errorf("set %s: element %q: %w", set, element, err)
			}
			key = append(key, byte(n))
		case "inet_service":
			n, err := strconv.ParseUint(field, 10, 16)
			if err != nil {
				return nil, fmt.Errorf("set %s: element %q: %w", set, element, err)
			}
			key = binary.BigEndian.AppendUint16(key, uint16(n))
		case "ifname":
			name := strings.Trim(field, `"`)
			if len(name) > 15 { // IFNAMSIZ, with its zero
				return nil, fmt.Errorf("set %s: element %q: %q is too long for an interface", set, element, name)
			}
			key = append(append(key, name...), make([]byte, 16-len(name))...)
		default:
			a, err := netip.ParseAddr(field)
			if err != nil || a.Is4() != (types[i] == "ipv4_addr") || a.Zone() != "" {
				return nil, fmt.Errorf("set %s: element %q: %q is no %s", set, element, field, types[i])
			}
			key = append(key, a.AsSlice()...)
		}
		for (len(key)-was)%4 != 0 {
			key = append(key, 0)
		}
	}
	return key, nil
}
