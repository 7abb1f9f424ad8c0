package lab

import (
	"encoding/json"
	"fmt"
	"net"
	"os"

	"golang.org/x/sys/unix"
)

// The agent and its maker speak JSON messages over SOCK_SEQPACKET, which keeps their bounds and carries descriptors.
const maxMessage = 128 << 10

// request asks the agent to start a program. Four descriptors come with it: standard input, output, error, and the socket on
// which this program's replies go and its signals come. When that socket closes while the program runs, its process group is killed.
type request struct {
	Args        []string `json:"args"`
	Environment []string `json:"environment"`
	Notify      string   `json:"notify,omitempty"` // path of a socket to make for sd_notify(3); READY=1 on it is replied
}

// reply is what becomes of the program. Exactly one field is set.
type reply struct {
	Started int     `json:"started,omitempty"` // its PID inside the host
	Ready   bool    `json:"ready,omitempty"`
	Ended   *status `json:"ended,omitempty"`
	Refused string  `json:"refused,omitempty"` // it could not be started
}

type status struct {
	Exit   int `json:"exit"`             // -1 if a signal ended it
	Signal int `json:"signal,omitempty"` // which
}

// command is sent to a program that runs.
type command struct {
	Signal int `json:"signal"`
}

// hello is the agent's first message: the host is made, or why not.
type hello struct {
	Error string `json:"error,omitempty"`
}

// pair makes two joined sockets: one for this process, one to hand to another.
func pair() (own *net.UnixConn, other *os.File, err error) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, nil, fmt.Errorf("make socket pair: %w", err)
	}
	other = os.NewFile(uintptr(fds[1]), "pair")
	if own, err = unixConn(os.NewFile(uintptr(fds[0]), "pair")); err != nil {
		other.Close()
		return nil, nil, err
	}
	return own, other, nil
}

// unixConn takes a socket over from a file, which it closes.
func unixConn(file *os.File) (*net.UnixConn, error) {
	defer file.Close()
	conn, err := net.FileConn(file)
	if err != nil {
		return nil, fmt.Errorf("take over socket: %w", err)
	}
	u, ok := conn.(*net.UnixConn)
	if !ok {
		conn.Close()
		return nil, fmt.Errorf("take over socket: not a unix socket")
	}
	return u, nil
}

// Send writes one message, and descriptors with it.
func Send(conn *net.UnixConn, message any, files ...*os.File) error {
	text, err := json.Marshal(message)
	if err != nil {
		return err
	}
	if len(text) > maxMessage {
		return fmt.Errorf("message has %d bytes, at most %d", len(text), maxMessage)
	}
	var rights []byte
	if len(files) > 0 {
		var fds []int
		for _, f := range files {
			fds = append(fds, int(f.Fd()))
		}
		rights = unix.UnixRights(fds...)
	}
	_, _, err = conn.WriteMsgUnix(text, rights, nil)
	return err
}

// Receive reads one message and the descriptors that came with it.
func Receive(conn *net.UnixConn, message any) ([]*os.File, error) {
	text := make([]byte, maxMessage)
	rights := make([]byte, unix.CmsgSpace(4*8))
	n, rightsN, _, _, err := conn.ReadMsgUnix(text, rights)
	if err != nil {
		return nil, err
	}
	if n == 0 {
		return nil, net.ErrClosed
	}
	var files []*os.File
	controls, err := unix.ParseSocketControlMessage(rights[:rightsN])
	if err != nil {
		return nil, err
	}
	for _, control := range controls {
		fds, err := unix.ParseUnixRights(&control)
		if err != nil {
			return nil, err
		}
		for _, fd := range fds {
			unix.CloseOnExec(fd)
			files = append(files, os.NewFile(uintptr(fd), "received"))
		}
	}
	if err := json.Unmarshal(text[:n], message); err != nil {
		closeAll(files)
		return nil, fmt.Errorf("decode message: %w", err)
	}
	return files, nil
}

func closeAll(files []*os.File) {
	for _, f := range files {
		f.Close()
	}
}
