package testbed

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"shekara/testbed/lab"
	"shekara/testbed/packet"
	"shekara/testbed/report"
	"shekara/testbed/scenario"
)

const (
	commandWithin = 2 * time.Minute        // bounds a command that hangs
	retryEvery    = 100 * time.Millisecond // between tries of a step that has Within
	waitWithin    = 30 * time.Second
	reachWithin   = 10 * time.Second
	blockedWithin = 1500 * time.Millisecond
)

// apply writes the documents to the host and hands them to the command line.
func (e *engine) apply(ctx context.Context, step *report.Step, a scenario.Apply) error {
	host := e.network.Host(a.On)
	command := []string{"shekara", "apply", "--yes"}
	if a.Whole {
		command = append(command, "--whole")
	}
	if a.ConfirmWithin > 0 {
		command = append(command, "--confirm-within", a.ConfirmWithin.String())
	}
	put := func(name, text string) error {
		file := "/run/testbed/documents/" + name
		command = append(command, file)
		return host.WriteFile(file, []byte(text), 0o644)
	}
	for _, name := range a.Documents {
		if strings.HasPrefix(name, "/") {
			command = append(command, name)
			continue
		}
		text, err := e.readFile(name)
		if err != nil {
			return err
		}
		for sample, real := range a.Replace {
			text = strings.ReplaceAll(text, e.expand(sample), e.expand(real))
		}
		if err := put(name, text); err != nil {
			return err
		}
	}
	if a.Inline != "" {
		if err := put("inline.yaml", e.expand(a.Inline)); err != nil {
			return err
		}
	}
	result, err := e.execute(ctx, host, command, "")
	if err != nil {
		return err
	}
	output := result.Stdout + result.Stderr
	if result.Exit != a.Exit {
		return failure{fmt.Errorf("%s: exit code %d, want %d", strings.Join(command[:2], " "), result.Exit, a.Exit), output}
	}
	if a.Output != nil && !a.Output.MatchString(output) {
		return failure{fmt.Errorf("the output does not match %s", a.Output), output}
	}
	if a.Confirm {
		confirmed, err := e.execute(ctx, host, []string{"shekara", "confirm"}, "")
		if err != nil {
			return err
		}
		if confirmed.Exit != 0 {
			return failure{fmt.Errorf("shekara confirm: exit code %d", confirmed.Exit), output + confirmed.Stdout + confirmed.Stderr}
		}
	}
	return nil
}

func (e *engine) write(w scenario.Write) error {
	text := e.expand(w.Text)
	if w.Copy != "" {
		var err error
		if text, err = e.readFile(w.Copy); err != nil {
			return err
		}
	}
	return e.network.Host(w.On).WriteFile(w.File, []byte(text), 0o644)
}

func (e *engine) execute(ctx context.Context, host *lab.Host, command []string, stdin string) (lab.Result, error) {
	ctx, cancel := context.WithTimeout(ctx, commandWithin)
	defer cancel()
	c := lab.Command{Args: command}
	if stdin != "" {
		c.Stdin = strings.NewReader(stdin)
	}
	return host.Run(ctx, c)
}

func (e *engine) runCommand(ctx context.Context, step *report.Step, r scenario.Run) error {
	command := e.command(r.Command)
	if r.Shell != "" {
		command = []string{"sh", "-ec", e.expand(r.Shell)}
	}
	deadline := time.Now().Add(r.Within)
	for {
		result, err := e.execute(ctx, e.network.Host(r.On), command, e.expand(r.Stdin))
		if err != nil {
			return err
		}
		problem := judge(r, result)
		if problem == nil {
			if r.Show {
				step.Output = result.Stdout
			}
			return e.keep(r, result)
		}
		if !time.Now().Before(deadline) {
			return failure{problem, result.Stdout + result.Stderr}
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(retryEvery):
		}
	}
}

func judge(r scenario.Run, result lab.Result) error {
	switch {
	case result.Exit != r.Exit:
		return fmt.Errorf("exit code %d, want %d", result.Exit, r.Exit)
	case r.Output != nil && !r.Output.MatchString(result.Stdout):
		return fmt.Errorf("the output does not match %s", r.Output)
	case r.Errors != nil && !r.Errors.MatchString(result.Stderr):
		return fmt.Errorf("standard error does not match %s", r.Errors)
	case r.Never != nil && r.Never.MatchString(result.Stdout+result.Stderr):
		return fmt.Errorf("the output matches %s", r.Never)
	}
	return nil
}

func (e *engine) keep(r scenario.Run, result lab.Result) error {
	if r.Set != "" {
		e.set(r.Set, strings.TrimSpace(result.Stdout))
	}
	if r.Store != nil {
		return e.network.Host(r.Store.On).WriteFile(r.Store.File, []byte(result.Stdout), 0o600)
	}
	return nil
}

