package testbed

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"net/netip"
	"os"
	"path"
	"runtime"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"shekara/testbed/lab"
	"shekara/testbed/packet"
	"shekara/testbed/report"
	"shekara/testbed/scenario"
)

// engine runs one scenario.
type engine struct {
	scenario  *scenario.Scenario
	files     fs.FS  // beside the scenario
	programs  string // folder of shekara and shekarad
	self      string // this program
	captureTo string // folder for captures; "" for none
	machines  string // folder with what virtual machines need
	without   string // path of a program that hosts with shekarad lack; "" for none
	progress  io.Writer
	network   *lab.Network
	report    *report.Report

	mu        sync.Mutex // guards below: steps can run in parallel
	variables map[string]string
	running   map[string]*lab.Process // by "host/program"
	streams   map[string]*packet.Running
	captures  map[string]*capture
	outcomes  map[string]report.Outcome // of steps by name, for controlBy
	matrices  map[string]*sentMatrix    // by the step's name, for controlOf
	number    int                       // of the step, for progress
}

// failure is a step's error with what programs printed.
type failure struct {
	error
	output string
}

func (f failure) Unwrap() error { return f.error }

func newEngine(s *scenario.Scenario, files fs.FS, programs, self string, progress io.Writer) *engine {
	e := &engine{scenario: s, files: files, programs: programs, self: self, progress: progress,
		variables: maps.Clone(s.Variables), running: map[string]*lab.Process{}, streams: map[string]*packet.Running{},
		captures: map[string]*capture{}, outcomes: map[string]report.Outcome{}, matrices: map[string]*sentMatrix{}}
	if e.variables == nil {
		e.variables = map[string]string{}
	}
	e.report = &report.Report{Scenario: s.Name, Title: s.Title, Description: strings.Join(strings.Fields(s.Description), " "), Started: time.Now(), Topology: topology(s), Machine: machine()}
	return e
}

// run builds the network, does all steps and fills in the report. The network stays open.
func (e *engine) run(ctx context.Context, stepsToo bool) {
	lists := [][]scenario.Step{e.scenario.Setup}
	if stepsToo {
		lists = append(lists, e.scenario.Steps)
	}
	build := e.record(nil, "Build the network", 0, func(step *report.Step) error {
		if err := e.fetchMachines(ctx); err != nil {
			return err
		}
		return e.build(ctx, step)
	})
	stopped := build.Outcome != report.Passed
	for i, list := range lists {
		for _, s := range list {
			switch {
			case stopped || ctx.Err() != nil:
				e.skip(s)
			default:
				done := e.step(ctx, nil, s)
				stopped = done.Outcome != report.Passed && (s.Must || i == 0)
			}
		}
	}
	e.report.Took = time.Since(e.report.Started)
	e.report.Count()
}

// close ends everything.
func (e *engine) close() {
	for _, s := range e.streams {
		s.Abandon()
	}
	for _, c := range e.captures {
		c.stop()
	}
	if e.network != nil {
		e.network.Close()
	}
}

// build makes hosts, links, files and routes, and starts the programs.
func (e *engine) build(ctx context.Context, step *report.Step) error {
	environment := []string{"PATH=" + e.programs + ":/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME=/root", "LANG=C.UTF-8", "NO_COLOR=1"}
	e.network = lab.Open([]string{"/proc/self/exe", "testbed", "agent"}, environment)
	for _, h := range e.scenario.Hosts {
		host, err := e.network.AddHost(h.Name, h.Router)
		if err != nil {
			return err
		}
		isEdge := slices.ContainsFunc(h.Programs, func(p scenario.Program) bool { return p.Command[0] == "shekarad" })
		if e.without != "" && isEdge {
			if err := host.Hide(e.without); err != nil {
				return err
			}
		}
	}
	for _, l := range e.scenario.Links {
		spec := lab.LinkSpec{Name: l.Name, MTU: l.MTU, Wire: l.Impairable, Seed: e.scenario.Seed}
		for _, end := range l.Ends {
			spec.Ends = append(spec.Ends, lab.End{Host: end.Host, Interface: end.Interface, Addresses: end.Addresses})
		}
		link, err := e.network.AddLink(spec)
		if err != nil {
			return err
		}
		if link.Wire != nil {
			link.Wire.Impair(l.Impair)
		}
	}
	for _, h := range e.scenario.Hosts {
		if err := e.furnish(h); err != nil {
			return err
		}
	}
	for _, h := range e.scenario.Hosts {
		for _, p := range h.Programs {
			if p.Manual {
				continue
			}
			if err := e.startProgram(ctx, h.Name, p); err != nil {
				return err
			}
		}
	}
	step.Facts = append(step.Facts, report.Fact{Name: "hosts", Value: fmt.Sprint(len(e.scenario.Hosts))}, report.Fact{Name: "links", Value: fmt.Sprint(len(e.scenario.Links))})
	return nil
}

