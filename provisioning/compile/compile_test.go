package compile_test

import (
	"crypto/sha256"
	"flag"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"shekara/firewall"
	"shekara/provisioning/compile"
	"shekara/provisioning/document"
	"shekara/provisioning/validate"
	"shekara/tunnels"
)

var update = flag.Bool("update", false, "write the golden files anew")

// examples is the set of every folder of docs/examples, with a key for each device that leaves its key to the box.
func examples(t testing.TB) map[string]*document.Set {
	t.Helper()
	paths, err := filepath.Glob("../../docs/examples/*/*.yaml")
	if err != nil || len(paths) == 0 {
		t.Fatalf("find the examples: %d, %v", len(paths), err)
	}
	files := map[string][]document.File{}
	for _, path := range paths {
		data, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		folder := filepath.Base(filepath.Dir(path))
		files[folder] = append(files[folder], document.File{Name: path, Data: data})
	}
	sets := map[string]*document.Set{}
	for folder, files := range files {
		documents, problems := document.Decode(files)
		set := document.NewSet(documents...)
		for _, p := range append(problems, validate.Check(set, validate.Options{})...) {
			t.Errorf("as it stands: %s", p)
		}
		var keyed []*document.Document
		for d := range set.Of(document.KindPeer) {
			keyed = append(keyed, withKeys(t, d))
		}
		sets[folder], _ = set.Merge(keyed)
	}
	return sets
}

func withKeys(t testing.TB, d *document.Document) *document.Document {
	peer := *d.Spec.(*document.Peer)
	peer.WireGuard = slices.Clone(peer.WireGuard)
	for i, w := range peer.WireGuard {
		if w.PublicKey == "" {
			sum := sha256.Sum256(fmt.Appendf(nil, "%s %d", d.Name, i))
			peer.WireGuard[i].PublicKey = tunnels.PublicKey(sum).String()
		}
	}
	made, err := document.New(d.Name, &peer)
	if err != nil {
		t.Fatal(err)
	}
	return made
}

// Every example is decoded, validated for each of its sites, compiled, and as it was: goldens in testdata/<example>.<site>.txt.
func TestExamplesCompileToGolden(t *testing.T) {
	for folder, set := range examples(t) {
		for _, site := range set.Sites() {
			for _, p := range validate.Check(set, validate.Options{Site: site}) {
				t.Errorf("for %s: %s", site, p)
			}
			desired, err := compile.Compile(set, site)
			if err != nil {
				t.Fatal(err)
			}
			got, golden := text(desired), filepath.Join("testdata", folder+"."+site+".txt")
			if *update {
				if err := os.WriteFile(golden, []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(golden)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(strings.Split(string(want), "\n"), strings.Split(got, "\n")); diff != "" {
				t.Errorf("%s (-want +got; -update writes it anew):\n%s", golden, diff)
			}
		}
	}
}

// text is what a box should hold, in the words of the tools that show it.
func text(d *compile.Desired) string {
	var w strings.Builder
	line := func(format string, a ...any) { fmt.Fprintf(&w, format+"\n", a...) }
	b := d.Base
	if b.StopUnrecorded {
		line("nothing is forwarded that cannot be recorded")
	}
	if b.KeepMonths > 0 {
		line("the journal is kept for %d months", b.KeepMonths)
	}
	if !slices.Equal(b.Units, slices.Sorted(slices.Values(strings.Split(compile.DefaultUnits, ", ")))) {
		line("what these units say is recorded: %v", b.Units)
	}
	line("site %s, repair %t, engine %s, lab %t, dns %v", d.Site, b.Repair, b.Engine, b.Lab, b.DNS)
	line("management from %v in zone %s to %v", b.Management.From, b.Management.Zone, b.Management.Services)
	if b.Time != nil {
		line("time by %s: %d of %d sources must agree, within %s; served at %v to %v", b.Time.Name, b.Time.Agreeing, len(b.Time.Sources), b.Time.MaxDistance, b.Time.Addresses, b.Time.Clients)
	}
	for _, o := range b.Offers {
		line("offer of %s: %v %v -> %v %v", o.Name, o.From, o.Sources, o.Addresses, o.Services)
	}
	for _, z := range b.Zones {
		line("zone %s %v", z.Name, z.Prefixes)
	}
	for _, i := range b.Interfaces {
		line("interface %s in zone %s", i.Name, i.Zone)
	}
	for _, name := range slices.Sorted(maps.Keys(b.Devices)) {
		s, f := b.Devices[name].Spec, b.Devices[name].Filter
		line("device %s of %s for %s %s: %s:%d mark 0x%x mtu %d", s.Name, s.LocalPeer, s.FarZone, s.Environment, s.LocalIP, s.Port, s.Mark, s.MTU)
		line("  key %s, public %s", b.Devices[name].KeyName, b.Devices[name].PublicKey)
		line("  filter %s from zone %s: %s:%d mark 0x%x mtu %d", f.Name, f.FarZone, f.LocalIP, f.Port, f.Mark, f.MTU)
	}
	for _, r := range b.Network.Rules {
		line("%s", r)
	}
	for _, r := range b.Network.Routes {
		line("%s", r)
	}
	for _, key := range slices.Sorted(maps.Keys(b.Network.Sysctls)) {
		line("%s = %s", key, b.Network.Sysctls[key])
	}
	for _, name := range slices.Sorted(maps.Keys(d.Tunnels)) {
		tunnelText(line, d.Tunnels[name])
	}
	for _, name := range slices.Sorted(maps.Keys(d.Flows)) {
		flowText(line, d.Flows[name].Flow)
	}
	return w.String()
}

func tunnelText(line func(string, ...any), t compile.Tunnel) {
	line("tunnel %s", t.Name)
	if t.Unsupported != "" {
		line("  unsupported: %s", t.Unsupported)
		return
	}
	line("  peer %s of %s at %s: allowed %v, keepalive %s, preshared key %q", t.Spec.PublicKey, t.Spec.Device, t.Spec.LocalIP, t.Spec.AllowedIPs, t.Spec.Keepalive, t.PresharedKey)
	line("  endpoint %q port %d, expect %s", t.EndpointHost, t.EndpointPort, t.ExpectIP)
	line("  port of %s open to %s", t.Port.Device, t.Port.From)
	for _, r := range t.Routes {
		line("  %s", r)
	}
	if t.Probe != nil {
		line("  probe %s -> %s through %s every %d s", t.Probe.Local, t.Probe.Remote, t.Probe.Device, t.ProbeEvery)
	}
	for _, f := range t.Flows {
		flowText(line, f)
	}
}

func flowText(line func(string, ...any), f firewall.Flow) {
	line("  flow %s of tunnel %q: %v %v -> %v %v %v", f.Name, f.Tunnel, f.From, f.Sources, f.To, f.Destinations, f.Services)
}
