package validate_test

import (
	"fmt"
	"testing"

	"shekara/provisioning/document"
	"shekara/provisioning/document/documenttest"
	"shekara/provisioning/validate"
)

func manySet(b *testing.B, n int) *document.Set {
	b.Helper()
	documents, problems := document.Decode(documenttest.Many(n))
	set := document.NewSet(documents...)
	if problems = append(problems, validate.Check(set, validate.Options{Site: "owner"})...); len(problems) > 0 {
		b.Fatal(problems[0])
	}
	return set
}

func BenchmarkFull(b *testing.B) {
	for _, n := range []int{10, 1000, 10000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			set := manySet(b, n)
			for b.Loop() {
				validate.Check(set, validate.Options{Site: "owner"})
			}
		})
	}
}

// One tunnel is changed back and forth: merge, affected documents, check.
func BenchmarkOneTunnel(b *testing.B) {
	for _, n := range []int{10, 1000, 10000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			set := manySet(b, n)
			var turns [2][]*document.Document
			for i := range turns {
				t := *set.Tunnel(documenttest.Name(5))
				t.Keepalive = 10 + i
				d, err := document.New(documenttest.Name(5), &t)
				if err != nil {
					b.Fatal(err)
				}
				turns[i] = []*document.Document{d}
			}
			for i := 0; b.Loop(); i++ {
				after, changes := set.Merge(turns[i%2])
				if p := validate.Check(after, validate.Options{Site: "owner", Scope: after.Affected(changes)}); len(p) > 0 || len(changes) != 1 {
					b.Fatal(p, changes)
				}
				set = after
			}
		})
	}
}
