package proof

import (
	"fmt"
	"net/netip"
	"strings"
)

// headers are the fields of packets that rules may read, as nft names them in JSON: protocol and field.
var headers = map[[2]string]expression{
	{"ip", "saddr"}: {field: source4}, {"ip", "daddr"}: {field: destination4}, {"ip", "ttl"}: {field: hopLimit4},
	{"ip6", "saddr"}: {field: source6}, {"ip6", "daddr"}: {field: destination6}, {"ip6", "hoplimit"}: {field: hopLimit6},
	{"th", "sport"}: {field: sourcePort}, {"th", "dport"}: {field: destinationPort},
	{"tcp", "sport"}: {field: sourcePort, protocol: 6}, {"tcp", "dport"}: {field: destinationPort, protocol: 6}, {"tcp", "flags"}: {field: tcpFlags, protocol: 6},
	{"udp", "sport"}: {field: sourcePort, protocol: 17}, {"udp", "dport"}: {field: destinationPort, protocol: 17}, {"udp", "length"}: {field: udpLength, protocol: 17},
	{"sctp", "sport"}: {field: sourcePort, protocol: 132}, {"sctp", "dport"}: {field: destinationPort, protocol: 132},
	{"dccp", "sport"}: {field: sourcePort, protocol: 33}, {"dccp", "dport"}: {field: destinationPort, protocol: 33},
	{"udplite", "sport"}: {field: sourcePort, protocol: 136}, {"udplite", "dport"}: {field: destinationPort, protocol: 136},
	{"icmp", "type"}: {field: icmpType, protocol: 1}, {"icmp", "code"}: {field: icmpCode, protocol: 1},
	{"icmpv6", "type"}: {field: icmpType, protocol: 58}, {"icmpv6", "code"}: {field: icmpCode, protocol: 58},
}

var metas = map[string]field{"mark": metaMark, "l4proto": metaProtocol, "nfproto": metaFamily, "length": metaLength, "iifname": inputName, "oifname": outputName,
	"iif": inputName, "oif": outputName} // nft lists an interface's index by the name that it has now

var tracked = map[[2]string]field{{"state", ""}: ctState, {"status", ""}: ctStatus, {"direction", ""}: ctDirection, {"mark", ""}: ctMark,
	{"ip saddr", "original"}: originalSource4, {"ip6 saddr", "original"}: originalSource6,
	{"ip daddr", "original"}: originalDestination4, {"ip6 daddr", "original"}: originalDestination6}

var typed = map[string]field{"saddr": sourceType, "daddr": destinationType}

// expression reads what a rule asks of a packet.
func (d *decoder) expression(v any) (expression, error) {
	o, ok := v.(map[string]any)
	if !ok || len(o) != 1 {
		return expression{}, fmt.Errorf("expression %s", compact(v))
	}
	for word, argument := range o {
		inner, _ := argument.(map[string]any)
		switch word {
		case "meta":
			if f, ok := metas[text(inner["key"])]; ok && len(inner) == 1 {
				return expression{field: f}, nil
			}
		case "ct":
			if f, ok := tracked[[2]string{text(inner["key"]), text(inner["dir"])}]; ok {
				return expression{field: f}, nil
			}
		case "payload":
			if e, ok := headers[[2]string{text(inner["protocol"]), text(inner["field"])}]; ok && len(inner) == 2 {
				return e, nil
			}
		case "fib":
			if flags, ok := inner["flags"].([]any); ok && len(flags) == 1 && text(inner["result"]) == "type" {
				if f, ok := typed[text(flags[0])]; ok {
					return expression{field: f}, nil
				}
			}
		case "&", "|", "^":
			return d.operation(word[0], argument)
		}
	}
	return expression{}, fmt.Errorf("expression %s", compact(v))
}

// operation reads an expression and a constant that is put on its bits.
func (d *decoder) operation(sign byte, v any) (expression, error) {
	list, ok := v.([]any)
	if !ok || len(list) != 2 {
		return expression{}, fmt.Errorf("operation %s", compact(v))
	}
	e, err := d.expression(list[0])
	if err != nil {
		return e, err
	}
	f := fields[e.field]
	if f.kind == named || len(e.operations) >= 4 {
		return e, fmt.Errorf("operation %s", compact(v))
	}
	n, ok := whole(list[1])
	value := small(n)
	if flags, isList := list[1].([]any); isList {
		ok = true
		for _, flag := range flags {
			bit, isNumber := whole(flag)
			value.low |= bit
			ok = ok && isNumber
		}
	}
	if f.kind != numeric {
		var a netip.Addr
		a, err = netip.ParseAddr(text(list[1]))
		ok = err == nil && a.BitLen() == f.width
		value = number{}
		if ok {
			value = addressNumber(a)
		}
	}
	if !ok || f.kind == numeric && !value.fits(f.width) {
		return e, fmt.Errorf("operation %s", compact(v))
	}
	e.operations = append(e.operations[:len(e.operations):len(e.operations)], operator{sign, value})
	return e, nil
}

func (e expression) String() string {
	name := fields[e.field].name
	protocol := map[uint8]string{6: "tcp", 17: "udp", 132: "sctp", 33: "dccp", 136: "udplite", 58: "icmpv6"}[e.protocol]
	if rest, ok := strings.CutPrefix(name, "th "); ok && protocol != "" {
		name = protocol + " " + rest
	} else if rest, ok := strings.CutPrefix(name, "icmp "); ok && protocol != "" {
		name = protocol + " " + rest
	}
	for _, o := range e.operations {
		switch fields[e.field].kind {
		case address4:
			name += fmt.Sprintf(" %c %s", o.sign, o.value.address4())
		case address6:
			name += fmt.Sprintf(" %c %s", o.sign, o.value.address6())
		default:
			name += fmt.Sprintf(" %c 0x%x", o.sign, o.value.low)
		}
	}
	return name
}
