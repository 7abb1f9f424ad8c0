package nftables

import (
	"encoding/binary"
	"fmt"
	"strings"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// Rule is one of a chain, as the kernel holds it: what nft(8) made of its text.
type Rule struct {
	chain                         string
	handle, expressions, userdata []byte
}

// Rules are those of a chain of a table of family inet, in their order.
func Rules(table, chain string) ([]Rule, error) {
	objects, err := dump(unix.NFT_MSG_GETRULE, unix.NFPROTO_INET,
		nl.NewRtAttr(unix.NFTA_RULE_TABLE, nl.ZeroTerminated(table)), nl.NewRtAttr(unix.NFTA_RULE_CHAIN, nl.ZeroTerminated(chain)))
	if err != nil {
		return nil, fmt.Errorf("list rules of chain %s of table inet %s: %w", chain, table, err)
	}
	var rules []Rule
	for _, o := range objects {
		rules = append(rules, Rule{chain, o.values[unix.NFTA_RULE_HANDLE], o.values[unix.NFTA_RULE_EXPRESSIONS], o.values[unix.NFTA_RULE_USERDATA]})
	}
	return rules, nil
}

// WithNumber is the rule with another number in place of one that a mark is compared with, or that is set in one (meta mark | NUMBER). It
// reports false if the rule does not have it exactly once.
func (r Rule) WithNumber(old, number uint32) (Rule, bool) {
	expressions, err := parse(r.expressions)
	if err != nil {
		return Rule{}, false
	}
	var out []byte
	changed := 0
	for _, e := range expressions {
		parts, err := parse(e.value)
		if err != nil {
			return Rule{}, false
		}
		for i, part := range parts {
			if part.number == unix.NFTA_EXPR_DATA {
				var ok bool
				if parts[i].value, ok = renumber(strings.TrimRight(string(parts[0].value), "\x00"), part.value, old, number); ok {
					changed++
				}
			}
		}
		e.value = nil
		for _, part := range parts {
			e.value = part.appendTo(e.value)
		}
		out = e.appendTo(out)
	}
	r.expressions = out
	return r, changed == 1
}

// renumber changes the data of an expression of a rule, if it is one that has the number.
func renumber(name string, data []byte, old, number uint32) ([]byte, bool) {
	attributes, err := parse(data)
	if err != nil {
		return data, false
	}
	want := map[uint16]uint32{}
	then := map[uint16]uint32{}
	switch name {
	case "cmp":
		want[unix.NFTA_CMP_DATA], then[unix.NFTA_CMP_DATA] = old, number
	case "bitwise": // x | n is x & ^n ^ n
		want[unix.NFTA_BITWISE_MASK], want[unix.NFTA_BITWISE_XOR] = ^old, old
		then[unix.NFTA_BITWISE_MASK], then[unix.NFTA_BITWISE_XOR] = ^number, number
	}
	found := 0
	var out []byte
	for _, a := range attributes {
		if n, asked := want[a.number]; asked {
			values, err := parse(a.value)
			if err != nil || len(values) != 1 || len(values[0].value) != 4 || binary.NativeEndian.Uint32(values[0].value) != n {
				return data, false
			}
			found++
			values[0].value = binary.NativeEndian.AppendUint32(nil, then[a.number])
			a.value = values[0].appendTo(nil)
		}
		out = a.appendTo(out)
	}
	if found == 0 || found != len(want) {
		return data, false
	}
	return out, true
}

// attr is one of netlink's, with its flags.
type attr struct {
	flags, number uint16
	value         []byte
}

// parse reads attributes to the last byte: what is sent back must be whole.
func parse(data []byte) (out []attr, err error) {
	for len(data) > 0 {
		length := 0
		if len(data) >= unix.SizeofRtAttr {
			length = int(binary.NativeEndian.Uint16(data))
		}
		if length < unix.SizeofRtAttr || length > len(data) {
			return nil, unix.EINVAL
		}
		kind := binary.NativeEndian.Uint16(data[2:])
		out = append(out, attr{kind & flags, kind &^ flags, data[unix.SizeofRtAttr:length]})
		data = data[min((length+3)&^3, len(data)):]
	}
	return out, nil
}

// appendTo writes the attribute behind others.
func (a attr) appendTo(to []byte) []byte {
	return append(to, nl.NewRtAttr(int(a.flags|a.number), a.value).Serialize()...)
}
