package main

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"shekara/provisioning"
	"shekara/provisioning/api"
	"shekara/provisioning/client"
	"shekara/testbed/generate"
	"shekara/testbed/lab"
)

// patience bounds the wait for one program; it fails a run that hangs and measures nothing.
const patience = 15 * time.Minute

// network makes the hosts of one measurement; they vanish with it, however it ends.
func (b *bench) network() *lab.Network {
	return lab.Open([]string{b.self, agentWord}, []string{"PATH=" + b.bin + ":/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"})
}

func (b *bench) version(ctx context.Context) string {
	n := b.network()
	defer n.Close()
	h, err := n.AddHost("version", false)
	if err != nil {
		return ""
	}
	out, err := command(ctx, h, "shekara", "--version")
	if err != nil {
		return ""
	}
	return strings.TrimSpace(strings.TrimPrefix(out, "shekara "))
}

// command runs a program on a host; that it fails is an error, with what it wrote.
func command(ctx context.Context, h *lab.Host, args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	r, err := h.Run(ctx, lab.Command{Args: args})
	if err != nil {
		return "", err
	}
	if r.Exit != 0 {
		return "", fmt.Errorf("on %s: %s ends with %d: %s", h.Name, strings.Join(args, " "), r.Exit, strings.TrimSpace(r.Stderr+r.Stdout))
	}
	return r.Stdout, nil
}

// commands runs one after another until one fails.
func commands(ctx context.Context, h *lab.Host, lines ...string) error {
	for _, line := range lines {
		if _, err := command(ctx, h, strings.Fields(line)...); err != nil {
			return err
		}
	}
	return nil
}

// edge is a host on which shekarad runs.
type edge struct {
	*lab.Host
	daemon *lab.Process
	client *client.Client
	device string // name of its one tunnel device, once it is there
}

const (
	readyWithin  = 2 * time.Minute // fails a run that hangs and measures nothing
	workFolder   = "/run/bench"
	runDirectory = "/run/shekara"
)

// startEdge makes a host that has its links already into an edge, with these documents in force and confirmed.
func (b *bench) startEdge(ctx context.Context, h *lab.Host, site string, base []byte) (*edge, error) {
	e := &edge{Host: h, client: client.New(h.Path(runDirectory))}
	if err := h.WriteFile("/etc/shekara/site", []byte(site+"\n"), 0o644); err != nil {
		return nil, err
	}
	if err := e.start(ctx); err != nil {
		return nil, err
	}
	if err := e.apply(ctx, "base", base); err != nil {
		return nil, err
	}
	if status, err := e.client.Status(ctx); err != nil {
		return nil, err
	} else if status.ConfirmBy != nil {
		if _, err := command(ctx, h, "shekara", "confirm"); err != nil {
			return nil, err
		}
	}
	out, err := command(ctx, h, "wg", "show", "interfaces")
	if err != nil {
		return nil, err
	}
	e.device = strings.TrimSpace(out)
	if e.device == "" || strings.ContainsAny(e.device, " \n") {
		return nil, fmt.Errorf("%s has devices %q, want one", h.Name, e.device)
	}
	return e, nil
}

// start starts the daemon and waits until it answers. (It is not told of a service manager: it would ask that for its devices.)
func (e *edge) start(ctx context.Context) error {
	daemon, err := e.Start(lab.Command{Args: []string{"shekarad"}})
	if err != nil {
		return err
	}
	e.daemon = daemon
	for limit := time.Now().Add(readyWithin); ; time.Sleep(pollEvery) {
		_, err := e.client.Status(ctx)
		switch {
		case err == nil:
			return nil
		case ctx.Err() != nil:
			return ctx.Err()
		case !daemon.Running() || time.Now().After(limit):
			return fmt.Errorf("the daemon does not answer: %w: %s", err, daemon.Stderr())
		}
	}
}

// restart ends the daemon in order and starts it again.
func (e *edge) restart(ctx context.Context) error {
	if err := e.daemon.Signal(syscall.SIGTERM); err != nil {
		return err
	}
	if _, err := e.daemon.Wait(ctx); err != nil {
		return err
	}
	return e.start(ctx)
}

// kill ends the daemon at once.
func (e *edge) kill() { e.daemon.Kill() }

