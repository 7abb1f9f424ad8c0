package document_test

import (
	"fmt"
	"testing"

	"shekara/provisioning/document"
	"shekara/provisioning/document/documenttest"
)

func BenchmarkDecode(b *testing.B) {
	for _, n := range []int{10, 1000, 10000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			files := documenttest.Many(n)
			for b.Loop() {
				if _, problems := document.Decode(files); len(problems) > 0 {
					b.Fatal(problems[0])
				}
			}
		})
	}
}

func BenchmarkNewSet(b *testing.B) {
	documents, _ := document.Decode(documenttest.Many(10000))
	for b.Loop() {
		document.NewSet(documents...)
	}
}

func BenchmarkMergeOne(b *testing.B) {
	for _, n := range []int{10, 1000, 10000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			documents, _ := document.Decode(documenttest.Many(n))
			set := document.NewSet(documents...)
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
				set, _ = set.Merge(turns[i%2])
			}
		})
	}
}
