package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"github.com/nats-io/nats.go"
	"golang.org/x/sys/unix"
)

func fdatasync(file *os.File) error { return unix.Fdatasync(int(file.Fd())) }

// started is a program that runs beside us, on a port of loopback.
type started struct {
	command *exec.Cmd
	said    bytes.Buffer
}

func (s *started) stop() {
	if s.command != nil && s.command.Process != nil {
		_ = s.command.Process.Kill()
		_ = s.command.Wait()
	}
}

// freePort of loopback; somebody may take it before it is used.
func freePort() (int, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return 0, err
	}
	return l.Addr().(*net.TCPAddr).Port, l.Close()
}

// start runs a program until something listens on the port.
func (s *started) start(ctx context.Context, port int, argv ...string) error {
	s.command = exec.CommandContext(ctx, argv[0], argv[1:]...)
	s.command.Stdout, s.command.Stderr = &s.said, &s.said
	if err := s.command.Start(); err != nil {
		return err
	}
	for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		c, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", port))
		if err == nil {
			return c.Close()
		}
		if time.Now().After(deadline) {
			s.stop()
			return fmt.Errorf("%s does not listen: %w\n%s", argv[0], err, s.said.String())
		}
	}
}

// jetStream is a NATS server with one stream on disk, that has each message on disk before it acknowledges it.
type jetStream struct {
	started
	connection *nats.Conn
	stream     nats.JetStreamContext
}

func (b *bench) jetStream(ctx context.Context, dir string) (*jetStream, error) {
	port, err := freePort()
	if err != nil {
		return nil, err
	}
	configuration := filepath.Join(dir, "nats.conf")
	text := fmt.Sprintf("listen: 127.0.0.1:%d\njetstream { store_dir: %q, sync_interval: always }\n", port, filepath.Join(dir, "nats"))
	if err := os.WriteFile(configuration, []byte(text), 0o600); err != nil {
		return nil, err
	}
	p := &jetStream{}
	if err := p.start(ctx, port, b.natsServer, "-c", configuration); err != nil {
		return nil, fmt.Errorf("%w (hint: make bench AREA=journal installs it)", err)
	}
	if p.connection, err = nats.Connect(fmt.Sprintf("nats://127.0.0.1:%d", port)); err == nil {
		if p.stream, err = p.connection.JetStream(); err == nil {
			_, err = p.stream.AddStream(&nats.StreamConfig{Name: "events", Subjects: []string{"events"}, Storage: nats.FileStorage})
		}
	}
	if err != nil {
		p.stop()
		return nil, err
	}
	return p, nil
}

// publish returns when the message is acknowledged.
func (p *jetStream) publish(ctx context.Context, payload []byte) error {
	_, err := p.stream.Publish("events", payload, nats.Context(ctx))
	return err
}

func (p *jetStream) stop() {
	if p.connection != nil {
		p.connection.Close()
	}
	p.started.stop()
}

// syncedLog is rsyslog, which syncs its file after each batch and tells the sender nothing.
type syncedLog struct {
	started
	port int
	file string
}

func (b *bench) syncedLog(ctx context.Context, dir string) (*syncedLog, error) {
	port, err := freePort()
	if err != nil {
		return nil, err
	}
	l := &syncedLog{port: port, file: filepath.Join(dir, "syslog")}
	configuration := filepath.Join(dir, "rsyslog.conf")
	text := fmt.Sprintf(`global(workDirectory=%q)
module(load="imtcp")
input(type="imtcp" address="127.0.0.1" port="%d" ruleset="write")
ruleset(name="write") { action(type="omfile" file=%q sync="on" asyncWriting="off") }
`, dir, port, l.file)
	if err := os.WriteFile(configuration, []byte(text), 0o600); err != nil {
		return nil, err
	}
	return l, l.start(ctx, port, "rsyslogd", "-n", "-f", configuration, "-i", filepath.Join(dir, "rsyslog.pid"))
}

// rate sends for a while, waits until all is in the file, and says how many lines a second that were.
func (l *syncedLog) rate(ctx context.Context, payload []byte, during time.Duration) (float64, error) {
	written, err := os.OpenFile(l.file, os.O_CREATE|os.O_RDONLY, 0o600)
	if err != nil {
		return 0, err
	}
	defer written.Close()
	if _, err := written.Seek(0, io.SeekEnd); err != nil {
		return 0, err
	}
	c, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", l.port))
	if err != nil {
		return 0, err
	}
	defer c.Close()
	line := append(append([]byte("<134>1 2026-11-26T04:22:05Z bench shekara - - - "), payload...), '\n')
	sent, began := 0, time.Now()
	for time.Since(began) < during && ctx.Err() == nil {
		if _, err := c.Write(bytes.Repeat(line, producers)); err != nil {
			return 0, err
		}
		sent += producers
	}
	for lines := 0; lines < sent; time.Sleep(10 * time.Millisecond) {
		more, err := io.ReadAll(written)
		if err != nil {
			return 0, err
		}
		if lines += bytes.Count(more, []byte("\n")); time.Since(began) > during+time.Minute {
			return 0, fmt.Errorf("rsyslog wrote %d of %d lines", lines, sent)
		}
	}
	return float64(sent) / time.Since(began).Seconds(), ctx.Err()
}
