package provisioning

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"shekara/firewall"
	"shekara/netctl"
)

// guard watches every step of an apply. At each moment the packets that pass must pass by the old revision or by the new one: what is
// removed is closed before anything moves, what is added is opened after everything stands, and no prefix of ours ever leaves in the clear.
type guard struct {
	b        *box
	old      firewall.Elements
	base     string
	steps    []step
	prefixes map[string]bool // inner prefixes of the revision before
}

type step struct {
	text     string
	elements firewall.Elements // that the filter holds just before the step
	base     string
	dead     map[string]bool // inner prefixes with an unreachable route just before the step
}

func watch(b *box) *guard {
	table, _ := b.filter.Table()
	g := &guard{b: b, old: table.Elements, base: table.Base, prefixes: deadEnds(b)}
	b.onStep(func(text string) {
		table, _ := b.filter.Table()
		g.steps = append(g.steps, step{text: text, elements: table.Elements, base: table.Base, dead: deadEnds(b)})
	})
	return g
}

// deadEnds are the inner prefixes that have an unreachable route.
func deadEnds(b *box) map[string]bool {
	state, err := b.network.Observe(b.t.Context(), nil)
	if err != nil {
		b.t.Fatal(err)
	}
	dead := map[string]bool{}
	for _, r := range state.Routes {
		if r.Kind == netctl.Unreachable && r.Table == netctl.InnerTable {
			dead[r.Prefix.String()] = true
		}
	}
	return dead
}

func isFilter(text string) bool { return strings.HasPrefix(text, "filter:") }

func (s step) String() string { return s.text }

func (g *guard) check(t interface{ Errorf(string, ...any) }) {
	g.b.onStep(nil)
	table, _ := g.b.filter.Table()
	end, after := table.Elements, deadEnds(g.b)
	// Where peers and routes only come and nothing ends, the filter may open beside them.
	gone, _ := end.Diff(g.old)
	onlyAdds := gone.Count() == 0 && table.Base == g.base &&
		!slices.ContainsFunc(g.steps, func(s step) bool { return !isFilter(s.text) && !strings.HasPrefix(s.text, "add ") })
	for _, s := range g.steps {
		if isFilter(s.text) {
			continue
		}
		if table.Base == g.base && !onlyAdds { // elements of one base can be compared as text
			opened, _ := g.old.Diff(s.elements)
			for _, ports := range []string{"tunnel_peer4", "tunnel_peer6", "tunnel_any4", "tunnel_any6"} {
				delete(opened, ports) // behind a port is only the device, which knows its peers by key
			}
			if opened.Count() > 0 {
				t.Errorf("at %q the filter already opens %v", s.text, opened)
			}
		}
		if open, _ := end.Diff(s.elements); open.Count() > 0 && !strings.HasPrefix(s.text, "set sysctl") {
			t.Errorf("at %q the filter still opens %v, which the new revision does not allow", s.text, open)
		}
		for prefix := range g.prefixes {
			if after[prefix] && !s.dead[prefix] {
				t.Errorf("at %q prefix %s, which both revisions hold, is not unreachable underneath", s.text, prefix)
			}
		}
		if strings.HasPrefix(s.text, "set sysctl") {
			if missing, _ := s.elements.Diff(end); missing.Count() > 0 || s.base != table.Base {
				t.Errorf("at %q the filter is not whole yet", s.text)
			}
		}
	}
}

