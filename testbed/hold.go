package testbed

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"shekara/netctl/ns"
	"shekara/testbed/lab"
	"shekara/testbed/packet"
)

// A network that is up is held by one process, which listens here and describes the network in state.json.
const (
	stateFolder   = "/run/shekara-testbed"
	controlSocket = stateFolder + "/control"
	stateFile     = stateFolder + "/state.json"
	logFile       = stateFolder + "/log"
)

// state is the network that is up.
type state struct {
	Scenario string             `json:"scenario"`
	PID      int                `json:"pid"` // of the holder
	Hosts    map[string]int     `json:"hosts"`
	Links    map[string]linkEnd `json:"links"` // by name: their first end
}

type linkEnd struct {
	Host      string `json:"host"`
	Interface string `json:"interface"`
}

// up starts the holder and waits until the network is there.
func up(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	o, err := parseOptions("up", args)
	if err != nil {
		return err
	}
	if s, err := readState(); err == nil {
		if conn, err := net.Dial("unixpacket", controlSocket); err == nil {
			conn.Close()
			return fmt.Errorf("scenario %s is up: shekara testbed down ends it", s.Scenario)
		}
	}
	if err := down(io.Discard); err != nil {
		return err
	}
	if err := os.MkdirAll(stateFolder, 0o700); err != nil {
		return err
	}
	log, err := os.Create(logFile)
	if err != nil {
		return err
	}
	defer log.Close()
	read, write, err := os.Pipe()
	if err != nil {
		return err
	}
	holder := exec.Command("/proc/self/exe", "testbed", "hold", o.scenario, "--programs", o.programs)
	holder.Stdout, holder.Stderr, holder.ExtraFiles = log, log, []*os.File{write}
	holder.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	err = holder.Start()
	write.Close()
	if err != nil {
		read.Close()
		return err
	}
	stop := context.AfterFunc(ctx, func() { _ = holder.Process.Signal(unix.SIGTERM) }) // Ctrl-C while it is built
	// The holder closes the pipe when the network is there, or when it ends.
	_, _ = io.Copy(stderr, read)
	read.Close()
	stop()
	if s, err := readState(); err == nil && s.PID == holder.Process.Pid {
		fmt.Fprintf(stdout, "%s is up. shekara testbed exec HOST -- COMMAND; shekara testbed down\n", s.Scenario)
		return holder.Process.Release()
	}
	_ = holder.Wait()
	_ = os.RemoveAll(stateFolder)
	return errors.New("the network did not come up")
}

