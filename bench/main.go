package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"shekara/testbed/lab"
	"shekara/testbed/swarm"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	code := run(ctx, os.Args[1:], os.Stdin, os.Stdout, os.Stderr)
	stop()
	os.Exit(code)
}

// Words by which the program calls itself inside the hosts that it makes.
const (
	agentWord = "agent"
	swarmWord = "swarm"
	proveWord = "prove"
)

func run(ctx context.Context, args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	if len(args) == 2 && args[0] == agentWord {
		return lab.Agent(args[1])
	}
	if len(args) == 3 && args[0] == proveWord {
		return prove(ctx, args[1], args[2], stdout, stderr)
	}
	if len(args) == 2 && args[0] == timeServerWord {
		return serveTime(ctx, args[1], stderr)
	}
	if len(args) > 0 && args[0] == swarmWord {
		return swarm.Main(ctx, args[1:], stdin, stdout, stderr)
	}
	b, err := parse(args, stderr)
	if errors.Is(err, flag.ErrHelp) {
		return 0
	}
	if err != nil {
		fmt.Fprintf(stderr, "bench: %v\n", err)
		return 2
	}
	facts := readMachine()
	facts.Version = b.version(ctx)
	rows, failed := b.all(ctx)
	facts.LoadAfter = loadAverage()
	if len(rows) > 0 {
		if err := errors.Join(printTable(stdout, rows, facts), write(b.out, b.area, rows, facts)); err != nil {
			failed = errors.Join(failed, err)
		}
	}
	if failed != nil {
		fmt.Fprintf(stderr, "bench: %v\n", failed)
		return 1
	}
	return 0
}

// bench is one run.
type bench struct {
	area       string
	bin        string // folder of shekarad and shekara, absolute
	out        string
	self       string // this program
	sizes      []int  // numbers of tunnels, or of flows
	pairs      int
	runs       int
	seconds    int
	only       []string
	natsServer string
	stderr     io.Writer
	started    time.Time
}

// item is a part of an area, which -only can name.
type item struct {
	name string
	does func(*bench, context.Context) ([]row, error)
}

// area is what one run measures.
type area struct {
	sizes string // by default
	items []item
}

func areas() map[string]area {
	return map[string]area{
		"tunnels": {"10,1000,10000", []item{
			{"throughput", (*bench).throughput},
			{"apply", (*bench).scale}, // empty to N, one change, memory: they need the same hosts
			{"loss", (*bench).loss},
			{"revert", (*bench).revert},
		}},
		"firewall": {"10,1000,10000,50000", []item{
			{"forward", (*bench).forward},
			{"load", (*bench).load}, // and the change of one
			{"proof", (*bench).proof},
		}},
		"journal": {"1", []item{
			{"append", (*bench).append},
			{"latency", (*bench).latency},
			{"cold", (*bench).cold},
			{"connections", (*bench).connections},
			{"whole", (*bench).whole}, // verify, open, query
		}},
		"time": {"1", []item{
			{"serve", (*bench).clock},
		}},
	}
}

func parse(args []string, stderr io.Writer) (*bench, error) {
	b := &bench{stderr: stderr, started: time.Now()}
	var sizes, only string
	flags := flag.NewFlagSet("bench", flag.ContinueOnError)
	flags.SetOutput(stderr)
	flags.StringVar(&b.area, "area", "tunnels", "what to measure: tunnels, firewall, journal or time")
	flags.StringVar(&b.bin, "bin", "bin", "folder of shekarad and shekara")
	flags.StringVar(&b.out, "out", "bench", "folder for AREA.json and AREA.machine.json")
	flags.StringVar(&sizes, "n", "", "numbers of tunnels, or of flows; empty: those of docs/benchmarks.md")
	flags.IntVar(&b.pairs, "pairs", 40, "interleaved one-second rounds of throughput; the targets ask for 40")
	flags.IntVar(&b.runs, "runs", 5, "repetitions of what takes long; small things are done at least 15 times")
	flags.IntVar(&b.seconds, "seconds", 10, "length of each phase that looks for lost packets")
	flags.StringVar(&only, "only", "", "parts to run: throughput, apply, loss, revert; of the firewall forward, load, proof; of the journal append, latency, cold, connections, whole; of time serve; empty: all")
	flags.StringVar(&b.natsServer, "nats-server", "build/nats-server", "the program, which the area journal is measured beside")
	if err := flags.Parse(args); err != nil {
		return nil, err
	}
	chosen, known := areas()[b.area]
	if !known {
		return nil, fmt.Errorf("there is no area %q", b.area)
	}
	if sizes == "" {
		sizes = chosen.sizes
	}
	for word := range strings.SplitSeq(sizes, ",") {
		n, err := strconv.Atoi(word)
		if err != nil || n < 1 {
			return nil, fmt.Errorf("-n: %q is no number", word)
		}
		b.sizes = append(b.sizes, n)
	}
	if flags.NArg() > 0 {
		return nil, fmt.Errorf("%q is no flag", flags.Arg(0))
	}
	if only != "" {
		b.only = strings.Split(only, ",")
	}
	for _, name := range b.only {
		if !slices.ContainsFunc(chosen.items, func(i item) bool { return i.name == name }) {
			return nil, fmt.Errorf("-only: area %s has no part %q", b.area, name)
		}
	}
	if b.pairs < 1 || b.runs < 1 || b.seconds < 1 {
		return nil, errors.New("-pairs, -runs and -seconds must be at least 1")
	}
	var err error
	if b.bin, err = filepath.Abs(b.bin); err != nil {
		return nil, err
	}
	for _, program := range []string{"shekarad", "shekara"} {
		if _, err := os.Stat(filepath.Join(b.bin, program)); err != nil {
			return nil, fmt.Errorf("%w: run make build first", err)
		}
	}
	b.self, err = os.Executable()
	return b, err
}

// all runs the parts that were asked for. One that fails does not keep the others from running.
func (b *bench) all(ctx context.Context) ([]row, error) {
	var rows []row
	var failed error
	for _, i := range areas()[b.area].items {
		if len(b.only) > 0 && !slices.Contains(b.only, i.name) {
			continue
		}
		b.say("%s", i.name)
		got, err := i.does(b, ctx)
		rows = append(rows, got...)
		if err != nil {
			failed = errors.Join(failed, fmt.Errorf("%s: %w", i.name, err))
		}
		if ctx.Err() != nil {
			return rows, errors.Join(failed, ctx.Err())
		}
	}
	return rows, failed
}

// say tells whoever waits what happens.
func (b *bench) say(format string, args ...any) {
	fmt.Fprintf(b.stderr, "%6.1fs  %s\n", time.Since(b.started).Seconds(), fmt.Sprintf(format, args...))
}