func TestDenyFirst(t *testing.T) {
	for name, change := range map[string]string{
		"a tunnel comes":       agency{n: 7}.yaml(),
		"a service goes":       agency{n: 0, services: "tcp/80"}.yaml(),
		"a prefix moves":       agency{n: 0, prefix: "10.70.0.0/28"}.yaml(),
		"prefixes are swapped": agency{n: 0, prefix: agency{n: 1}.prefixText()}.yaml() + agency{n: 1, prefix: agency{n: 0}.prefixText()}.yaml(),
		"a key changes":        agency{n: 0, key: agency{n: 50}.keyText()}.yaml(),
		"management changes":   strings.Replace(site, "allow: [tcp/22]", "allow: [tcp/2222]", 1) + agency{n: 0, services: "tcp/80"}.yaml() + agency{n: 7}.yaml(),
	} {
		t.Run(name, func(t *testing.T) {
			b := established(t, 3)
			g := watch(b)
			b.mustApply(request(change))
			g.check(t)
			if len(g.steps) == 0 {
				t.Error("nothing was done")
			}
			b.mustBeAsAsked()
		})
	}
	t.Run("the first revision", func(t *testing.T) {
		b := newBox(t).start()
		g := watch(b)
		b.mustApply(request(site + agencies(0, 3)))
		g.check(t)
		forwarding := slices.IndexFunc(g.steps, func(s step) bool { return strings.Contains(s.text, "ip_forward") })
		if forwarding < 0 || forwarding < len(g.steps)-len(b.intent.base.Network.Sysctls) {
			t.Errorf("forwarding is step %d of %d", forwarding, len(g.steps))
		}
	})
	t.Run("tunnels go", func(t *testing.T) {
		b := established(t, 3)
		g := watch(b)
		r := request(site + agencies(0, 1))
		r.Whole = true
		b.mustApply(r)
		g.check(t)
		order := func(words ...string) int {
			return slices.IndexFunc(g.steps, func(s step) bool {
				return !slices.ContainsFunc(words, func(w string) bool { return !strings.Contains(s.text, w) })
			})
		}
		first := agency{n: 1}.prefixText()
		closed, route, peer, dead := order("filter:"), order("delete route", first+" dev"), order("delete peer"), order("delete route unreachable", first)
		if !(0 <= closed && closed < route && route < peer && peer < dead) {
			t.Errorf("filter %d, route %d, peer %d, unreachable %d: %v", closed, route, peer, dead, g.steps)
		}
	})
}

// After any edits the host is as the documents ask, and at no step on the way was it open to what neither revision allows.
func TestAnyEdits(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		b := newBox(t)
		b.start()
		defer b.kill()
		b.mustApply(request(site + agencies(0, 2)))
		b.mustConfirm()
		want := map[int]agency{0: {n: 0}, 1: {n: 1}}
		for range rapid.IntRange(1, 5).Draw(rt, "edits") {
			next := maps.Clone(want)
			for _, n := range rapid.SliceOfNDistinct(rapid.IntRange(0, 4), 1, 3, func(n int) int { return n }).Draw(rt, "agencies") {
				if _, there := next[n]; there && rapid.Bool().Draw(rt, "remove") {
					delete(next, n)
					continue
				}
				next[n] = agency{n: n,
					services: rapid.SampledFrom([]string{"tcp/443", "tcp/80", "tcp/80, udp/53", "icmp"}).Draw(rt, "services"),
					key:      rapid.SampledFrom([]string{"", agency{n: 100 + n}.keyText()}).Draw(rt, "key"),
					prefix:   fmt.Sprintf("10.%d.%d.0/28", 70+n, rapid.IntRange(0, 1).Draw(rt, "prefix")),
				}
			}
			text := site
			for _, n := range slices.Sorted(maps.Keys(next)) {
				text += next[n].yaml()
			}
			r := request(text)
			r.Whole = true
			g := watch(b)
			result := b.mustApply(r)
			g.check(rt)
			if len(result.Failed) > 0 {
				rt.Errorf("failed: %v", result.Failed)
			}
			b.mustBeAsAsked()
			b.mustHavePeers(slices.Collect(maps.Values(next))...)
			if again := b.mustApply(r); !again.Plan.Empty() {
				rt.Errorf("the same again is a plan of %v", again.Plan.Steps)
			}
			want = next
		}
	})
}

// WireGuard tries again only five seconds after an unanswered first handshake: its answer must not meet a closed port.
func TestPortIsOpenBeforeItsPeerComes(t *testing.T) {
	b := newBox(t)
	b.start()
	b.mustApply(request(site + agencies(0, 2)))
	b.mustConfirm()
	came := 0
	b.onStep(func(step string) {
		if !strings.HasPrefix(step, "add peer agency-7") {
			return
		}
		came++
		if table, _ := b.filter.Table(); !strings.Contains(strings.Join(table.Elements["tunnel_peer4"], " "), "198.18.0.7") {
			t.Errorf("at %q the port is closed to it: %v", step, table.Elements["tunnel_peer4"])
		}
	})
	b.mustApply(request(agency{n: 7}.yaml()))
	if came != 1 {
		t.Errorf("the peer was added %d times", came)
	}
}
