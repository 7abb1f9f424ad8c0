package firewalltest

import (
	"net/netip"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"shekara/firewall"
	"shekara/netctl"
	"shekara/provisioning/compile"
)

// notation is how the ends of a device's only tunnel write one another.
type notation int

const (
	plainly     notation = iota // many tunnels may share the device
	mapped                      // hosts here know the far range by another one
	hidden                      // the far side knows each address here by another one
	mappedHides                 // both
	behindOne                   // the far side sees one address for all here
	notations
)

// alone says of a peer's device that it serves one tunnel, where that translates.
func (n notation) alone(tunnel string) string {
	if n == plainly {
		return ""
	}
	return ", tunnel: " + tunnel
}

// facing is what the far peer's device must know of it: that hosts there are known by another range is the near one's own affair.
func (n notation) facing() notation {
	if n == mapped {
		return plainly
	}
	return n
}

// write gives the far prefixes as the far side has them, and what the documents say of each end's notation.
func (n notation) write(device string, far, near []string) (truth []string, initiator, owner string) {
	truth = far
	if n == mapped || n == mappedHides {
		truth = nil
		for _, prefix := range far {
			truth = append(truth, truly(prefix))
		}
		initiator = ", mapped: " + listed(far)
	}
	shown := strings.NewReplacer("10.20.0.", "172.16.1.", "fd00:20::", "fd00:98:1::")
	if device == "sk-b" {
		shown = strings.NewReplacer("10.20.0.", "172.16.2.", "fd00:20::", "fd00:98:2::")
	}
	switch n {
	case hidden, mappedHides:
		var hide []string
		for _, prefix := range near {
			hide = append(hide, shown.Replace(prefix))
		}
		owner = ", hide: " + listed(hide)
	case behindOne:
		owner = ", hide: " + listed([]string{shown.Replace("10.20.0.7/32"), shown.Replace("fd00:20::7/128")})
	}
	return truth, initiator, owner
}

// truly is an address or prefix of a range that may be mapped as the far side writes it; any other is what it is.
func truly(text string) string {
	return strings.NewReplacer("10.64.1.", "198.18.2.", "fd00:64:1:", "2001:db8:2:", "10.96.1.", "198.18.3.", "fd00:96:1:", "2001:db8:3:").Replace(text)
}

// translationOf is what a device translates; nothing, if the link is none or translates nothing.
func translationOf(p firewall.Policy, link string) firewall.Translation {
	for _, d := range p.Devices {
		if d.Name == link && d.Translation != nil {
			return *d.Translation
		}
	}
	return firewall.Translation{}
}

func out(mappings []firewall.Mapping, a netip.Addr) (netip.Addr, bool) {
	p, addressable := firewall.Out(mappings, netip.PrefixFrom(a, a.BitLen()))
	return p.Addr(), addressable
}

func in(mappings []firewall.Mapping, a netip.Addr) netip.Addr {
	return firewall.In(mappings, netip.PrefixFrom(a, a.BitLen())).Addr()
}

// outside is a packet with the addresses of the policy as it stands on the link that it arrives on. It reports false if nobody there can
// address its destination.
func outside(p firewall.Policy, k packet) (packet, bool) {
	t := translationOf(p, k.arriveOn)
	var addressable bool
	k.source, _ = out(t.Far, k.source)
	k.to, addressable = out(t.Local, k.to)
	return k, addressable
}

// inside is the reverse: an arriving packet with the addresses of the policy.
func inside(p firewall.Policy, k packet) packet {
	t := translationOf(p, k.arriveOn)
	k.source, k.to = in(t.Far, k.source), in(t.Local, k.to)
	return k
}

// written are the addresses that stand on devices instead of those of the pools and of the box.
func written(p firewall.Policy) (list []netip.Addr) {
	for _, d := range p.Devices {
		t := translationOf(p, d.Name)
		for _, l := range rigLinks {
			for _, a := range slices.Concat(pool[l.link], ofBox[l.link]) {
				far, _ := out(t.Far, a)
				near, _ := out(t.Local, a)
				for _, b := range []netip.Addr{far, near} {
					if b != a && !slices.Contains(list, b) {
						list = append(list, b)
					}
				}
			}
		}
	}
	return list
}

// origin is the link behind which an arriving packet's sender is, and whether it says that it is the box itself.
func (k packet) origin() (link string, ofTheBox bool) {
	for _, a := range pool[k.arriveOn] {
		if truly(a.String()) == k.source.String() {
			return k.arriveOn, false
		}
	}
	return home(k.source)
}

// networkOf are the rules and routes of what was compiled that lead to ranges which are mapped, for the rig's links and neighbours.
func networkOf(d *compile.Desired) netctl.Spec {
	link, next := rigDevices(d), map[string]string{}
	for _, l := range rigLinks {
		next[l.link+"4"], next[l.link+"6"] = l.net4+"2", l.net6+"2"
	}
	spec := netctl.Spec{Sysctls: map[string]string{"net.ipv4.fwmark_reflect": "1", "net.ipv6.fwmark_reflect": "1"}}
	tables := map[uint32]bool{}
	for _, rule := range d.Base.Network.Rules {
		switch rule.Priority {
		case netctl.ArrivedRulePriority, netctl.BackRulePriority:
		case netctl.AnswerRulePriority, netctl.MappedRulePriority:
			tables[rule.Table] = true
		default:
			continue
		}
		if rule.In != netctl.LocalIn {
			rule.In = link[rule.In]
		}
		spec.Rules = append(spec.Rules, rule)
	}
	for _, t := range d.Tunnels {
		for _, route := range t.Routes {
			if !tables[route.Table] || route.Kind != netctl.Unicast {
				continue
			}
			route.Link = link[route.Link]
			family := "6"
			if route.Prefix.Addr().Is4() {
				family = "4"
			}
			route.Gateway, route.Source = netip.MustParseAddr(next[route.Link+family]), netip.Addr{}
			spec.Routes = append(spec.Routes, route)
		}
	}
	return spec
}

// network is the rig's routing as the documents have it, besides what is there always.
func (r *rig) network() func(t *testing.T, spec netctl.Spec) {
	var host *netctl.Host
	r.box.Do(func() {
		var err error
		if host, err = netctl.Open(); err != nil {
			r.t.Fatal(err)
		}
	})
	host.KeepOriginals(filepath.Join(r.t.TempDir(), "sysctls.json"))
	r.t.Cleanup(func() { host.Close() })
	return func(t *testing.T, spec netctl.Spec) {
		t.Helper()
		var keys []string
		for key := range spec.Sysctls {
			keys = append(keys, key)
		}
		state, err := host.Observe(t.Context(), keys)
		if err != nil {
			t.Fatal(err)
		}
		// The links that stand for devices have addresses here, which no device of ours has.
		ops := slices.DeleteFunc(netctl.Diff(spec, state), func(op netctl.Op) bool { return op.Address != nil })
		for _, failure := range host.Apply(t.Context(), ops) {
			t.Fatalf("%s: %v", failure.Op, failure.Err)
		}
	}
}
