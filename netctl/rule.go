package netctl

import (
	"encoding/binary"
	"errors"
	"fmt"
	"strings"

	"golang.org/x/sys/unix"
)

const fullMask uint32 = 0xffffffff

func ruleRequest(kind uint16, flags uint16, rule Rule) request {
	header := make([]byte, unix.SizeofRtMsg) // struct fib_rule_hdr has the shape of struct rtmsg
	header[0] = unix.AF_INET
	if rule.IPv6 {
		header[0] = unix.AF_INET6
	}
	header[7] = unix.FR_ACT_TO_TBL
	m := newRequest(kind, flags, header)
	m.attribute32(unix.FRA_PRIORITY, uint32(rule.Priority))
	m.attribute32(unix.FRA_TABLE, rule.Table)
	m.attribute(unix.FRA_PROTOCOL, []byte{RouteProtocol})
	if rule.Mark != 0 {
		m.attribute32(unix.FRA_FWMARK, rule.Mark)
		m.attribute32(unix.FRA_FWMASK, fullMask)
	}
	if rule.In != "" {
		m.attribute(unix.FRA_IIFNAME, append([]byte(rule.In), 0))
	}
	return m
}

func addRule(rule Rule) request {
	return ruleRequest(unix.RTM_NEWRULE, unix.NLM_F_CREATE|unix.NLM_F_EXCL, rule)
}

func deleteRule(rule Rule) request { return ruleRequest(unix.RTM_DELRULE, 0, rule) }

// deleteRuleAt names only what every rule has.
func deleteRuleAt(rule seenRule) request {
	header := make([]byte, unix.SizeofRtMsg)
	header[0] = unix.AF_INET
	if rule.IPv6 {
		header[0] = unix.AF_INET6
	}
	m := newRequest(unix.RTM_DELRULE, 0, header)
	m.attribute32(unix.FRA_PRIORITY, uint32(rule.Priority))
	m.attribute(unix.FRA_PROTOCOL, []byte{rule.protocol})
	return m
}

// seenRule is a rule of whomever.
type seenRule struct {
	Rule
	protocol byte
	more     bool // it says more than Rule can
	vrf      bool // the kernel's own rule for VRFs
}

func (r *rtnl) dumpRules() ([]seenRule, error) {
	var rules []seenRule
	for _, family := range []byte{unix.AF_INET, unix.AF_INET6} {
		for attempt := 1; ; attempt++ {
			header := make([]byte, unix.SizeofRtMsg)
			header[0] = family
			var seen []seenRule
			err := r.dump(newRequest(unix.RTM_GETRULE, 0, header), func(kind uint16, body []byte) {
				if rule, ok := decodeRule(body); ok && kind == unix.RTM_NEWRULE && body[0] == family {
					seen = append(seen, rule)
				}
			})
			if errors.Is(err, errDumpInterrupted) && attempt < 10 {
				continue
			}
			if err != nil && !errors.Is(err, unix.EAFNOSUPPORT) {
				return nil, err
			}
			rules = append(rules, seen...)
			break
		}
	}
	return rules, nil
}

func decodeRule(body []byte) (seenRule, bool) {
	if len(body) < unix.SizeofRtMsg {
		return seenRule{}, false
	}
	rule := seenRule{Rule: Rule{IPv6: body[0] == unix.AF_INET6, Table: uint32(body[4])}}
	flags := binary.NativeEndian.Uint32(body[8:])
	rule.more = body[1] != 0 || body[2] != 0 || body[3] != 0 || body[7] != unix.FR_ACT_TO_TBL || flags&unix.FIB_RULE_INVERT != 0
	for kind, value := range attributes(body[unix.SizeofRtMsg:]) {
		number := uint32(0)
		if len(value) == 4 {
			number = binary.NativeEndian.Uint32(value)
		}
		switch kind {
		case unix.FRA_PRIORITY:
			rule.Priority = int(number)
		case unix.FRA_TABLE:
			rule.Table = number
		case unix.FRA_FWMARK:
			rule.Mark = number
		case unix.FRA_FWMASK:
			rule.more = rule.more || number != fullMask && number != 0
		case unix.FRA_IIFNAME:
			rule.In = strings.TrimRight(string(value), "\x00")
		case unix.FRA_PROTOCOL:
			if len(value) == 1 {
				rule.protocol = value[0]
			}
		case unix.FRA_SUPPRESS_PREFIXLEN: // always there; -1 says nothing
			rule.more = rule.more || number != fullMask
		case unix.FRA_L3MDEV:
			rule.vrf = true
		default:
			rule.more = true
		}
	}
	return rule, true
}

// ours says whether a rule is one that this package made. A rule with our number that says more than Rule can is somebody else's.
func (r seenRule) ours() bool { return r.protocol == RouteProtocol && !r.more }

// shadows says whether packets ask r before our rules. Priority 0 is the kernel's own, for local addresses.
func (r seenRule) shadows() bool {
	return !r.ours() && !r.vrf && r.Priority > 0 && r.Priority <= InnerRulePriority
}

func (r seenRule) describe() string {
	text := fmt.Sprintf("%s (protocol %d)", r.Rule, r.protocol)
	if r.more {
		text += " with other conditions"
	}
	return text
}