func (e *engine) startNamed(ctx context.Context, r scenario.ProgramRef) error {
	h, _ := e.host(r.On)
	i := slices.IndexFunc(h.Programs, func(p scenario.Program) bool { return p.Name == r.Program })
	return e.startProgram(ctx, r.On, h.Programs[i])
}

func (e *engine) kill(ctx context.Context, k scenario.Kill) error {
	name := k.Signal
	if name == "" {
		name = "KILL"
	}
	number := unix.SignalNum("SIG" + name)
	if number == 0 {
		return fmt.Errorf("signal %q is not known", name)
	}
	e.mu.Lock()
	p := e.running[k.On+"/"+k.Program]
	e.mu.Unlock()
	if p == nil || !p.Running() {
		return fmt.Errorf("%s does not run on %s", k.Program, k.On)
	}
	if err := p.Signal(number); err != nil {
		return err
	}
	if number == unix.SIGHUP {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, waitWithin)
	defer cancel()
	if _, err := p.Wait(ctx); err != nil {
		return failure{err, p.Stdout() + p.Stderr()}
	}
	return nil
}

// wait follows a command until a line matches. The command is then killed.
func (e *engine) wait(ctx context.Context, step *report.Step, w scenario.Wait) error {
	command := e.command(w.Command)
	if len(command) == 0 {
		command = []string{"shekara", "journal", "tail", "--json", "-n", "1000"}
	}
	within := w.Within
	if within == 0 {
		within = waitWithin
	}
	ctx, cancel := context.WithTimeout(ctx, within)
	defer cancel()
	null, err := os.Open(os.DevNull)
	if err != nil {
		return err
	}
	defer null.Close()
	read, write, err := os.Pipe()
	if err != nil {
		return err
	}
	defer read.Close()
	p, err := e.network.Host(w.On).Start(lab.Command{Args: command, Files: []*os.File{null, write, write}})
	write.Close()
	if err != nil {
		return err
	}
	defer p.Kill()
	stop := context.AfterFunc(ctx, p.Kill)
	defer stop()
	var seen strings.Builder
	lines := bufio.NewScanner(read)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		if w.Match.MatchString(lines.Text()) {
			step.Facts = append(step.Facts, report.Fact{Name: "seen", Value: shorten(lines.Text(), 240)})
			return nil
		}
		seen.WriteString(lines.Text() + "\n")
	}
	return failure{fmt.Errorf("no line matches %s within %v", w.Match, within), seen.String()}
}

func shorten(text string, most int) string {
	if runes := []rune(text); len(runes) > most {
		return string(runes[:most]) + "…"
	}
	return text
}

func (e *engine) impair(i scenario.Impair) error {
	link := e.network.Link(i.Link)
	if i.From == "" {
		link.Wire.Impair(i.By)
		return nil
	}
	end := slices.IndexFunc(link.Spec.Ends, func(end lab.End) bool { return end.Host == i.From })
	link.Wire.ImpairFrom(end, i.By)
	return nil
}

// reach tries until it is answered or time is up. What must be blocked is tried once.
func (e *engine) reach(ctx context.Context, step *report.Step, r scenario.Reach) error {
	within := r.Within
	switch {
	case within > 0:
	case r.Blocked:
		within = blockedWithin
	default:
		within = reachWithin
	}
	if r.Blocked && e.outcome(r.ControlBy) != report.Passed {
		return fmt.Errorf("its positive control %q did not pass: that nothing is reached proves nothing", r.ControlBy)
	}
	ctx, cancel := context.WithTimeout(ctx, within)
	defer cancel()
	began := time.Now()
	for {
		answer, err := e.ask(ctx, r)
		switch {
		case r.Blocked && err == nil:
			return failure{errors.New("it was answered, and must be blocked"), answer}
		case r.Blocked:
			step.Facts = append(step.Facts, report.Fact{Name: "refusal", Value: shorten(err.Error(), 160)})
			return nil
		case err == nil:
			step.Facts = append(step.Facts, report.Fact{Name: "answered after", Value: time.Since(began).Round(10 * time.Microsecond).String()})
			if r.Protocol == "http" {
				step.Facts = append(step.Facts, report.Fact{Name: "answer", Value: shorten(strings.TrimSpace(answer), 160)})
			}
			return nil
		}
		select {
		case <-ctx.Done():
			return failure{fmt.Errorf("not answered within %v: %w", within, err), answer}
		case <-time.After(retryEvery):
		}
	}
}

func (e *engine) outcome(name string) report.Outcome {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.outcomes[name]
}

// tryFor bounds one try, so that a lost packet costs no more.
const tryFor = 2 * time.Second