func (e *engine) furnish(h scenario.Host) error {
	host := e.network.Host(h.Name)
	for key, value := range h.Sysctls {
		if err := host.Sysctl(key, value); err != nil {
			return fmt.Errorf("host %s: %w", h.Name, err)
		}
	}
	for _, r := range h.Routes {
		prefix, err := r.Prefix()
		if err != nil {
			return err
		}
		if err := host.AddRoute(lab.Route{To: prefix, Via: r.Via, Source: r.Source}); err != nil {
			return err
		}
	}
	for file, text := range h.Files {
		if err := host.WriteFile(file, []byte(e.expand(text)), 0o644); err != nil {
			return fmt.Errorf("host %s: %w", h.Name, err)
		}
	}
	return nil
}

// readyWithin bounds the wait for a program's READY=1.
const readyWithin = 30 * time.Second

func (e *engine) startProgram(ctx context.Context, host string, p scenario.Program) error {
	process, err := e.network.Host(host).Start(lab.Command{Args: e.command(p.Command), Notify: p.Ready})
	if err != nil {
		return err
	}
	e.mu.Lock()
	e.running[host+"/"+p.Name] = process
	e.mu.Unlock()
	ctx, cancel := context.WithTimeout(ctx, readyWithin)
	defer cancel()
	if p.Ready {
		if err := process.WaitReady(ctx); err != nil {
			return failure{fmt.Errorf("start %s on %s: %w", p.Name, host, err), process.Stdout() + process.Stderr()}
		}
	}
	for len(p.Probe) > 0 {
		result, err := e.network.Host(host).Run(ctx, lab.Command{Args: e.command(p.Probe)})
		if err == nil && result.Exit == 0 {
			return nil
		}
		if ctx.Err() != nil || !process.Running() {
			return failure{fmt.Errorf("start %s on %s: it is not ready, and runs: %v", p.Name, host, process.Running()),
				process.Stdout() + process.Stderr() + result.Stdout + result.Stderr}
		}
		time.Sleep(retryEvery)
	}
	return nil
}

// command fills variables in. The word testbed at the front is this program's own "testbed".
func (e *engine) command(words []string) []string {
	var command []string
	for i, w := range words {
		if i == 0 && w == "testbed" {
			command = append(command, e.self)
		}
		command = append(command, e.expand(w))
	}
	return command
}

// expand fills in ${variables}; what is no variable stays as it is, for shells have their own.
func (e *engine) expand(text string) string {
	e.mu.Lock()
	defer e.mu.Unlock()
	for name, value := range e.variables {
		text = strings.ReplaceAll(text, "${"+name+"}", value)
	}
	return text
}

func (e *engine) set(name, value string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.variables[name] = value
}

// readFile reads a file beside the scenario.
func (e *engine) readFile(name string) (string, error) {
	data, err := fs.ReadFile(e.files, path.Clean(name))
	if err != nil {
		return "", err
	}
	return e.expand(string(data)), nil
}

