package proof

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"shekara/firewall"
)

// listed is a listing with one table x, one base chain f at forward, and what is given beside them.
func listed(objects ...string) []byte {
	return []byte(`{"nftables": [{"table": {"family": "inet", "name": "x", "handle": 1}},
		{"chain": {"family": "inet", "table": "x", "name": "f", "handle": 2, "type": "filter", "hook": "forward", "prio": 0, "policy": "accept"}}` +
		strings.Join(append([]string{""}, objects...), ",") + `]}`)
}

func rules(expressions string) string {
	return `{"rule": {"family": "inet", "table": "x", "chain": "f", "handle": 7, "expr": [` + expressions + `]}}`
}

// TestUnknownIsNamed: whatever is not understood is named with its place, and makes the proof indeterminate. As nft 1.0.6 prints it.
func TestUnknownIsNamed(t *testing.T) {
	in := "table inet x, chain f, handle 7: "
	for _, c := range []struct{ object, want string }{
		{rules(`{"xt": null}`), in + `statement {"xt":null}`},
		{rules(`{"flow": {"op": "add", "flowtable": "@ft"}}`), in + `statement {"flow":`},
		{rules(`{"queue": {"num": 1}}`), in + `statement {"queue":`},
		{rules(`{"limit": {"rate": 10, "per": "second"}}, {"accept": null}`), in + "limit accept: a rate decides"},
		{rules(`{"match": {"op": "==", "left": {"numgen": {"mode": "random", "mod": 2}}, "right": 0}}`), in + `expression {"numgen":`},
		{rules(`{"match": {"op": "==", "left": {"ct": {"key": "status"}}, "right": 32}}`), in + `match ct status 32: ct status other than confirmed`},
		{rules(`{"match": {"op": "==", "left": {"ct": {"key": "expiration"}}, "right": 32}}`), in + `expression {"ct":{"key":"expiration"}}`},
		{rules(`{"match": {"op": "==", "left": {"payload": {"base": "th", "offset": 0, "len": 8}}, "right": 3}}`), in + `expression {"payload":`},
		{rules(`{"match": {"op": "==", "left": {"meta": {"key": "l4proto"}}, "right": "tcp"}}`), in + "match meta l4proto tcp: meta l4proto is compared with what it cannot be"},
		{rules(`{"match": {"op": "==", "left": {"meta": {"key": "l4proto"}}, "right": "@gone"}}`), "set @gone is not listed"},
		{rules(`{"match": {"op": "~", "left": {"meta": {"key": "mark"}}, "right": 1}}`), "operator ~"},
		{rules(`{"mangle": {"key": {"payload": {"protocol": "ip", "field": "saddr"}}, "value": "10.0.0.1"}}`), in + "statement sets"},
		{rules(`{"jump": {"target": "gone"}}`), `chain "gone", which is not listed`},
		{rules(`{"jump": {"target": "f"}}`), "chain f: it leads to itself"},
		{rules(`{"accept": null, "drop": null}`), in},
		{`{"rule": {"family": "inet", "table": "x", "chain": "gone", "handle": 7, "expr": []}}`, "its chain is not listed"},
		{`{"flowtable": {"family": "inet", "name": "ft", "table": "x", "hook": "ingress"}}`, "table inet x: flowtable ft"},
		{`{"ct helper": {"family": "inet", "name": "ftp", "table": "x"}}`, "table inet x: ct helper ftp"},
		{`{"table": {"family": "inet", "name": "y", "flags": "dormant"}}`, "table inet y: flags"},
		{`{"set": {"family": "inet", "name": "s", "table": "x", "type": "ipv4_addr", "flags": ["timeout"]}}`, "set s: flag timeout"},
		{`{"set": {"family": "inet", "name": "s", "table": "x", "type": "ipv4_addr", "elem": [{"elem": {"val": "10.0.0.1", "expires": 3}}]}}`, "element with expires"},
		{`{"chain": {"family": "inet", "table": "x", "name": "i", "type": "filter", "hook": "ingress", "dev": "lo", "prio": 0}}`, "chain i: hook ingress"},
		{`{"chain": {"family": "bridge", "table": "x", "name": "b", "type": "filter", "hook": "forward", "prio": 0}}`, "family bridge"},
	} {
		loaded, err := Decode(listed(c.object))
		if err != nil {
			t.Errorf("%s: %v", c.object, err)
			continue
		}
		result, err := Prove(loaded, firewall.Policy{})
		if err != nil || result.Verdict != Indeterminate || !strings.Contains(strings.Join(result.Reasons, "\n"), c.want) {
			t.Errorf("%s: %+v, %v; want a reason with %q", c.object, result, err, c.want)
		}
	}
	// The same listing without anything unknown is not indeterminate: the reasons are those of the objects.
	loaded, err := Decode(listed(rules(`{"drop": null}`)))
	if err != nil {
		t.Fatal(err)
	}
	if result, err := Prove(loaded, firewall.Policy{}); err != nil || result.Verdict == Indeterminate {
		t.Errorf("%+v, %v", result, err)
	}
}

