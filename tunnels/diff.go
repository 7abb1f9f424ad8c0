package tunnels

import (
	"bytes"
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strings"
)

// Diff gives the steps from state to what was asked, in the order in which they are to be done:
//
//   - devices that nobody asked for are deleted first, as they may hold a port that another needs;
//   - then device by device, by name: the device itself, its peers added and changed, its unknown peers removed last.
//
// State holds our devices alone (links named sk-*), so a device or peer that is not asked for is a leftover of ours or somebody's
// mistake in our device, and goes. Peers are never replaced as a whole: a peer without a difference has no Op, and nothing of it
// changes. An allowed IP has one owner in a device and giving it to another peer moves it in one step, so the peer that takes
// comes before the peer that gives: at no time does the prefix belong to nobody (but for two peers that swap).
func Diff(devices []DeviceSpec, peers []Spec, state []DeviceState) []Op {
	have := make(map[string]DeviceState, len(state))
	for _, d := range state {
		have[d.Name] = d
	}
	want := make(map[string]DeviceSpec, len(devices))
	for _, d := range devices {
		want[d.Name] = d
	}
	peersOf := make(map[string][]Spec)
	for _, p := range peers {
		if p.LocalIP == (netip.Addr{}) {
			p.LocalIP = want[p.Device].LocalIP
		}
		peersOf[p.Device] = append(peersOf[p.Device], p)
	}

	var ops []Op
	for _, name := range sortedKeys(have) {
		if _, wanted := want[name]; !wanted {
			ops = append(ops, Op{Kind: DeviceDelete, Device: DeviceSpec{Name: name}})
		}
	}
	names := make(map[string]bool, len(want))
	for name := range want {
		names[name] = true
	}
	for name := range peersOf {
		names[name] = true // a peer of a device that is not asked for: its Op fails and says so
	}
	for _, name := range sortedKeys(names) {
		d, wanted := want[name]
		now, there := have[name]
		if now.Err != nil {
			continue // not known is not absent: wait for a look that sees it
		}
		switch {
		case wanted && !there:
			ops = append(ops, Op{Kind: DeviceAdd, Device: d})
		case wanted && d.Engine != "" && d.Engine != now.Engine:
			// The only change that a device does not survive: the Site names another engine.
			ops = append(ops, Op{Kind: DeviceDelete, Device: DeviceSpec{Name: name}}, Op{Kind: DeviceAdd, Device: d})
			now = DeviceState{}
		case wanted:
			if changes := deviceChanges(d, now); len(changes) > 0 {
				ops = append(ops, Op{Kind: DeviceUpdate, Device: d, Changes: changes})
			}
		default:
			now = DeviceState{} // deleted above
		}
		ops = append(ops, diffPeers(name, peersOf[name], now.Peers)...)
	}
	return ops
}

// DiffPeer gives the steps for one tunnel alone, so that changing one among 10,000 looks at no other. Present says whether the device
// has the peer; without it have is not read. At most two steps: an endpoint to be forgotten takes a removal and an addition.
func DiffPeer(want Spec, have PeerState, present bool) []Op {
	device := DeviceSpec{Name: want.Device}
	if !present {
		return []Op{{Kind: PeerAdd, Device: device, Peer: want}}
	}
	if forgets(want, have) {
		return []Op{
			{Kind: PeerDelete, Device: device, Peer: Spec{Tunnel: want.Tunnel, Device: want.Device, PublicKey: want.PublicKey}, Was: have,
				Changes: []string{fmt.Sprintf("endpoint %s forgotten, added again", have.Endpoint)}},
			{Kind: PeerAdd, Device: device, Peer: want},
		}
	}
	changes := peerChanges(want, have)
	if len(changes) == 0 {
		return nil
	}
	return []Op{{Kind: PeerUpdate, Device: device, Peer: want, Was: have, Changes: changes}}
}

// forgets reports whether the peer must lose the endpoint it has. WireGuard has no word for that (neither the kernel's netlink nor UAPI
// can unset one), so the peer alone is removed and added again. And it cannot tell a configured endpoint from one it learned, so:
// one from which nothing authenticated ever came was configured, and goes; one that the far side has spoken from is where it is,
// and stays, unless the caller, who knows the revision before, asks by ForgetEndpoint.
func forgets(want Spec, have PeerState) bool {
	if want.Endpoint.IsValid() || !have.Endpoint.IsValid() {
		return false
	}
	return want.ForgetEndpoint || have.ReceivedBytes == 0 && have.LastHandshake.IsZero()
}