// put writes documents where the edge's own programs find them.
func (e *edge) put(name string, documents []byte) (string, error) {
	path := filepath.Join(workFolder, name+".yaml")
	return path, e.WriteFile(path, documents, 0o644)
}

// apply makes documents real by the command line, as an operator would.
func (e *edge) apply(ctx context.Context, name string, documents []byte, flags ...string) error {
	path, err := e.put(name, documents)
	if err != nil {
		return err
	}
	_, err = command(ctx, e.Host, append([]string{"shekara", "apply", path, "--yes"}, flags...)...)
	return err
}

// documents is a request of the API.
func documents(text []byte) api.Documents {
	return api.Documents{Files: []api.File{{Name: "bench.yaml", Content: string(text)}}}
}

// ask does what the command line does, over the socket: a plan, then that plan applied.
func (e *edge) ask(ctx context.Context, text []byte) (provisioning.Result, error) {
	plan, err := e.client.Plan(ctx, documents(text))
	if err != nil {
		return provisioning.Result{}, err
	}
	return e.client.Apply(ctx, documents(text), plan.Base)
}

// publicKey is that of the edge's device.
func (e *edge) publicKey(ctx context.Context) (string, error) {
	out, err := command(ctx, e.Host, "wg", "show", e.device, "public-key")
	return strings.TrimSpace(out), err
}

// residentMiB is what a process of the host holds in memory.
func residentMiB(h *lab.Host, pid int) (float64, error) {
	text, err := os.ReadFile(h.Path(fmt.Sprintf("/proc/%d/status", pid)))
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(text)) {
		var kilobytes float64
		if n, _ := fmt.Sscanf(line, "VmRSS: %f kB", &kilobytes); n == 1 {
			return kilobytes / 1024, nil
		}
	}
	return 0, fmt.Errorf("process %d on %s holds no memory", pid, h.Name)
}

// findProcess finds the one process of a host whose command line has this word.
func findProcess(h *lab.Host, word string) (int, error) {
	entries, err := os.ReadDir(h.Path("/proc"))
	if err != nil {
		return 0, err
	}
	for _, entry := range entries {
		pid, err := strconv.Atoi(entry.Name())
		if err != nil {
			continue
		}
		text, err := os.ReadFile(h.Path(fmt.Sprintf("/proc/%d/cmdline", pid)))
		if err == nil && strings.Contains("\x00"+string(text), "\x00"+word+"\x00") {
			return pid, nil
		}
	}
	return 0, fmt.Errorf("no process %q on %s", word, h.Name)
}

// owner makes the hosts of the owner's side: its edge with ext0 and dmz0, and the gateway behind it. ext0 ends on the host outside.
func owner(n *lab.Network, prefix, outside string, addresses ...netip.Prefix) (edgeHost, gateway *lab.Host, err error) {
	if edgeHost, err = n.AddHost(prefix+"edge", false); err != nil {
		return nil, nil, err
	}
	if gateway, err = n.AddHost(prefix+"gateway", false); err != nil {
		return nil, nil, err
	}
	inner, outer := generate.OwnerNetwork().Bits(), generate.OuterNetwork().Bits()
	links := []lab.LinkSpec{
		{Name: prefix + "dmz", Ends: []lab.End{
			{Host: edgeHost.Name, Interface: "dmz0", Addresses: []netip.Prefix{netip.PrefixFrom(generate.OwnerNetwork().Addr().Next(), inner)}},
			{Host: gateway.Name, Interface: "eth0", Addresses: []netip.Prefix{netip.PrefixFrom(generate.OwnerInside(), inner)}},
		}},
		{Name: prefix + "ext", Ends: []lab.End{
			{Host: edgeHost.Name, Interface: "ext0", Addresses: []netip.Prefix{netip.PrefixFrom(generate.OwnerOuter(), outer)}},
			{Host: outside, Interface: "ext0", Addresses: addresses},
		}},
	}
	for _, link := range links {
		if _, err := n.AddLink(link); err != nil {
			return nil, nil, err
		}
	}
	err = gateway.AddRoute(lab.Route{To: netip.MustParsePrefix("10.64.0.0/12"), Via: generate.OwnerNetwork().Addr().Next()})
	return edgeHost, gateway, err
}

var errNothingMeasured = errors.New("nothing was measured")
