package tamper

import (
	"bytes"
	"crypto/ed25519"
	"encoding/base64"
	"fmt"
	"maps"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// sample is a journal of three files, with what manipulations look for.
func sample(s Signer) Journal {
	j, sequence := Journal{}, 0
	for range 3 {
		var lines []string
		name := fileName(uint64(sequence + 1))
		for n := range 700 {
			sequence++
			rest := fmt.Sprintf(`"severity":"notice","actor":{"uid":0,"pid":%d},"object":"revision/%d","message":"applied","fields":{"hash":"x"}`, 100+n, n)
			kind := "apply.finish"
			switch {
			case n%50 == 0 && sequence > 1:
				kind, rest = "journal.checkpoint", `"severity":"info","object":"journal/checkpoint","message":"records","fields":{"edge":"","note":"","root":"","size":""}`
			case sequence == 1234:
				kind, rest = "key.rotate", `"severity":"notice","object":"journal/key","message":"another key","fields":{"new":"n","note":"","old":"o"}`
			case n%3 == 0:
				kind, rest = "tunnel.state", `"severity":"notice","object":"tunnel/a","organisation":"A","message":"up","fields":{"a":"b"},"links":[{"of":"tunnel/a","number":1},{"of":"organisation/A","number":1}]`
			}
			lines = append(lines, summed(fmt.Sprintf(`{"sequence":%d,"time":"2026-11-26T10:00:00Z","type":"%s",%s,"crc":"00000000"}`, sequence, kind, rest)))
		}
		j.put(name, lines)
	}
	j.forgeAll(touched(), s.note, func(size uint64, root []byte) string { // once around, so that all fits
		note := s.handover("o")(size, root)
		return note + s.signature(note)
	})
	return j
}

// touched takes the checksum off the first line, which forge puts back: it counts as a change, and is none.
func touched() func(string) []string {
	first := true
	return func(line string) []string {
		if first {
			line = crcAtEnd.ReplaceAllString(line, `}`)
		}
		first = false
		return []string{line}
	}
}

func key(t *testing.T) Signer {
	t.Helper()
	seed := make([]byte, ed25519.SeedSize)
	public := ed25519.NewKeyFromSeed(seed).Public().(ed25519.PublicKey)
	s, err := NewSigner("journal/test+00000000+"+base64.StdEncoding.EncodeToString(append([]byte{1}, public...)), seed)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// TestEachChangesSomething: a manipulation that leaves all as it was would be found by nobody, and miss nothing. That each is found is for scenario tamper.
func TestEachChangesSomething(t *testing.T) {
	s := key(t)
	whole := sample(s)
	kept := maps.Clone(whole)
	names := map[string]bool{}
	for _, m := range append(All(), Handovers()...) {
		if names[m.Name] {
			t.Errorf("%s: twice", m.Name)
		}
		names[m.Name] = true
		if got := m.Do(whole, s); maps.EqualFunc(got, whole, bytes.Equal) {
			t.Errorf("%s: changes nothing", m.Name)
		}
		if !maps.EqualFunc(whole, kept, bytes.Equal) {
			t.Fatalf("%s: changes the original", m.Name)
		}
	}
	if len(names) < 50 {
		t.Errorf("%d manipulations", len(names))
	}
}

// TestForgeIsExact: made anew without a change the journal is the same, so that what a forger changed is all that is wrong with his.
func TestForgeIsExact(t *testing.T) {
	s := key(t)
	whole := sample(s)
	same := maps.Clone(whole)
	same.forge(touched(), s.note)
	if diff := cmp.Diff(whole, same); diff != "" {
		t.Errorf("%.2000s", diff)
	}
}

func TestSignerWantsTheKeysOwnSeed(t *testing.T) {
	for _, public := range []string{"", "a", "a+b+c", "journal/test+0+" + base64.StdEncoding.EncodeToString(make([]byte, 33))} {
		if s, err := NewSigner(public, make([]byte, 32)); err == nil {
			t.Errorf("%q: %v", public, s)
		}
	}
}
