package proof

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// zoned reads CT --zone: the first that a packet gets stays (xt_CT.c).
func zoned(text string) (*assign, error) {
	n, err := strconv.ParseUint(text, 10, 16)
	if err != nil {
		err = fmt.Errorf("-j CT --zone %s", text)
	}
	return &assign{to: ctZone, value: small(n)}, err
}

// translation reads a target of nat. Which port a source gets is not asked, as in nft's.
func (x *xtRule) translation(name string, options []string) (*translation, error) {
	unknown := fmt.Errorf("-j %s", strings.Join(append([]string{name}, options...), " "))
	t := &translation{source: name != "DNAT", byHook: name == "NETMAP", netmap: name == "NETMAP", family: "ip"}
	if x.six {
		t.family = "ip6"
	}
	address := map[string]string{"NETMAP": "--to", "SNAT": "--to-source", "DNAT": "--to-destination"}[name]
	for i := 0; i < len(options); i++ {
		switch option, more := options[i], i+1 < len(options); {
		case slices.Contains([]string{"--random", "--random-fully", "--persistent"}, option):
		case name == "MASQUERADE" && option == "--to-ports" && more:
			i++
		case option == address && more && t.to == nil:
			to, err := x.addresses(options[i+1], name == "SNAT")
			if err != nil || (to.kind == address6) != x.six {
				return nil, unknown
			}
			t.to = &to
			i++
		default:
			return nil, unknown
		}
	}
	if address != "" && t.to == nil {
		return nil, unknown
	}
	return t, nil
}

// addresses reads "192.0.2.1", a prefix, or "192.0.2.1-192.0.2.9". Behind a colon there are ports, "[2001:db8::1]:80": those of a source do not matter.
func (x *xtRule) addresses(text string, ports bool) (span, error) {
	if inner, behind, bracketed := strings.Cut(strings.TrimPrefix(text, "["), "]"); x.six && bracketed {
		if behind != "" && !ports {
			return span{}, fmt.Errorf("ports %s", behind)
		}
		text = inner
	} else if before, _, is := strings.Cut(text, ":"); !x.six && is && ports {
		text = before
	}
	first, last, ranged := strings.Cut(text, "-")
	low, err := prefixSpan(first)
	if err != nil || !ranged {
		return low, err
	}
	high, err := prefixSpan(last)
	if err == nil && (low.kind != high.kind || low.low != low.high || high.low != high.high || high.low.less(low.low)) {
		err = fmt.Errorf("range %s", text)
	}
	low.high = high.high
	return low, err
}