// TestNoListing: what is no listing is an error.
func TestNoListing(t *testing.T) {
	for _, text := range []string{"", "{}", "[]", "null", `{"nftables": 1}`, `{"nftables": [{"rule": 1}]}`, `{"nftables": []} x`,
		"{\"nftables\": [{\"table\": {\"family\": \"inet\", \"name\": \"d\", \"handle\": 1, \"flags\": \x01"} {
		if _, err := Decode([]byte(text)); err == nil {
			t.Errorf("%q is taken for a listing", text)
		}
	}
}

// FuzzDecode: no listing crashes the decoder or the proof, and none that holds something unmodelled is proved.
func FuzzDecode(f *testing.F) {
	for _, name := range []string{"empty", "site"} {
		listing, err := os.ReadFile(filepath.Join("testdata", name+".json"))
		if err != nil {
			f.Fatal(err)
		}
		f.Add(listing)
	}
	f.Add(listed(rules(`{"match": {"op": "in", "left": {"ct": {"key": "state"}}, "right": [2, 4]}}, {"vmap": {"key": {"meta": {"key": "mark"}}, "data": {"set": [[{"range": [1, 3]}, {"goto": {"target": "f"}}]]}}}`)))
	f.Add(listed(rules(`{"mangle": {"key": {"ct": {"key": "mark"}}, "value": {"|": [{"meta": {"key": "mark"}}, 1]}}}, {"return": null}`)))
	f.Add(listed(rules(`{"match": {"op": "!=", "left": {"&": [{"payload": {"protocol": "ip6", "field": "saddr"}}, "ffff::"]}, "right": {"prefix": {"addr": "fd00::", "len": 8}}}}, {"drop": null}`)))
	f.Fuzz(func(t *testing.T, listing []byte) {
		loaded, err := Decode(listing)
		if err != nil {
			return
		}
		if len(listing) > 10_000 {
			return // the proof's time is no matter of the decoder
		}
		inner := Ruleset{chains: loaded.chains, names: loaded.names} // what is not understood stands between what is
		result, err := (&Prover{limit: 200_000}).Prove(t.Context(), &inner, firewall.Policy{Interfaces: []firewall.Interface{{Name: "a", Zone: "z"}}, Zones: []firewall.Zone{{Name: "z"}}})
		if err != nil {
			t.Fatal(err)
		}
		if len(loaded.unmodelled) > 0 {
			if outer, err := Prove(loaded, firewall.Policy{}); err != nil || outer.Verdict != Indeterminate {
				t.Errorf("%v and yet %+v, %v", loaded.unmodelled, outer, err)
			}
		}
		if (result.Verdict == Violated) != (len(result.Violations) > 0) || (result.Verdict == Indeterminate) != (len(result.Reasons) > 0) {
			t.Errorf("%+v", result)
		}
	})
}
