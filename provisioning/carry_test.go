package provisioning

import (
	"testing"
)

// The program of a plan is not done once something else was learned of the host.
func TestAnApplySeesWhatBrokeAfterItsPlan(t *testing.T) {
	for name, broken := range map[string]bool{"nothing broke": false, "a route broke": true} {
		t.Run(name, func(t *testing.T) {
			b := newBox(t).start()
			b.mustApply(request(site + agencies(0, 2)))
			b.mustConfirm()
			if err := b.begin(t.Context()); err != nil {
				t.Fatal(err)
			}
			defer b.unlock()
			r := request(agency{n: 0, services: "tcp/4444"}.yaml())
			documents, err := decode(r.Files)
			if err != nil {
				t.Fatal(err)
			}
			prop, err := b.propose(t.Context(), r, documents)
			if err != nil {
				t.Fatal(err)
			}
			_, prog, err := b.plan(t.Context(), prop)
			if err != nil {
				t.Fatal(err)
			}
			if len(prog.routesCome) > 0 {
				t.Fatalf("the plan has routes already: %v", prog.routesCome)
			}
			if broken {
				b.breakRoute(agency{n: 0})
				if err := b.observe(t.Context()); err != nil {
					t.Fatal(err)
				}
			}
			done, err := b.carry(t.Context(), prop.scope, prop.patch, prog)
			if err != nil {
				t.Fatal(err)
			}
			if (done.program == prog) == broken {
				t.Errorf("the plan's program was done: %t", done.program == prog)
			}
			if broken && len(done.program.routesCome) == 0 {
				t.Error("the route was not made again")
			}
		})
	}
}