func diffPeers(device string, want []Spec, have map[PublicKey]PeerState) []Op {
	slices.SortFunc(want, func(a, b Spec) int { return bytes.Compare(a.PublicKey[:], b.PublicKey[:]) })
	wanted := make(map[PublicKey]bool, len(want))
	owner := make(map[netip.Prefix]PublicKey) // who has an allowed IP now
	for key, p := range have {
		for _, prefix := range p.AllowedIPs {
			owner[prefix] = key
		}
	}
	steps := make(map[PublicKey][]Op)
	takenBy := make(map[PublicKey][]PublicKey) // giver -> takers
	var order []PublicKey
	for _, p := range want {
		if wanted[p.PublicKey] {
			continue // one key twice is refused by validation; the first stands
		}
		wanted[p.PublicKey] = true
		was, present := have[p.PublicKey]
		ops := DiffPeer(p, was, present)
		if len(ops) == 0 {
			continue
		}
		steps[p.PublicKey] = ops
		order = append(order, p.PublicKey)
		for _, prefix := range p.AllowedIPs {
			if giver, held := owner[prefix]; held && giver != p.PublicKey {
				takenBy[giver] = append(takenBy[giver], p.PublicKey)
			}
		}
	}

	var ops []Op
	visited := make(map[PublicKey]bool, len(order))
	var visit func(PublicKey)
	visit = func(key PublicKey) {
		if visited[key] {
			return // also ends a ring of peers that swap
		}
		visited[key] = true
		for _, taker := range takenBy[key] {
			visit(taker)
		}
		ops = append(ops, steps[key]...)
	}
	for _, key := range order {
		visit(key)
	}
	var unknown []PublicKey
	for key := range have {
		if !wanted[key] {
			unknown = append(unknown, key)
		}
	}
	slices.SortFunc(unknown, func(a, b PublicKey) int { return bytes.Compare(a[:], b[:]) })
	for _, key := range unknown {
		ops = append(ops, Op{Kind: PeerDelete, Device: DeviceSpec{Name: device}, Peer: Spec{Device: device, PublicKey: key}, Was: have[key]})
	}
	return ops
}

func deviceChanges(want DeviceSpec, have DeviceState) []string {
	var changes []string
	// By the public key: engines store a private key clamped (RFC 7748, 5), so the bytes may differ and the key be the same.
	if public, err := PublicKeyOf(want.PrivateKey); err != nil || public != have.PublicKey {
		changes = append(changes, "private key")
	}
	if want.Port != have.Port {
		changes = append(changes, fmt.Sprintf("port %d -> %d", have.Port, want.Port))
	}
	if want.Mark != have.Mark {
		changes = append(changes, fmt.Sprintf("mark 0x%x -> 0x%x", have.Mark, want.Mark))
	}
	if want.MTU != have.MTU {
		changes = append(changes, fmt.Sprintf("MTU %d -> %d", have.MTU, want.MTU))
	}
	if !have.Up {
		changes = append(changes, "link down -> up")
	}
	return changes
}

func peerChanges(want Spec, have PeerState) []string {
	var changes []string
	switch {
	case want.PresharedKey.Equal(have.PresharedKey):
	case want.PresharedKey.IsZero():
		changes = append(changes, "preshared key removed")
	case have.PresharedKey.IsZero():
		changes = append(changes, "preshared key set")
	default:
		changes = append(changes, "preshared key changed")
	}
	if want.Endpoint.IsValid() && want.Endpoint != have.Endpoint {
		was := "none"
		if have.Endpoint.IsValid() {
			was = have.Endpoint.String()
		}
		changes = append(changes, fmt.Sprintf("endpoint %s -> %s", was, want.Endpoint))
	}
	if want.Keepalive != have.Keepalive {
		changes = append(changes, fmt.Sprintf("keepalive %s -> %s", have.Keepalive, want.Keepalive))
	}
	added, removed := ComparePrefixes(want.AllowedIPs, have.AllowedIPs)
	if len(added) > 0 {
		changes = append(changes, "allowed IPs + "+joinSome(added))
	}
	if len(removed) > 0 {
		changes = append(changes, "allowed IPs - "+joinSome(removed))
	}
	return changes
}

// ComparePrefixes gives what is in want alone and in have alone, sorted.
func ComparePrefixes(want, have []netip.Prefix) (added, removed []netip.Prefix) {
	if slices.Equal(want, have) {
		return nil, nil
	}
	a, b := slices.Clone(want), slices.Clone(have)
	slices.SortFunc(a, netip.Prefix.Compare)
	slices.SortFunc(b, netip.Prefix.Compare)
	a, b = slices.Compact(a), slices.Compact(b)
	for len(a) > 0 || len(b) > 0 {
		switch {
		case len(b) == 0 || len(a) > 0 && a[0].Compare(b[0]) < 0:
			added, a = append(added, a[0]), a[1:]
		case len(a) == 0 || a[0].Compare(b[0]) > 0:
			removed, b = append(removed, b[0]), b[1:]
		default:
			a, b = a[1:], b[1:]
		}
	}
	return added, removed
}

// joinSome keeps a line of a plan readable: a peer may have hundreds of prefixes.
func joinSome(prefixes []netip.Prefix) string {
	const most = 8
	var words []string
	for i, p := range prefixes {
		if i == most {
			words = append(words, fmt.Sprintf("and %d more", len(prefixes)-most))
			break
		}
		words = append(words, p.String())
	}
	return strings.Join(words, " ")
}

func sortedKeys[K cmp.Ordered, V any](m map[K]V) []K {
	keys := make([]K, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}