func (e *engine) ask(ctx context.Context, r scenario.Reach) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, tryFor)
	defer cancel()
	from := e.network.Host(r.From)
	switch r.Protocol {
	case "icmp":
		command := []string{"ping", "-n", "-c1", "-W1", e.expand(r.To)}
		if r.Source.IsValid() {
			command = append(command, "-I", r.Source.String())
		}
		result, err := from.Run(ctx, lab.Command{Args: command})
		if err == nil && result.Exit != 0 {
			err = errors.New("no echo reply")
		}
		return result.Stdout + result.Stderr, err
	case "http":
		return askHTTP(ctx, from, r, e.expand(r.To))
	}
	conn, err := dial(ctx, from, r.Protocol, r.Source, e.expand(r.To))
	if err != nil || r.Protocol == "tcp" {
		if err == nil {
			conn.Close()
		}
		return "", err
	}
	defer conn.Close()
	deadline, _ := ctx.Deadline()
	if err := conn.SetDeadline(deadline); err != nil {
		return "", err
	}
	if _, err := conn.Write([]byte("echo")); err != nil {
		return "", err
	}
	answer := make([]byte, 100)
	n, err := conn.Read(answer)
	return string(answer[:n]), err
}

// dial opens a connection from inside a host. The address is literal, so that the socket is made on the thread that is there.
func dial(ctx context.Context, from packet.Place, network string, source netip.Addr, to string) (net.Conn, error) {
	if _, err := netip.ParseAddrPort(to); err != nil {
		return nil, fmt.Errorf("%q is no address with a port: %w", to, err)
	}
	dialer := net.Dialer{}
	if source.IsValid() {
		if network == "udp" {
			dialer.LocalAddr = net.UDPAddrFromAddrPort(netip.AddrPortFrom(source, 0))
		} else {
			dialer.LocalAddr = net.TCPAddrFromAddrPort(netip.AddrPortFrom(source, 0))
		}
	}
	var conn net.Conn
	err := from.Do(func() (err error) {
		conn, err = dialer.DialContext(ctx, network, to)
		return err
	})
	return conn, err
}

func askHTTP(ctx context.Context, from packet.Place, r scenario.Reach, url string) (string, error) {
	transport := &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, address string) (net.Conn, error) {
		return dial(ctx, from, "tcp", r.Source, address)
	}}
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return "", err
	}
	response, err := (&http.Client{Transport: transport}).Do(request)
	if err != nil {
		return "", err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(io.LimitReader(response.Body, 64<<10))
	if err != nil {
		return "", err
	}
	wanted := r.Status
	if wanted == 0 {
		wanted = http.StatusOK
	}
	if response.StatusCode != wanted {
		return string(body), fmt.Errorf("status %d, want %d", response.StatusCode, wanted)
	}
	if r.Body != nil && !r.Body.Match(body) {
		return string(body), fmt.Errorf("the body does not match %s", r.Body)
	}
	return string(body), nil
}

func (e *engine) traffic(t scenario.Traffic) error {
	stream := packet.Stream{From: e.network.Host(t.From), To: e.network.Host(t.To), Source: t.Source, Destination: t.Destination, Port: t.Port, Rate: t.Rate, Size: t.Size}
	running, err := stream.Start()
	if err != nil {
		return err
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.streams[t.Name] != nil {
		running.Abandon()
		return fmt.Errorf("traffic %q runs already", t.Name)
	}
	e.streams[t.Name] = running
	return nil
}

func (e *engine) endTraffic(ctx context.Context, step *report.Step, end scenario.EndTraffic) error {
	var problems []error
	for _, name := range end.Names {
		e.mu.Lock()
		stream := e.streams[name]
		delete(e.streams, name)
		e.mu.Unlock()
		if stream == nil {
			return fmt.Errorf("there is no traffic %q", name)
		}
		for stream.Account().Sent < end.After && ctx.Err() == nil {
			time.Sleep(10 * time.Millisecond)
		}
		a := stream.Stop()
		step.Facts = append(step.Facts, report.Fact{Name: name, Value: a.String()})
		switch {
		case a.Sent == 0:
			problems = append(problems, fmt.Errorf("%s: nothing was sent", name))
		case a.Lost() > end.Lost && end.Least == 0:
			problems = append(problems, fmt.Errorf("%s: %d packets lost, at most %d may be", name, a.Lost(), end.Lost))
		case a.Lost() < end.Least:
			problems = append(problems, fmt.Errorf("%s: %d packets lost, at least %d must be", name, a.Lost(), end.Least))
		}
		if end.Gap != nil && a.LongestGap > *end.Gap {
			problems = append(problems, fmt.Errorf("%s: a gap of %v, at most %v may be", name, a.LongestGap, *end.Gap))
		}
	}
	return errors.Join(problems...)
}
