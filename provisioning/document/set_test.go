package document_test

import (
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"shekara/provisioning/document"
	"shekara/provisioning/document/documenttest"
)

// content is every document of a set.
func content(s *document.Set) string {
	var w strings.Builder
	for d := range s.All() {
		w.WriteString(d.Canonical())
	}
	return w.String()
}

// A set that was edited answers like one that was made anew of the same documents, and the one before answers as it did.
func TestEditedSetIsLikeANewOne(t *testing.T) {
	documents, _ := document.Decode(documenttest.Many(12))
	start := document.NewSet(documents...)
	rapid.Check(t, func(t *rapid.T) {
		set := start
		for range rapid.IntRange(1, 6).Draw(t, "edits") {
			before := content(set)
			after, changes := documenttest.Mutate(t, set)
			if content(set) != before {
				t.Fatal("the old set changed")
			}
			same(t, after, document.NewSet(slices.Collect(after.All())...))
			follow(t, set, after, changes)
			set = after
		}
	})
}

// same asks both sets all that can be asked.
func same(t *rapid.T, a, b *document.Set) {
	if a.Len() != b.Len() || content(a) != content(b) {
		t.Fatal("documents differ")
	}
	for d := range a.All() {
		for _, from := range []document.Kind{document.KindSite, document.KindPeer, document.KindTunnel, document.KindFlow} {
			equal(t, "references", slices.Collect(a.References(d.Ref(), from)), slices.Collect(b.References(d.Ref(), from)))
		}
		equal(t, "sites of", a.SitesOf(d.Name), b.SitesOf(d.Name))
		if tunnel := a.Tunnel(d.Name); tunnel != nil {
			equal(t, "pair", slices.Collect(a.Pair(tunnel)), slices.Collect(b.Pair(tunnel)))
			equal(t, "preshared keys", slices.Collect(a.PresharedKeys(tunnel.PresharedKey)), slices.Collect(b.PresharedKeys(tunnel.PresharedKey)))
		}
		if peer := a.Peer(d.Name); peer != nil {
			for _, w := range peer.WireGuard {
				equal(t, "public keys", slices.Collect(a.PublicKeys(w.PublicKey)), slices.Collect(b.PublicKeys(w.PublicKey)))
			}
		}
	}
	equal(t, "sites", a.Sites(), b.Sites())
	for _, p := range []string{"10.64.0.0/12", "10.64.0.16/28", "10.64.0.17/32", "0.0.0.0/0", "198.18.0.0/24", "::/0"} {
		prefix := netip.MustParsePrefix(p)
		equal(t, "zones", sorted(swap(a.Zones(prefix))), sorted(swap(b.Zones(prefix))))
		equal(t, "remotes", sorted(swap(a.Remotes("owner-edge", prefix))), sorted(swap(b.Remotes("owner-edge", prefix))))
		equal(t, "public IPs", sorted(swap(a.PublicIPs(prefix))), sorted(swap(b.PublicIPs(prefix))))
		equal(t, "selectors", sorted(swap(a.Selectors(prefix))), sorted(swap(b.Selectors(prefix))))
	}
}

func swap(in func(func(netip.Prefix, document.Holder) bool)) func(func(document.Holder, netip.Prefix) bool) {
	return func(yield func(document.Holder, netip.Prefix) bool) {
		in(func(p netip.Prefix, h document.Holder) bool { return yield(h, p) })
	}
}

func sorted(in func(func(document.Holder, netip.Prefix) bool)) []string {
	var list []string
	for h, p := range in {
		list = append(list, h.Ref.String()+" "+h.Path+" "+p.String())
	}
	slices.Sort(list)
	return list
}

func equal[T any](t *rapid.T, what string, a, b T) {
	if diff := cmp.Diff(a, b); diff != "" {
		t.Fatalf("%s (-edited +new):\n%s", what, diff)
	}
}

// follow applies the changes to the old documents by hand.
func follow(t *rapid.T, before, after *document.Set, changes []document.Change) {
	have := map[document.Ref]string{}
	for d := range before.All() {
		have[d.Ref()] = d.Canonical()
	}
	for _, c := range changes {
		was, known := have[c.Ref]
		switch {
		case c.Verb == document.Add && (known || c.Before != nil), c.Verb == document.Remove && (!known || c.After != nil),
			c.Verb == document.Modify && (!known || was == c.After.Canonical()), c.Before != nil && c.Before.Canonical() != was:
			t.Fatalf("wrong change %+v", c)
		}
		delete(have, c.Ref)
		if c.After != nil {
			have[c.Ref] = c.After.Canonical()
		}
	}
	for d := range after.All() {
		if have[d.Ref()] != d.Canonical() {
			t.Fatalf("%s is not in the changes", d.Ref())
		}
		delete(have, d.Ref())
	}
	if len(have) > 0 {
		t.Fatalf("left over: %v", have)
	}
}

func TestMergeOfEqualDocumentsChangesNothing(t *testing.T) {
	documents, _ := document.Decode(documenttest.Many(3))
	again, _ := document.Decode(documenttest.Many(3))
	set := document.NewSet(documents...)
	if _, changes := set.Merge(again); len(changes) > 0 {
		t.Errorf("changes %v", changes)
	}
	if _, changes := set.Replace(again); len(changes) > 0 {
		t.Errorf("changes %v", changes)
	}
	if _, changes := set.Replace(again[1:]); len(changes) != 1 || changes[0].Verb != document.Remove {
		t.Errorf("control: changes %v", changes)
	}
}
