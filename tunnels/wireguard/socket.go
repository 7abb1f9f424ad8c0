package wireguard

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"time"

	"shekara/tunnels"
	"shekara/tunnels/wireguard/dataplane"
)

// answerWithin bounds how long a userspace device may take over one request, so that a hung one holds up nobody for ever.
const answerWithin = 20 * time.Second

// session is one connection to a device's configuration socket. After an error it is of no more use.
type session struct {
	connection net.Conn
	answers    *bufio.Reader
	stop       func() bool // of the watch over the context
}

// dial connects. The error is fs.ErrNotExist or ECONNREFUSED if nobody serves the device.
func dial(ctx context.Context, device string) (*session, error) {
	var d net.Dialer
	connection, err := d.DialContext(ctx, "unix", dataplane.SocketPath(device))
	if err != nil {
		return nil, fmt.Errorf("open socket of %s: %w", device, err)
	}
	s := &session{connection: connection, answers: bufio.NewReader(connection)}
	s.stop = context.AfterFunc(ctx, func() { _ = connection.SetDeadline(time.Unix(1, 0)) })
	return s, nil
}

func (s *session) close() {
	s.stop()
	_ = s.connection.Close()
}

func (s *session) extend() error { return s.connection.SetDeadline(time.Now().Add(answerWithin)) }

// set sends one request and wipes it. The error is a refusal if the device understood and said no.
func (s *session) set(r *request) error {
	defer r.wipe()
	if err := s.extend(); err != nil {
		return err
	}
	r.text = append(r.text, '\n')
	// Written beside reading: a device that refuses a line answers before it has read all, and need not read on.
	written := make(chan error, 1)
	go func() {
		_, err := s.connection.Write(r.text)
		written <- err
	}()
	err := s.readErrno()
	if err != nil {
		_ = s.connection.SetWriteDeadline(time.Unix(1, 0)) // what is left will not be read
	}
	if writeErr := <-written; err == nil {
		err = writeErr
	}
	return err
}

func (s *session) readErrno() error {
	var errno int64
	seen := false
	for range 4 {
		line, err := s.answers.ReadString('\n')
		if err != nil {
			return fmt.Errorf("read answer: %w", err)
		}
		line = strings.TrimSuffix(line, "\n")
		if line == "" && seen {
			if errno != 0 {
				return refusal{errno}
			}
			return nil
		}
		value, ok := strings.CutPrefix(line, "errno=")
		if !ok {
			break
		}
		if errno, err = strconv.ParseInt(value, 10, 64); err != nil {
			break
		}
		seen = true
	}
	return errors.New("read answer: not an errno")
}

// get reads the whole device.
func (s *session) get() (tunnels.DeviceState, error) {
	if err := s.extend(); err != nil {
		return tunnels.DeviceState{}, err
	}
	if _, err := io.WriteString(s.connection, "get=1\n\n"); err != nil {
		return tunnels.DeviceState{}, fmt.Errorf("ask device: %w", err)
	}
	return readState(s.answers)
}

// awaitEnd waits until the serving process has closed the connection, which it does by ending.
func (s *session) awaitEnd(within time.Duration) error {
	if err := s.connection.SetDeadline(time.Now().Add(within)); err != nil {
		return err
	}
	if _, err := s.answers.ReadByte(); isTimeout(err) {
		return err
	}
	return nil
}

func isTimeout(err error) bool {
	var t net.Error
	return errors.As(err, &t) && t.Timeout()
}