// record runs one action as a step of the report: of parent, or at the top.
func (e *engine) record(parent *report.Step, name string, line int, action func(*report.Step) error) *report.Step {
	step := &report.Step{Name: name, Line: line}
	e.mu.Lock()
	if parent == nil {
		e.report.Steps = append(e.report.Steps, step)
	} else {
		parent.Steps = append(parent.Steps, step)
	}
	e.mu.Unlock()
	began := time.Now()
	err := action(step)
	step.Took = time.Since(began)
	step.Outcome = report.Passed
	var f failure
	if errors.As(err, &f) {
		step.Output = tailLines(f.output, 60)
	}
	if err != nil {
		step.Outcome, step.Problem = report.Failed, err.Error()
	}
	for _, child := range step.Steps {
		if child.Outcome != report.Passed {
			step.Outcome = report.Failed
		}
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	e.outcomes[name] = step.Outcome
	e.number++
	mark := map[report.Outcome]string{report.Passed: "ok  ", report.Failed: "FAIL"}[step.Outcome]
	fmt.Fprintf(e.progress, "%3d %s %s (%v)\n", e.number, mark, name, step.Took.Round(time.Millisecond))
	if err != nil {
		fmt.Fprintf(e.progress, "         %v\n", err)
	}
	return step
}

func (e *engine) skip(s scenario.Step) {
	step := &report.Step{Name: s.Name, Line: s.Line, Outcome: report.Skipped}
	e.report.Steps = append(e.report.Steps, step)
	e.outcomes[s.Name] = report.Skipped
}

// step does one step of the scenario.
func (e *engine) step(ctx context.Context, parent *report.Step, s scenario.Step) *report.Step {
	return e.record(parent, s.Name, s.Line, func(step *report.Step) error {
		switch s.Action() {
		case "apply":
			return e.apply(ctx, step, *s.Apply)
		case "run":
			return e.runCommand(ctx, step, *s.Run)
		case "start":
			return e.startNamed(ctx, *s.Start)
		case "kill":
			return e.kill(ctx, *s.Kill)
		case "write":
			return e.write(*s.Write)
		case "wait":
			return e.wait(ctx, step, *s.Wait)
		case "send":
			return e.send(ctx, step, *s.Send)
		case "reach":
			return e.reach(ctx, step, *s.Reach)
		case "matrix":
			return e.matrix(ctx, step, s.Name, *s.Matrix)
		case "impair":
			return e.impair(*s.Impair)
		case "link":
			return e.network.Link(s.Link.Link).SetUp(s.Link.On, s.Link.Up)
		case "traffic":
			return e.traffic(*s.Traffic)
		case "endTraffic":
			return e.endTraffic(ctx, step, *s.EndTraffic)
		case "capture":
			return e.capture(*s.Capture)
		case "endCapture":
			return e.endCapture(step, *s.EndCapture)
		case "parallel":
			var all sync.WaitGroup
			for _, child := range s.Parallel {
				all.Go(func() { e.step(ctx, step, child) })
			}
			all.Wait()
			return nil
		case "part":
			return e.part(ctx, step, *s.Part)
		}
		return fmt.Errorf("nothing to do")
	})
}

func (e *engine) host(name string) (scenario.Host, bool) {
	i := slices.IndexFunc(e.scenario.Hosts, func(h scenario.Host) bool { return h.Name == name })
	if i < 0 {
		return scenario.Host{}, false
	}
	return e.scenario.Hosts[i], true
}

// addresses are all addresses of a host, as the scenario gives them.
func (e *engine) addresses(host string) []netip.Addr {
	var found []netip.Addr
	for _, l := range e.scenario.Links {
		for _, end := range l.Ends {
			if end.Host == host {
				for _, p := range end.Addresses {
					found = append(found, p.Addr())
				}
			}
		}
	}
	return found
}

func topology(s *scenario.Scenario) report.Topology {
	var t report.Topology
	for _, h := range s.Hosts {
		kind := h.Kind
		if kind == "" {
			kind = "host"
		}
		t.Hosts = append(t.Hosts, report.Host{Name: h.Name, Label: h.Label, Kind: kind, Contour: h.Contour, Group: h.Group, Column: h.Column, Row: h.Row})
	}
	for _, l := range s.Links {
		drawn := report.Link{Name: l.Name, Wire: l.Impairable}
		for _, end := range l.Ends {
			e := report.LinkEnd{Host: end.Host, Interface: end.Interface}
			for _, a := range end.Addresses {
				e.Addresses = append(e.Addresses, a.String())
			}
			drawn.Ends = append(drawn.Ends, e)
		}
		t.Links = append(t.Links, drawn)
	}
	for _, tunnel := range s.Tunnels {
		t.Tunnels = append(t.Tunnels, report.Tunnel{Between: tunnel.Between, Label: tunnel.Label})
	}
	return t
}

func machine() string {
	kernel := "unknown kernel"
	var name unix.Utsname
	if unix.Uname(&name) == nil {
		kernel = unix.ByteSliceToString(name.Sysname[:]) + " " + unix.ByteSliceToString(name.Release[:])
	}
	return fmt.Sprintf("%s, %d processors", kernel, runtime.NumCPU())
}

func tailLines(text string, most int) string {
	lines := strings.Split(strings.TrimRight(text, "\n"), "\n")
	return strings.Join(lines[max(0, len(lines)-most):], "\n")
}

// isFile reports whether a scenario is named by its file.
func isFile(name string) bool {
	_, err := os.Stat(name)
	return strings.HasSuffix(name, ".yaml") && err == nil
}
