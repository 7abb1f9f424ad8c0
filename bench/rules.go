package main

import (
	"context"
	"fmt"

	"shekara/firewall"
	"shekara/firewall/nft"
	program "shekara/netctl/run"
	"shekara/testbed/lab"
)

const bareNFT = "nft -f of the same"

// load measures a whole load and the change of one flow, through the Loader of the daemon and by nft with the same text, in turns.
func (b *bench) load(ctx context.Context) ([]row, error) {
	var rows []row
	for _, n := range b.sizes {
		b.say("%d flows: load and change", n)
		got, err := b.loadAt(ctx, n)
		if err != nil {
			return rows, fmt.Errorf("at %d flows: %w", n, err)
		}
		rows = append(rows, got...)
	}
	return rows, nil
}

func (b *bench) loadAt(ctx context.Context, n int) ([]row, error) {
	network := b.network()
	defer network.Close()
	ours, err := network.AddHost("ours", true)
	if err != nil {
		return nil, err
	}
	bare, err := network.AddHost("bare", true)
	if err != nil {
		return nil, err
	}
	rules, one, err := rulesAndOne(n)
	if err != nil {
		return nil, err
	}
	text, err := rules.Text(1)
	if err != nil {
		return nil, err
	}
	var loader *nft.Loader
	if err := ours.Do(func() (err error) { loader, err = nft.New(ctx); return err }); err != nil {
		return nil, err
	}
	var load, bareLoad []float64
	for range b.runs {
		if err := ours.Do(func() error { return loader.Remove(ctx) }); err != nil {
			return nil, err
		}
		took, err := timed(func() error { return ours.Do(func() error { return loader.Load(ctx, rules) }) })
		if err != nil {
			return nil, err
		}
		load = append(load, took.Seconds())
		if err := commands(ctx, bare, "nft flush ruleset"); err != nil {
			return nil, err
		}
		if took, err = timed(func() error { return script(ctx, bare, text) }); err != nil {
			return nil, err
		}
		bareLoad = append(bareLoad, took.Seconds())
	}
	change, bareChange, err := b.changeOne(ctx, loader, ours, bare, one)
	if err != nil {
		return nil, err
	}
	loaded := newRow("load of all flows", n, "s", load).against(bareNFT, bareLoad)
	changed := newRow("one flow's change, added or taken away", n, "ms", change).against("nft -f, its elements alone", bareChange)
	if n == 10000 {
		loaded = loaded.should("ratio <= 1.2", loaded.Ratio <= 1.2)
		changed = changed.should("<= 15 ms", changed.Ours <= 15)
	}
	return []row{loaded, changed}, nil
}

// changeOne adds and takes away one flow.
func (b *bench) changeOne(ctx context.Context, loader *nft.Loader, ours, bare *lab.Host, one firewall.Elements) (change, bareChange []float64, err error) {
	for i := range 2 * max(atLeast, b.runs) {
		add, remove, verb := one, firewall.Elements(nil), "add"
		if i%2 == 1 {
			add, remove, verb = nil, one, "delete"
		}
		took, err := timed(func() error { return ours.Do(func() error { return loader.Change(ctx, add, remove) }) })
		if err != nil {
			return nil, nil, err
		}
		change = append(change, milliseconds(took))
		var text string
		for _, set := range one.Sets() {
			for _, element := range one[set] {
				text += fmt.Sprintf("%s element %s %s { %s }\n", verb, firewall.Table, set, element)
			}
		}
		if took, err = timed(func() error { return script(ctx, bare, text) }); err != nil {
			return nil, nil, err
		}
		bareChange = append(bareChange, milliseconds(took))
	}
	return change, bareChange, nil
}

// rulesAndOne are n flows, and what one more holds.
func rulesAndOne(n int) (firewall.Ruleset, firewall.Elements, error) {
	p := flowsPolicy(n)
	rules, err := firewall.Compile(p)
	if err != nil {
		return firewall.Ruleset{}, nil, err
	}
	base, err := firewall.CompileBase(p)
	if err != nil {
		return firewall.Ruleset{}, nil, err
	}
	one, err := base.Elements(firewall.Policy{Flows: []firewall.Flow{flowOf(n)}})
	return rules, one, err
}

// script runs nft with a text, as our Loader does: in the host's network, without a process of the host in between.
func script(ctx context.Context, h *lab.Host, text string) error {
	return h.Do(func() error {
		_, err := program.Command{Argv: []string{"nft", "-f", "-"}, Stdin: []byte(text), Timeout: patience}.Run(ctx)
		return err
	})
}