// hold builds the network and keeps it until down asks or a signal comes. Descriptor 3 takes the progress.
func hold(ctx context.Context, args []string) int {
	progress := os.NewFile(3, "progress")
	syscall.CloseOnExec(3)
	o, err := parseOptions("up", args)
	if err != nil {
		return 2
	}
	e, err := prepare(o, progress)
	if err != nil {
		fmt.Fprintln(progress, err)
		return 1
	}
	defer e.close()
	e.run(ctx, false)
	if e.report.Failed > 0 || ctx.Err() != nil {
		_ = e.report.WriteText(os.Stderr)
		return 1
	}
	err = e.serveControl(ctx, func() {
		e.progress = io.Discard
		progress.Close()
	})
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

// order is what comes in on the control socket.
type order struct {
	Down bool     `json:"down,omitempty"`
	Host string   `json:"host,omitempty"`
	Args []string `json:"args,omitempty"`
}

// outcome answers an order.
type outcome struct {
	Exit  int    `json:"exit"`
	Error string `json:"error,omitempty"`
}

// serveControl describes the network and obeys orders until one is to end it. ready is called when orders can come.
func (e *engine) serveControl(ctx context.Context, ready func()) error {
	if err := os.MkdirAll(stateFolder, 0o700); err != nil {
		return err
	}
	defer os.RemoveAll(stateFolder)
	listener, err := net.ListenUnix("unixpacket", &net.UnixAddr{Name: controlSocket, Net: "unixpacket"})
	if err != nil {
		return fmt.Errorf("another network is up, or was: shekara testbed down ends it: %w", err)
	}
	s := state{Scenario: e.scenario.Name, PID: os.Getpid(), Hosts: map[string]int{}, Links: map[string]linkEnd{}}
	for _, h := range e.scenario.Hosts {
		s.Hosts[h.Name] = e.network.Host(h.Name).PID()
	}
	for _, l := range e.scenario.Links {
		s.Links[l.Name] = linkEnd{l.Ends[0].Host, l.Ends[0].Interface}
	}
	text, err := json.MarshalIndent(s, "", "  ")
	if err != nil {
		return err
	}
	if err := os.WriteFile(stateFile, text, 0o600); err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stop := context.AfterFunc(ctx, func() { listener.Close() })
	defer stop()
	ready()
	for {
		conn, err := listener.AcceptUnix()
		if err != nil {
			return nil
		}
		go e.obey(conn, cancel)
	}
}

func (e *engine) obey(conn *net.UnixConn, end context.CancelFunc) {
	defer conn.Close()
	var o order
	files, err := lab.Receive(conn, &o)
	defer func() {
		for _, f := range files {
			f.Close()
		}
	}()
	if err != nil {
		return
	}
	if o.Down {
		_ = lab.Send(conn, outcome{}) // else down would take us for dead, and send a signal
		end()
		return
	}
	host := e.network.Host(o.Host)
	if host == nil || len(files) != 3 {
		_ = lab.Send(conn, outcome{Exit: 1, Error: fmt.Sprintf("there is no host %q", o.Host)})
		return
	}
	p, err := host.Start(lab.Command{Args: o.Args, Files: files})
	if err != nil {
		_ = lab.Send(conn, outcome{Exit: 1, Error: err.Error()})
		return
	}
	gone, cancel := context.WithCancel(context.Background())
	defer cancel()
	go func() { // the other end says nothing more: a read ends when it is gone
		_, _ = conn.Read(make([]byte, 1))
		cancel()
	}()
	exit, err := p.Wait(gone)
	if err == nil {
		_ = lab.Send(conn, outcome{Exit: exit})
	}
}

func execVerb(ctx context.Context, args []string, stderr io.Writer) int {
	if len(args) < 2 || len(args) == 2 && args[1] == "--" {
		fmt.Fprint(stderr, usage)
		return 2
	}
	host, command := args[0], args[1:]
	if command[0] == "--" {
		command = command[1:]
	}
	result, err := ask(ctx, order{Host: host, Args: command}, os.Stdin, os.Stdout, os.Stderr)
	if err == nil && result.Error != "" {
		err = errors.New(result.Error)
	}
	if err != nil {
		fmt.Fprintf(stderr, "shekara testbed exec: %v\n", err)
		return 1
	}
	if result.Exit < 0 {
		return 128 + int(unix.SIGKILL)
	}
	return result.Exit
}

func ask(ctx context.Context, o order, files ...*os.File) (outcome, error) {
	conn, err := net.DialUnix("unixpacket", nil, &net.UnixAddr{Name: controlSocket, Net: "unixpacket"})
	if err != nil {
		return outcome{}, errors.New("no network is up: shekara testbed up SCENARIO makes one")
	}
	defer conn.Close()
	stop := context.AfterFunc(ctx, func() { conn.Close() })
	defer stop()
	if err := lab.Send(conn, o, files...); err != nil {
		return outcome{}, err
	}
	var answer outcome
	_, err = lab.Receive(conn, &answer)
	return answer, err
}

// downWithin is how long the holder may take to end everything.
const downWithin = 20 * time.Second

// down ends the network that is up, and clears what a holder that was killed left: its folder. Nothing else can be left, for
// hosts end with their holder.
func down(stderr io.Writer) error {
	s, err := readState()
	if errors.Is(err, os.ErrNotExist) {
		fmt.Fprintln(stderr, "No network is up.")
		return os.RemoveAll(stateFolder)
	}
	if err != nil {
		return err
	}
	// The descriptor is taken before the process is known to be the holder: the number cannot pass to another after that.
	holder, err := unix.PidfdOpen(s.PID, 0)
	if err != nil || !isHolder(s.PID) {
		if err == nil {
			unix.Close(holder)
		}
		return os.RemoveAll(stateFolder)
	}
	defer unix.Close(holder)
	if _, err := ask(context.Background(), order{Down: true}); err != nil {
		_ = unix.PidfdSendSignal(holder, unix.SIGTERM, nil, 0)
	}
	for _, signal := range []unix.Signal{0, unix.SIGKILL} {
		_ = unix.PidfdSendSignal(holder, signal, nil, 0)
		if n, _ := pollEnd(holder, downWithin); n == 1 {
			fmt.Fprintf(stderr, "%s is down.\n", s.Scenario)
			return os.RemoveAll(stateFolder)
		}
	}
	return fmt.Errorf("process %d, which holds the network, does not end", s.PID)
}

// pollEnd waits until a process has ended, of which this is the file descriptor (pidfd_open(2)), and gives 1; 0: it has not within that time.
func pollEnd(process int, within time.Duration) (n int, err error) {
	deadline := time.Now().Add(within)
	for {
		n, err = unix.Poll([]unix.PollFd{{Fd: int32(process), Events: unix.POLLIN}}, int(max(0, time.Until(deadline)).Milliseconds()))
		if !errors.Is(err, unix.EINTR) { // Go's runtime interrupts its threads
			return n, err
		}
	}
}

// isHolder reports whether a process runs this program's hold or run.
func isHolder(pid int) bool {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
	if err != nil {
		return false
	}
	words := splitZero(text)
	return len(words) > 2 && words[1] == "testbed" && (words[2] == "hold" || words[2] == "run")
}

func splitZero(text []byte) []string {
	var words []string
	begin := 0
	for i, b := range text {
		if b == 0 {
			words = append(words, string(text[begin:i]))
			begin = i + 1
		}
	}
	return words
}

func readState() (state, error) {
	var s state
	text, err := os.ReadFile(stateFile)
	if err != nil {
		return s, err
	}
	if err := json.Unmarshal(text, &s); err != nil {
		return s, fmt.Errorf("read %s: %w", stateFile, err)
	}
	return s, nil
}

// captureVerb writes what passes a link: as pcap to a file, or as one line a packet.
func captureVerb(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	link, file := "", ""
	for i := 0; i < len(args); i++ {
		switch {
		case args[i] == "-w" && i+1 < len(args):
			i++
			file = args[i]
		case link == "":
			link = args[i]
		default:
			return fmt.Errorf("capture takes one link")
		}
	}
	s, err := readState()
	if err != nil {
		return errors.New("no network is up: shekara testbed up SCENARIO makes one")
	}
	end, known := s.Links[link]
	if !known {
		return fmt.Errorf("there is no link %q", link)
	}
	place, err := ns.Of(s.Hosts[end.Host])
	if err != nil {
		return err
	}
	defer place.Close()
	if file == "" {
		return packet.Print(ctx, place, end.Interface, stdout)
	}
	out, err := os.Create(filepath.Clean(file))
	if err != nil {
		return err
	}
	count, err := packet.Capture(ctx, place, end.Interface, out, func() {
		fmt.Fprintf(stderr, "Capturing %s at %s/%s until Ctrl-C.\n", link, end.Host, end.Interface)
	})
	fmt.Fprintf(stderr, "%d packets in %s.\n", count, file)
	return errors.Join(err, out.Close())
}
