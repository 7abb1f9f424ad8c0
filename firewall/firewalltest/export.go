package firewalltest

import (
	"encoding/json"
	"math/rand/v2"
	"net/netip"
	"path/filepath"
	"testing"

	"github.com/rogpeppe/go-internal/txtar"

	"shekara/firewall"
	"shekara/netctl/nstest"
)

// Rig is a box with six neighbours, for tests of one engine.
type Rig struct{ *rig }

// NewRig makes one for an engine.
func NewRig(t testing.TB, e Engine) Rig { return Rig{newRig(t, e)} }

// Box is the host that filters.
func (r Rig) Box() *nstest.H { return r.box }

// Arrives sends a packet that is forwarded, the first of a connection, and says whether it arrives where it should.
func (r Rig) Arrives(p firewall.Packet) bool {
	r.t.Helper()
	r.box.Run("conntrack", "-F")
	_, _, there := r.Seen(p)
	return there
}

// Seen sends a packet that is forwarded, with whatever connections there are, and says with which addresses it arrives where it should.
func (r Rig) Seen(p firewall.Packet) (source, destination netip.Addr, there bool) {
	r.t.Helper()
	id := r.send(packet{source: p.Source, to: p.Destination, protocol: p.Protocol, sport: p.SourcePort, dport: p.DestinationPort, arriveOn: p.From})
	got, there := r.arrived()[p.To][id]
	if there {
		source, destination = addressesOf(r.t, got)
	}
	return source, destination, there
}

// RouteMapped routes what TranslatedPolicy maps.
func (r Rig) RouteMapped() { r.routeMapped() }

// TranslatedPolicy is that of the rig's box with one range behind both devices, and its LAN hidden from the second.
func TranslatedPolicy() firewall.Policy { return translatedRig() }

// RigPolicy is that of the rig's box, without flows.
func RigPolicy() firewall.Policy { return rigPolicy() }

// SomePolicy adds random flows, ports and probes to the rig's policy; equal seeds give equal ones.
func SomePolicy(seed uint64) firewall.Policy { return somePolicy(rand.New(rand.NewPCG(seed, 2))) }

// ConnectionPolicy lets far, behind sk-a, reach port 443 of near in the screened subnet, and, if extra, also port 80.
func ConnectionPolicy(far, near string, extra bool) firewall.Policy {
	return connectionPolicy(far, near, extra)
}

// Load compiles and loads a policy.
func Load(t testing.TB, in Inside, p firewall.Policy) firewall.Ruleset {
	t.Helper()
	return load(t, in, p)
}

// Example is the policy of one of the compiler's examples.
func Example(t testing.TB, name string) firewall.Policy {
	t.Helper()
	archive, err := txtar.ParseFile(filepath.Join("..", "testdata", name+".txtar"))
	if err != nil {
		t.Fatal(err)
	}
	var p firewall.Policy
	if err := json.Unmarshal(archive.Files[0].Data, &p); err != nil {
		t.Fatal(err)
	}
	return p
}
