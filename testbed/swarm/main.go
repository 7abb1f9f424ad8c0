package swarm

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
)

// maxCommandBytes bounds a line of input: ten thousand peers fit.
const maxCommandBytes = 16 << 20

// Command is one line of input. Do is add, remove, stream, stop, reset, settle, report, break or mend; Peers empty: all.
type Command struct {
	Do     string   `json:"do"`
	Peers  []string `json:"peers,omitempty"`
	Add    []Config `json:"add,omitempty"`
	Stream *Stream  `json:"stream,omitempty"`
	Break  *Break   `json:"break,omitempty"`
}

// Answer is one line of output: each command gets one, in order.
type Answer struct {
	Do      string   `json:"do"`
	Error   string   `json:"error,omitempty"`
	Reports []Report `json:"reports,omitempty"`
}

const usage = `usage: swarm            commands as JSON lines on standard input, answers on standard output, until the input ends
       swarm list       the ways to break a peer
       swarm echo ADDRESS:PORT...
                        answer UDP as it comes, for streams to an ordinary host
`

// Main is the program. It returns 0, 1 if it cannot do its work, 2 if it is used wrongly.
func Main(ctx context.Context, args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	var err error
	switch {
	case len(args) == 0:
		err = serve(ctx, stdin, stdout)
	case args[0] == "list" && len(args) == 1:
		for _, way := range Breakages() {
			fmt.Fprintf(stdout, "%-24s %s\n", way.Name, way.Means)
		}
	case args[0] == "echo" && len(args) > 1:
		err = echo(ctx, args[1:], stdout)
	default:
		fmt.Fprint(stderr, usage)
		return 2
	}
	if err != nil {
		fmt.Fprintf(stderr, "swarm: %v\n", err)
		return 1
	}
	return 0
}

// serve answers commands until the input ends or ctx does.
func serve(ctx context.Context, stdin io.Reader, stdout io.Writer) error {
	swarm := New()
	defer swarm.Close()
	lines, failed := make(chan []byte), make(chan error, 1)
	go func() { // a read of standard input cannot be interrupted: the goroutine ends with the process
		scanner := bufio.NewScanner(stdin)
		scanner.Buffer(nil, maxCommandBytes)
		for scanner.Scan() {
			select {
			case lines <- bytes.Clone(scanner.Bytes()):
			case <-ctx.Done():
				return
			}
		}
		failed <- scanner.Err()
	}()
	out := json.NewEncoder(stdout)
	for {
		select {
		case <-ctx.Done():
			return nil
		case err := <-failed:
			return err
		case line := <-lines:
			if err := out.Encode(swarm.obey(line)); err != nil {
				return err
			}
		}
	}
}

func (s *Swarm) obey(line []byte) Answer {
	var command Command
	decoder := json.NewDecoder(bytes.NewReader(line))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&command); err != nil {
		return Answer{Error: fmt.Sprintf("read command: %v", err)}
	}
	answer := Answer{Do: command.Do}
	if err := s.do(command, &answer); err != nil {
		answer.Error = err.Error()
	}
	return answer
}

func (s *Swarm) do(command Command, answer *Answer) error {
	names := command.Peers
	if len(names) == 0 {
		names = s.Names()
	}
	each := func(f func(name string) error) error {
		var problems []error
		for _, name := range names {
			problems = append(problems, f(name))
		}
		return errors.Join(problems...)
	}
	switch command.Do {
	case "add":
		for _, config := range command.Add {
			if err := s.Add(config); err != nil {
				return err
			}
		}
		return nil
	case "remove":
		return each(s.Remove)
	case "stream":
		if command.Stream == nil {
			return errors.New("stream: say which, as \"stream\"")
		}
		return each(func(name string) error { return s.Stream(name, *command.Stream) })
	case "stop":
		return each(s.StopStreams)
	case "reset":
		return each(s.Reset)
	case "settle":
		s.Settle()
		return nil
	case "report":
		answer.Reports = s.Report(command.Peers...)
		return nil
	case "break":
		if command.Break == nil {
			return errors.New("break: say how, as \"break\"")
		}
		return each(func(name string) error { return s.Break(name, *command.Break) })
	case "mend":
		return each(s.Mend)
	}
	return fmt.Errorf("there is no command %q", command.Do)
}

// echo answers UDP datagrams with themselves. It prints one line when it is ready.
func echo(ctx context.Context, addresses []string, stdout io.Writer) error {
	var sockets []*net.UDPConn
	defer func() {
		for _, socket := range sockets {
			socket.Close()
		}
	}()
	done := make(chan error, len(addresses))
	for _, text := range addresses {
		address, err := netip.ParseAddrPort(text)
		if err != nil {
			return err
		}
		socket, err := net.ListenUDP("udp", net.UDPAddrFromAddrPort(address))
		if err != nil {
			return err
		}
		sockets = append(sockets, socket)
	}
	for _, socket := range sockets {
		go func() { done <- echoOn(socket) }() // ends when the socket is closed
	}
	fmt.Fprintln(stdout, "ready")
	select {
	case <-ctx.Done():
		return nil
	case err := <-done:
		return err
	}
}

func echoOn(socket *net.UDPConn) error {
	buffer := make([]byte, 1<<16)
	for {
		n, from, err := socket.ReadFromUDPAddrPort(buffer)
		if err != nil {
			return err
		}
		_, _ = socket.WriteToUDPAddrPort(buffer[:n], from) // as lossy as the network
	}
}
