package testbed

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"shekara/testbed/lab"
	"shekara/testbed/report"
	"shekara/testbed/scenario"
	"shekara/testbed/scenarios"
	"shekara/testbed/swarm"
)

const usage = `usage: shekara testbed list
       shekara testbed run SCENARIO [--json FILE] [--html FILE] [--captures DIR] [--keep] [--without PROGRAM] [--programs DIR] [--machines DIR]
       shekara testbed up SCENARIO [--programs DIR] [--machines DIR]
       shekara testbed exec HOST -- COMMAND...
       shekara testbed capture LINK [-w FILE]
       shekara testbed down
--without nft runs the scenario on edges that lack that program, and so filter with iptables.
--machines has what virtual machines need, and is filled if it is empty (one kernel, 70 MB to fetch): else it is shekara in the user's cache folder.
SCENARIO is a name that list shows, or a .yaml file. Root is needed; the machine's own network is never touched.
`

// Main is the command "shekara testbed"; args are what follows these two words. It returns the exit code: 0, 1 if a step
// failed or something went wrong, 2 if it is used wrongly. The program that calls it must hand "testbed" and all that follows
// to it unread, as hosts are started from the same program.
func Main(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	if len(args) == 0 {
		fmt.Fprint(stderr, usage)
		return 2
	}
	verb, args := args[0], args[1:]
	var err error
	switch verb {
	case "list":
		err = list(stdout)
	case "run":
		return runVerb(ctx, args, stdout, stderr)
	case "up":
		err = up(ctx, args, stdout, stderr)
	case "exec":
		return execVerb(ctx, args, stderr)
	case "capture":
		err = captureVerb(ctx, args, stdout, stderr)
	case "down":
		err = down(stderr)
	case "agent": // process 1 of a host
		if len(args) != 1 {
			return 2
		}
		return lab.Agent(args[0])
	case "hold": // what up leaves behind
		return hold(ctx, args)
	case "serve": // servers of the scenarios
		err = serve(ctx, args)
	case "ask": // for the time, often
		err = askTime(ctx, args, stdout)
	case "wireguard": // a foreign peer's device
		if len(args) != 1 {
			return 2
		}
		err = foreignWireGuard(ctx, args[0])
	case "machine": // one with a clock of its own, on a host's network
		exit, err := boot(ctx, args, stdout)
		if err == nil {
			return exit
		}
		return complain(stderr, verb, err)
	case "swarm":
		return swarm.Main(ctx, args, os.Stdin, stdout, stderr)
	default:
		fmt.Fprint(stderr, usage)
		return 2
	}
	return complain(stderr, verb, err)
}

// complain says what went wrong, if anything did, and gives the exit code.
func complain(stderr io.Writer, verb string, err error) int {
	switch {
	case err == nil:
		return 0
	case errors.Is(err, flag.ErrHelp):
		fmt.Fprint(stderr, usage)
		return 2
	}
	fmt.Fprintf(stderr, "shekara testbed %s: %v\n", verb, err)
	return 1
}

func list(stdout io.Writer) error {
	names, err := fs.Glob(scenarios.Files(), "*.yaml")
	if err != nil {
		return err
	}
	for _, name := range names {
		s, _, err := load(strings.TrimSuffix(name, ".yaml"))
		if err != nil {
			return err
		}
		fmt.Fprintf(stdout, "%-11s %s\n", s.Name, s.Title)
	}
	return nil
}

// load finds a scenario among those that ship, or in a file.
func load(name string) (*scenario.Scenario, fs.FS, error) {
	files, file := scenarios.Files(), name+".yaml"
	if isFile(name) {
		files, file = os.DirFS(filepath.Dir(name)), filepath.Base(name)
	}
	data, err := fs.ReadFile(files, file)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil, fmt.Errorf("there is no scenario %q: shekara testbed list shows them", name)
	}
	if err != nil {
		return nil, nil, err
	}
	s, err := scenario.Decode(file, data, func(name string) ([]byte, error) { return fs.ReadFile(files, name) })
	return s, files, err
}

