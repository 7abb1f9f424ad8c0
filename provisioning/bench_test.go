package provisioning

import (
	"context"
	"fmt"
	"testing"

	"shekara/firewall"
	"shekara/journal"
)

// quickFilter takes everything at no cost: what is measured is the engine. nfttest's fake looks at all elements at each change.
type quickFilter struct{}

func (quickFilter) Load(context.Context, firewall.Ruleset) error                { return nil }
func (quickFilter) Change(_ context.Context, _, _ firewall.Elements) error      { return nil }
func (quickFilter) Matches(context.Context, firewall.Ruleset) ([]string, error) { return nil, nil }
func (quickFilter) Observe(context.Context) (firewall.Observation, error) {
	return firewall.Observation{Present: true}, nil
}
func (quickFilter) Remove(context.Context) error { return nil }

// BenchmarkOneTunnelAmong changes a service of one tunnel among n: documents, validation, compilation, difference, revision on disk.
func BenchmarkOneTunnelAmong(b *testing.B) {
	for _, n := range []int{10, 1000, 10_000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			box := newBox(b)
			box.open()
			box.options.Filter = quickFilter{}
			if err := box.Engine.start(b.Context()); err != nil {
				b.Fatal(err)
			}
			close(box.ready)
			box.mustApply(request(site + agencies(0, n)))
			if _, err := box.Confirm(b.Context(), journal.Actor{}); err != nil {
				b.Fatal(err)
			}
			b.ResetTimer()
			for i := 0; b.Loop(); i++ {
				box.mustApply(request(agency{n: n / 2, services: fmt.Sprintf("tcp/%d", 1000+i%1000)}.yaml()))
			}
		})
	}
}

// BenchmarkFromNothing applies n tunnels at once. No more: the fakes take the square of it.
func BenchmarkFromNothing(b *testing.B) {
	for _, n := range []int{10, 1000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			text := site + agencies(0, n)
			for b.Loop() {
				box := newBox(b)
				box.open()
				box.options.Filter = quickFilter{}
				if err := box.Engine.start(b.Context()); err != nil {
					b.Fatal(err)
				}
				close(box.ready)
				box.mustApply(request(text))
				box.kill()
			}
		})
	}
}
