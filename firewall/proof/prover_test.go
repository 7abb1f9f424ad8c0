package proof

import (
	"context"
	"encoding/json"
	"errors"
	"maps"
	"math/rand/v2"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"shekara/firewall"
	"shekara/firewall/firewalltest"
)

// objects are the objects of a listing, to be changed.
type objects []map[string]map[string]any

func (o objects) listing(t *testing.T) []byte {
	out, err := json.Marshal(map[string]objects{"nftables": o})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// one is an object of a kind for which ok holds, drawn from all; nil: there is none.
func (o objects) one(r *rand.Rand, kind string, ok func(map[string]any) bool) map[string]any {
	var list []map[string]any
	for _, object := range o {
		if fields := object[kind]; fields != nil && (ok == nil || ok(fields)) {
			list = append(list, fields)
		}
	}
	if len(list) == 0 {
		return nil
	}
	return list[r.IntN(len(list))]
}

// mutate changes one thing of a listing, at random: a rule that goes, comes twice or changes places, another number in it, an element that
// goes or has another number, the generation of judgement. What comes out need not be what any kernel would list, only what it could.
func (o objects) mutate(r *rand.Rand) objects {
	rules := func(fields map[string]any) bool { return fields["expr"] != nil }
	elements := func(fields map[string]any) bool { list, _ := fields["elem"].([]any); return len(list) > 0 }
	switch r.IntN(7) {
	case 0, 1, 2:
		i := r.IntN(len(o))
		j := r.IntN(len(o))
		switch {
		case o[i]["rule"] == nil || o[j]["rule"] == nil:
		case r.IntN(3) == 0:
			o[i], o[j] = o[j], o[i]
		case r.IntN(2) == 0:
			o = slices.Delete(o, i, i+1)
		default:
			o = slices.Insert(o, j, o[i])
		}
	case 3:
		if rule := o.one(r, "rule", rules); rule != nil {
			renumber(r, rule["expr"])
		}
	case 4:
		if set := o.one(r, "set", elements); set != nil {
			list := set["elem"].([]any)
			i := r.IntN(len(list))
			set["elem"] = slices.Delete(list, i, i+1)
		}
	case 5:
		if set := o.one(r, "set", elements); set != nil {
			renumber(r, set["elem"])
		}
	case 6:
		for _, chain := range []string{"verify", "pass"} {
			if rule := o.one(r, "rule", func(fields map[string]any) bool { return fields["chain"] == chain && rules(fields) }); rule != nil {
				renumber(r, rule["expr"])
			}
		}
	}
	return o
}

// renumber changes one number somewhere in a value, if there is one.
func renumber(r *rand.Rand, v any) {
	var places []func(float64)
	var visit func(v any, set func(float64))
	visit = func(v any, set func(float64)) {
		switch v := v.(type) {
		case float64:
			places = append(places, func(n float64) { set(v + n) })
		case []any:
			for i := range v {
				visit(v[i], func(n float64) { v[i] = n })
			}
		case map[string]any:
			for _, key := range slices.Sorted(maps.Keys(v)) { // so that a seed says which number
				visit(v[key], func(n float64) { v[key] = n })
			}
		}
	}
	visit(v, func(float64) {})
	if len(places) > 0 {
		places[r.IntN(len(places))](float64(1 + r.IntN(3)))
	}
}

// vary changes one thing of a policy that is still one.
func vary(r *rand.Rand, p firewall.Policy, all firewall.Policy) firewall.Policy {
	some := func(n int) (keep []int) {
		for i := range n {
			if r.IntN(4) > 0 {
				keep = append(keep, i)
			}
		}
		return keep
	}
	switch r.IntN(4) {
	case 0:
		p.Flows = nil
		for _, i := range some(len(all.Flows)) {
			p.Flows = append(p.Flows, all.Flows[i])
		}
	case 1:
		p.Ports = nil
		for _, i := range some(len(all.Ports)) {
			p.Ports = append(p.Ports, all.Ports[i])
		}
	case 2:
		p.Probes = nil
		for _, i := range some(len(all.Probes)) {
			p.Probes = append(p.Probes, all.Probes[i])
		}
	case 3:
		return all
	}
	return p
}

// TestKeptIsNotStale: over long random sequences of changes of rules, of elements and of the policy, a Prover that keeps its diagrams says
// each time just what one says that begins from nothing; also one that has to begin anew now and then.
func TestKeptIsNotStale(t *testing.T) {
	sequences, steps := 6, 24
	if testing.Short() {
		sequences, steps = 2, 8
	}
	listing, err := os.ReadFile(filepath.Join("testdata", "site.json"))
	if err != nil {
		t.Fatal(err)
	}
	policy := firewalltest.Example(t, "site")
	verdicts := map[Verdict]int{}
	for seed := range sequences {
		r := rand.New(rand.NewPCG(uint64(seed), 4))
		kept := &Prover{}
		if seed%2 == 1 {
			kept.limit = 700_000 // a proof of the site takes some 300,000
		}
		fresh := func() (document struct {
			Objects objects `json:"nftables"`
		}) {
			if err := json.Unmarshal(listing, &document); err != nil {
				t.Fatal(err)
			}
			return document
		}
		o, p := fresh().Objects, policy
		for step := range steps {
			switch {
			case step%6 == 5: // back to what is true: and proved again
				o, p = fresh().Objects, policy
			case r.IntN(3) == 0:
				p = vary(r, p, policy)
			default:
				o = o.mutate(r)
			}
			text := o.listing(t)
			loaded, err := Decode(text)
			if err != nil {
				t.Fatalf("seed %d, step %d: %v", seed, step, err)
			}
			got, err := kept.Prove(t.Context(), loaded, p)
			if err != nil {
				t.Fatalf("seed %d, step %d: %v", seed, step, err)
			}
			want, err := (&Prover{limit: kept.limit}).Prove(t.Context(), loaded, p)
			if err != nil {
				t.Fatalf("seed %d, step %d: %v", seed, step, err)
			}
			if diff := cmp.Diff(want, got, cmpopts.IgnoreFields(Result{}, "Nodes"), cmpopts.EquateComparable(netip.Addr{})); diff != "" {
				t.Fatalf("seed %d, step %d: from nothing and kept differ: %s", seed, step, diff)
			}
			verdicts[got.Verdict]++
		}
	}
	t.Log(verdicts)
	if verdicts[Proved] == 0 || verdicts[Violated] == 0 {
		t.Error("the sequences are no test: one verdict never came")
	}
}

// TestEnded: a proof ends with its context, with its error, and the next one is what it would have been.
func TestEnded(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	var p Prover
	if result, err := p.Prove(ctx, readListing(t, "site"), firewalltest.Example(t, "site")); !errors.Is(err, context.Canceled) {
		t.Errorf("%+v, %v", result, err)
	}
	if result, err := p.Prove(t.Context(), readListing(t, "site"), firewalltest.Example(t, "site")); err != nil || result.Verdict != Proved {
		t.Errorf("%+v, %v", result, err)
	}
}