// options are the flags of run and up.
type options struct {
	json, html, captures, programs string
	machines                       string
	without                        string
	keep                           bool
	scenario                       string
}

func parseOptions(verb string, args []string) (options, error) {
	var o options
	flags := flag.NewFlagSet(verb, flag.ContinueOnError)
	flags.SetOutput(io.Discard)
	if verb == "run" {
		flags.StringVar(&o.json, "json", "", "")
		flags.StringVar(&o.html, "html", "", "")
		flags.StringVar(&o.captures, "captures", "", "")
		flags.BoolVar(&o.keep, "keep", false, "")
		flags.StringVar(&o.without, "without", "", "")
	}
	flags.StringVar(&o.programs, "programs", "", "")
	flags.StringVar(&o.machines, "machines", "", "")
	// Flags may stand before and after the name.
	for len(args) > 0 {
		if err := flags.Parse(args); err != nil {
			return o, fmt.Errorf("%w: %w", err, flag.ErrHelp)
		}
		if args = flags.Args(); len(args) > 0 {
			if o.scenario != "" {
				return o, flag.ErrHelp
			}
			o.scenario, args = args[0], args[1:]
		}
	}
	if o.scenario == "" {
		return o, flag.ErrHelp
	}
	if o.programs == "" {
		self, err := os.Executable()
		if err != nil {
			return o, err
		}
		o.programs = filepath.Dir(self)
	}
	return o, nil
}

// prepare makes the engine of a scenario.
func prepare(o options, progress io.Writer) (*engine, error) {
	if os.Geteuid() != 0 {
		return nil, errors.New("root is needed to make namespaces: run it with sudo")
	}
	s, files, err := load(o.scenario)
	if err != nil {
		return nil, err
	}
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	programs, err := filepath.Abs(o.programs)
	if err != nil {
		return nil, err
	}
	e := newEngine(s, files, programs, self, progress)
	e.captureTo, e.machines = o.captures, o.machines
	if e.machines == "" && s.Machines != nil {
		cache, err := os.UserCacheDir()
		if err != nil {
			return nil, fmt.Errorf("find a folder for virtual machines: %w: name one by --machines", err)
		}
		e.machines = filepath.Join(cache, "shekara")
	}
	if o.without != "" {
		if e.without, err = exec.LookPath(o.without); err != nil {
			return nil, err
		}
		maps.Copy(e.variables, s.Without[o.without])
		e.report.Title += ", without " + o.without
	}
	return e, nil
}

func runVerb(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	o, err := parseOptions("run", args)
	if err != nil {
		return complain(stderr, "run", err)
	}
	e, err := prepare(o, stderr)
	if err != nil {
		return complain(stderr, "run", err)
	}
	defer e.close()
	e.run(ctx, true)
	if o.keep && ctx.Err() == nil {
		fmt.Fprintln(stderr, "The network stays until Ctrl-C: shekara testbed exec HOST -- COMMAND")
		if err := e.serveControl(ctx, func() {}); err != nil {
			return complain(stderr, "run", err)
		}
	}
	if err := errors.Join(writeTo(o.json, e.report.WriteJSON), writeTo(o.html, e.report.WriteHTML), e.report.WriteText(stdout)); err != nil {
		return complain(stderr, "run", err)
	}
	if e.report.Failed > 0 {
		return 1
	}
	return 0
}

func writeTo(file string, write func(io.Writer) error) error {
	if file == "" {
		return nil
	}
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		return err
	}
	out, err := os.Create(file)
	if err != nil {
		return err
	}
	return errors.Join(write(out), out.Close())
}

// partFunction is a part of a scenario that is written in Go. It may add steps to its step.
type partFunction func(ctx context.Context, e *engine, step *report.Step, with map[string]string) error

func (e *engine) part(ctx context.Context, step *report.Step, p scenario.Part) error {
	f, known := parts()[p.Name]
	if !known {
		return fmt.Errorf("there is no part %q", p.Name)
	}
	return f(ctx, e, step, p.With)
}
