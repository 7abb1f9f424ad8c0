package generate

import (
	"bytes"
	"net/netip"
	"testing"

	"go.yaml.in/yaml/v4"
)

func TestSameSeedSameBytes(t *testing.T) {
	write := func(seed uint64) []byte {
		e, err := New(seed, 50)
		if err != nil {
			t.Fatal(err)
		}
		return append(e.Base(), e.Tunnels(0, 50)...)
	}
	if !bytes.Equal(write(1), write(1)) {
		t.Error("one seed gives two estates")
	}
	if bytes.Equal(write(1), write(2)) {
		t.Error("two seeds give one estate")
	}
}

func TestAgenciesAreApart(t *testing.T) {
	e, err := New(1, MaxAgencies)
	if err != nil {
		t.Fatal(err)
	}
	inner := netip.MustParsePrefix("10.64.0.0/12")
	for i, a := range e.Agencies {
		if !OuterNetwork().Contains(a.Outer.Addr()) || !inner.Contains(a.Inside.Addr()) || a.Inside != a.Inside.Masked() || !a.Inside.Contains(a.Host) {
			t.Fatalf("%+v lies outside of its network", a)
		}
		if i > 0 && (e.Agencies[i-1].Inside.Overlaps(a.Inside) || e.Agencies[i-1].Outer == a.Outer || e.Agencies[i-1].PublicKey == a.PublicKey) {
			t.Fatalf("agencies %d and %d are not apart", i-1, i)
		}
	}
	if _, err := New(1, MaxAgencies+1); err == nil {
		t.Error("too many agencies are not refused")
	}
}

func TestChangesDiffer(t *testing.T) {
	e, err := New(1, 2)
	if err != nil {
		t.Fatal(err)
	}
	seen := map[string]int{}
	for variation := range 100 {
		text := string(e.Changed(1, variation))
		if before, there := seen[text]; there {
			t.Errorf("variations %d and %d are the same", before, variation)
		}
		seen[text] = variation
	}
	if !bytes.Contains(e.Tunnels(1, 2), e.Changed(1, 0)) {
		t.Error("variation 0 is not what Tunnels says")
	}
}

func TestDocumentsAreYAML(t *testing.T) {
	e, err := New(1, 3)
	if err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string][]byte{"base": e.Base(), "agency": e.AgencyBase(1), "tunnels": e.Tunnels(0, 3), "changed": e.Changed(2, 7)} {
		decoder := yaml.NewDecoder(bytes.NewReader(text))
		for n := 0; ; n++ {
			var document struct {
				Kind     string
				Metadata struct{ Name string }
				Spec     map[string]any
			}
			if err := decoder.Decode(&document); err != nil {
				if n == 0 || err.Error() != "EOF" {
					t.Errorf("%s: document %d: %v", name, n, err)
				}
				break
			}
			if document.Kind == "" || document.Metadata.Name == "" || len(document.Spec) == 0 {
				t.Errorf("%s: document %d is empty: %+v", name, n, document)
			}
		}
	}
}
