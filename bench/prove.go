package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"runtime/debug"
	"strconv"
	"time"

	"shekara/firewall"
	"shekara/firewall/nft"
	"shekara/firewall/proof"
	program "shekara/netctl/run"
)

// proved is what a process that did nothing but prove tells.
type proved struct {
	List, Nothing, Change []float64 // s
	PeakMiB               float64
}

// proof measures the proof of what the kernel holds, each number of flows in a process of its own.
func (b *bench) proof(ctx context.Context) ([]row, error) {
	var rows []row
	for _, n := range b.sizes {
		b.say("%d flows: prove", n)
		p, err := b.proveAt(ctx, n)
		if err != nil {
			return rows, fmt.Errorf("at %d flows: %w", n, err)
		}
		list := newRow("nft lists what is loaded", n, "s", p.List)
		nothing, change := newRow("proof from nothing, listing not counted", n, "s", p.Nothing), newRow("proof after one flow's change, listing not counted", n, "s", p.Change)
		memory := newRow("memory of a process that proves, at most", n, "MiB", []float64{p.PeakMiB})
		if n == 10000 {
			nothing, change = nothing.should("<= 5 s", nothing.Ours <= 5), change.should("<= 1 s", change.Ours <= 1)
			memory = memory.should("<= 512 MiB", memory.Ours <= 512)
		}
		rows = append(rows, list, nothing, change, memory)
	}
	return rows, nil
}

func (b *bench) proveAt(ctx context.Context, n int) (p proved, err error) {
	network := b.network()
	defer network.Close()
	h, err := network.AddHost("box", true)
	if err != nil {
		return p, err
	}
	out, err := command(ctx, h, b.self, proveWord, strconv.Itoa(n), strconv.Itoa(b.runs))
	if err != nil {
		return p, err
	}
	return p, json.Unmarshal([]byte(out), &p)
}

// prove is the process: it loads n flows where it is, and proves them again and again.
func prove(ctx context.Context, flows, runs string, stdout, stderr io.Writer) int {
	n, err := strconv.Atoi(flows)
	times, err2 := strconv.Atoi(runs)
	var p proved
	if err == nil && err2 == nil {
		p, err = proveHere(ctx, n, times)
	}
	if err == nil {
		p.PeakMiB, err = peakMiB()
	}
	if err == nil {
		err = json.NewEncoder(stdout).Encode(p)
	}
	if err != nil {
		fmt.Fprintln(stderr, err)
		return 1
	}
	return 0
}

func proveHere(ctx context.Context, n, runs int) (p proved, err error) {
	rules, one, err := rulesAndOne(n)
	if err != nil {
		return p, err
	}
	loader, err := nft.New(ctx)
	if err != nil {
		return p, err
	}
	if err := loader.Load(ctx, rules); err != nil {
		return p, err
	}
	for range runs {
		listing, err := p.list(ctx)
		if err != nil {
			return p, err
		}
		debug.FreeOSMemory() // the daemon keeps one prover, and so should the peak
		seconds, err := proveOnce(ctx, new(proof.Prover), listing, flowsPolicy(n))
		if err != nil {
			return p, err
		}
		p.Nothing = append(p.Nothing, seconds)
	}
	debug.FreeOSMemory()
	var kept proof.Prover
	for i := range 1 + 2*runs {
		policy, add, remove := flowsPolicy(n+i%2), one, firewall.Elements(nil)
		if i%2 == 0 {
			add, remove = nil, one
		}
		if i > 0 {
			if err := loader.Change(ctx, add, remove); err != nil {
				return p, err
			}
		}
		listing, err := p.list(ctx)
		if err != nil {
			return p, err
		}
		seconds, err := proveOnce(ctx, &kept, listing, policy)
		if err != nil {
			return p, err
		}
		if i > 0 {
			p.Change = append(p.Change, seconds)
		}
	}
	return p, nil
}

func (p *proved) list(ctx context.Context) (listing []byte, err error) {
	took, err := timed(func() (err error) {
		listing, err = program.Command{Argv: []string{"nft", "-n", "-j", "list", "ruleset"}, Timeout: patience, MaxOutput: 256 << 20}.Run(ctx)
		return err
	})
	p.List = append(p.List, took.Seconds())
	return listing, err
}

func proveOnce(ctx context.Context, prover *proof.Prover, listing []byte, policy firewall.Policy) (float64, error) {
	start := time.Now()
	loaded, err := proof.Decode(listing)
	if err != nil {
		return 0, err
	}
	result, err := prover.Prove(ctx, loaded, policy)
	if err == nil && result.Verdict != proof.Proved {
		err = fmt.Errorf("not proved: %v", result)
	}
	return time.Since(start).Seconds(), err
}

func peakMiB() (float64, error) {
	var kilobytes float64
	_, err := fmt.Sscanf(field("/proc/self/status", "VmHWM"), "%f kB", &kilobytes)
	return kilobytes / 1024, err
}
