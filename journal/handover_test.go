package journal

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// TestForgedHandovers: a journal in which all fits but who signs, as somebody makes it who has one of the keys or another, is found by who has the first key, with both verifiers.
func TestForgedHandovers(t *testing.T) {
	key := func(n byte) *Key {
		k, err := NewKey("journal/test", [32]byte{n})
		must(t, err)
		return k
	}
	first, second, stranger := key(1), key(2), key(3)
	handover := func(p *page, from, to *Key) error {
		p.signer = from
		e := Event{Type: KeyRotate, Severity: Notice, Object: keyObject, Message: "another key"}
		if from == nil {
			e.Type = KeyLose
		}
		return p.handOver(&record{event: e, next: to})
	}
	spoilt := func(p *page, from, to *Key, spoil func(fields map[string]string)) error {
		before := *p
		before.tree = p.tree.clone()
		if err := handover(&before, from, to); err != nil {
			return err
		}
		e, _, err := decode([]byte(strings.Split(strings.TrimPrefix(before.lines.String(), p.lines.String()), "\n")[0]))
		if err != nil {
			return err
		}
		spoil(e.Fields)
		e.Links = nil
		p.signer = to
		return p.add(&e, nil)
	}
	for name, c := range map[string]struct {
		do   func(*page) error
		says string // "": it is whole
	}{
		"nothing forged": {func(p *page) error { return handover(p, first, second) }, ""},
		"handed over and back": {func(p *page) error {
			if err := handover(p, first, second); err != nil {
				return err
			}
			return handover(p, second, first)
		}, ""},
		"another key without a handover": {func(p *page) error { p.signer = stranger; return p.settle() }, "checkpoint: "},
		"by who has another key":         {func(p *page) error { return handover(p, stranger, second) }, "it is one of key"},
		"by the new key, as its own old one": {func(p *page) error {
			return spoilt(p, second, second, func(f map[string]string) { f[fieldOldKey] = first.Public })
		}, "the note names other keys"},
		"to a key that has not signed it": {func(p *page) error {
			return spoilt(p, first, second, func(f map[string]string) {
				f[fieldNote] = f[fieldNote][:strings.LastIndex(f[fieldNote], "— ")]
			})
		}, "the new key has not signed it"},
		"which the old key has not signed": {func(p *page) error {
			return spoilt(p, first, second, func(f map[string]string) {
				head, rest, _ := strings.Cut(f[fieldNote], "\n\n")
				f[fieldNote] = head + "\n\n" + rest[strings.Index(rest, "\n")+1:]
			})
		}, "the old key has not signed it"},
		"that stood elsewhere": {func(p *page) error {
			elsewhere := page{tree: tree{}, links: links{map[string]chain{}, map[string]chain{}}}
			if err := handover(&elsewhere, first, second); err != nil {
				return err
			}
			e, _, err := decode([]byte(strings.Split(elsewhere.lines.String(), "\n")[0]))
			if err != nil {
				return err
			}
			p.signer = second
			return p.add(&e, nil)
		}, "it is one after 0 records"},
		"without a note": {func(p *page) error {
			return spoilt(p, first, second, func(f map[string]string) { delete(f, fieldNote) })
		}, "handover of the key: "},
		"the old key signs on": {func(p *page) error {
			err := handover(p, first, second)
			p.signer = first
			return err
		}, "though journal/test+"},
		"as if the key had been lost": {func(p *page) error { return handover(p, nil, stranger) }, "the chain of signatures is broken"},
	} {
		t.Run(name, func(t *testing.T) {
			p := page{links: links{map[string]chain{}, map[string]chain{}}, signer: first}
			fill := func() {
				for n := range 3 {
					e := started(n)
					must(t, p.add(&e, nil))
				}
				must(t, p.settle())
			}
			fill()
			must(t, c.do(&p))
			fill()
			dir := t.TempDir()
			must(t, os.WriteFile(filepath.Join(dir, segmentName(1)), p.lines.Bytes(), 0o600))
			v := verifiedBy(t, dir, first.Public)
			if v.Whole() != (c.says == "") || c.says != "" && !slices.ContainsFunc(v.Findings, func(f Finding) bool { return strings.Contains(f.What, c.says) }) {
				t.Errorf("want %q among %+v", c.says, v.Findings)
			}
		})
	}
}
