package compile_test

import (
	"fmt"
	"net/netip"
	"os"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"pgregory.net/rapid"

	"shekara/firewall"
	"shekara/netctl/secret"
	"shekara/provisioning/compile"
	"shekara/provisioning/document"
	"shekara/provisioning/document/documenttest"
	"shekara/provisioning/validate"
)

var plainly = cmp.Options{
	cmpopts.EquateComparable(netip.Addr{}, netip.AddrPort{}, netip.Prefix{}),
	cmp.Comparer(func(a, b secret.Key) bool { return a.Equal(b) }),
}

func validSet(t testing.TB) *document.Set {
	t.Helper()
	data, err := os.ReadFile("../validate/testdata/valid.yaml")
	if err != nil {
		t.Fatal(err)
	}
	documents, problems := document.Decode([]document.File{{Name: "valid.yaml", Data: data}})
	if len(problems) > 0 {
		t.Fatal(problems)
	}
	return document.NewSet(documents...)
}

// Compiled alone, each part is what Compile has for it; and what a change does not affect stays as it was.
func TestOneIsCompilesShareAndTheUnaffectedStays(t *testing.T) {
	start := validSet(t)
	compiled, kept := 0, 0
	check := func(t *rapid.T) {
		set := start
		before, err := compile.Compile(set, "owner")
		if err != nil {
			t.Fatal(err)
		}
		for range rapid.IntRange(1, 12).Draw(t, "edits") {
			after, changes := documenttest.Mutate(t, set)
			if len(validate.Check(after, validate.Options{Site: "owner"})) > 0 {
				continue
			}
			now, err := compile.Compile(after, "owner")
			if err != nil {
				t.Fatalf("valid, but does not compile: %v", err)
			}
			compiled++
			alone(t, after, now)
			accepted(t, now)
			affected := map[document.Ref]bool{}
			for _, r := range after.Affected(changes) {
				affected[r] = true
			}
			for name, was := range before.Tunnels {
				is, there := now.Tunnels[name]
				ref := document.Ref{Kind: document.KindTunnel, Name: name}
				if affected[ref] || after.Get(ref) == nil {
					continue
				}
				kept++
				if diff := cmp.Diff(was, is, plainly); !there || diff != "" {
					t.Fatalf("changes %v do not affect tunnel %s, but (-was +is):\n%s", changes, name, diff)
				}
			}
			set, before = after, now
		}
	}
	for round := 0; round == 0 || round < 50 && (compiled == 0 || kept == 0) && !t.Failed(); round++ { // what is drawn may all be invalid
		rapid.Check(t, check)
	}
	if compiled == 0 || kept == 0 {
		t.Errorf("%d sets compiled, %d tunnels kept: the test must see both", compiled, kept)
	}
	t.Logf("%d sets compiled, %d tunnels kept", compiled, kept)
}

// accepted: what is valid is taken by those who make it real.
func accepted(t *rapid.T, d *compile.Desired) {
	p := firewall.Policy{Zones: d.Base.Zones, Interfaces: d.Base.Interfaces, Management: d.Base.Management, DNS: d.Base.DNS}
	for _, device := range d.Base.Devices {
		p.Devices = append(p.Devices, device.Filter)
		spec := device.Spec
		spec.PrivateKey, _ = secret.NewKey(make([]byte, 32))
		if err := spec.Check(); err != nil {
			t.Fatalf("valid, but the tunnel driver refuses it: %v", err)
		}
	}
	for _, tunnel := range d.Tunnels {
		if tunnel.Unsupported != "" {
			continue
		}
		p.Ports, p.Flows = append(p.Ports, tunnel.Port), append(p.Flows, tunnel.Flows...)
		if tunnel.Probe != nil {
			p.Probes = append(p.Probes, *tunnel.Probe)
		}
		if err := tunnel.Spec.Check(); err != nil {
			t.Fatalf("valid, but the tunnel driver refuses it: %v", err)
		}
	}
	for _, flow := range d.Flows {
		p.Flows = append(p.Flows, flow.Flow)
	}
	if _, err := firewall.Compile(p); err != nil {
		t.Fatalf("valid, but the filter refuses it: %v", err)
	}
}

func alone(t *rapid.T, set *document.Set, all *compile.Desired) {
	base, err := compile.BaseOf(set, "owner")
	if diff := cmp.Diff(all.Base, base, plainly); err != nil || diff != "" {
		t.Fatalf("base: %v\n%s", err, diff)
	}
	for d := range set.All() {
		switch d.Kind {
		case document.KindTunnel:
			one, here, err := compile.One(set, "owner", d.Name)
			want, there := all.Tunnels[d.Name]
			if diff := cmp.Diff(want, one, plainly); err != nil || here != there || diff != "" {
				t.Fatalf("tunnel %s: here %t, want %t, %v\n%s", d.Name, here, there, err, diff)
			}
		case document.KindFlow:
			one, here, err := compile.OneFlow(set, "owner", d.Name)
			want, there := all.Flows[d.Name]
			if diff := cmp.Diff(want, one, plainly); err != nil || here != there || diff != "" {
				t.Fatalf("flow %s: here %t, want %t, %v\n%s", d.Name, here, there, err, diff)
			}
		}
	}
}

func BenchmarkCompile(b *testing.B) {
	for _, n := range []int{10, 1000, 10000} {
		documents, _ := document.Decode(documenttest.Many(n))
		set := document.NewSet(documents...)
		b.Run(fmt.Sprintf("all/%d", n), func(b *testing.B) {
			for b.Loop() {
				if d, err := compile.Compile(set, "owner"); err != nil || len(d.Tunnels) != n {
					b.Fatal(err)
				}
			}
		})
		b.Run(fmt.Sprintf("one/%d", n), func(b *testing.B) {
			for b.Loop() {
				if _, here, err := compile.One(set, "owner", documenttest.Name(5)); err != nil || !here {
					b.Fatal(here, err)
				}
			}
		})
	}
}
