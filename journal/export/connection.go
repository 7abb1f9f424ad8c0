package export

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"strconv"
	"sync"
	"time"

	"shekara/netctl/certificate"
	"shekara/netctl/socket"
)

const (
	openWithin = 15 * time.Second
	// stalledAfter is how long a collector may take nothing, or its kernel acknowledge nothing.
	stalledAfter = time.Minute
	chunkBytes   = 64 << 10
	// UDP has nothing that keeps a sender from being faster than the receiver reads.
	datagramsAtOnce = 100
	datagramPause   = 10 * time.Millisecond
)

// connection is an open way to a syslog collector.
type connection struct {
	sink   Sink
	conn   net.Conn
	tcp    *net.TCPConn // under conn; nil for UDP
	wrote  *counter     // what went through tcp; nil for UDP
	window window
	over   chan error // gets why the other end ended it
	hears  sync.WaitGroup
}

// counter counts the bytes that are written to a connection, TLS's own among them.
type counter struct {
	net.Conn
	bytes int64
}

func (c *counter) Write(p []byte) (int, error) {
	n, err := c.Conn.Write(p)
	c.bytes += int64(n)
	return n, err
}

func dial(ctx context.Context, s Sink) (*connection, error) {
	ctx, cancel := context.WithTimeout(ctx, openWithin)
	defer cancel()
	network := "tcp"
	if s.Protocol == SyslogUDP {
		network = "udp"
	}
	var config *tls.Config
	if s.Protocol == SyslogTLS {
		var err error
		if config, err = s.tlsConfig(); err != nil {
			return nil, err
		}
	}
	conn, err := (&net.Dialer{}).DialContext(ctx, network, s.Address)
	if err != nil {
		return nil, err
	}
	c := &connection{sink: s, conn: conn, over: make(chan error, 1)}
	if tcp, is := conn.(*net.TCPConn); is {
		c.tcp, c.wrote = tcp, &counter{Conn: tcp}
		c.conn = c.wrote
		if err := socket.GiveUpAfter(tcp, stalledAfter); err != nil {
			return nil, errors.Join(err, conn.Close())
		}
	}
	if config != nil {
		secured := tls.Client(c.conn, config)
		if err := secured.HandshakeContext(ctx); err != nil {
			return nil, errors.Join(fmt.Errorf("TLS with %s: %w", s.Address, err), conn.Close())
		}
		c.conn = secured
	}
	c.hears.Go(func() { c.over <- c.listen() })
	return c, nil
}

// listen returns when the other end has ended the connection. Nobody answers syslog; what comes is an end, a TLS alert (in TLS 1.3 also that our
// certificate is refused, after a handshake that succeeded) or an ICMP error.
func (c *connection) listen() error {
	if _, err := io.Copy(io.Discard, c.conn); err != nil {
		return err
	}
	return fmt.Errorf("%s closed the connection", c.sink.Address)
}

func (c *connection) ended() <-chan error { return c.over }

func (c *connection) close() error {
	err := c.conn.Close()
	c.hears.Wait()
	return err
}

// send writes the messages, each with its length before it (RFC 6587, section 3.4.1; RFC 5425, section 4.3), or in a datagram of its own.
func (c *connection) send(ctx context.Context, position uint64, records []record) error {
	stop := context.AfterFunc(ctx, func() { _ = c.conn.SetWriteDeadline(time.Now()) })
	defer stop()
	var chunk, one []byte
	begin := 0 // of the records in chunk
	for i, r := range records {
		one = message(one[:0], c.sink, r)
		if c.tcp == nil {
			if err := c.datagram(ctx, i, one); err != nil {
				return err
			}
			c.window.sent(r.event.Sequence, 1, 0)
			continue
		}
		chunk = append(append(strconv.AppendInt(chunk, int64(len(one)), 10), ' '), one...)
		if len(chunk) < chunkBytes && i < len(records)-1 {
			continue
		}
		if err := c.write(ctx, chunk); err != nil {
			return err
		}
		for _, r := range records[begin : i+1] {
			c.window.sent(r.event.Sequence, 1, c.written())
		}
		chunk, begin = chunk[:0], i+1
	}
	c.window.sent(position, 0, c.written())
	return nil
}

func (c *connection) write(ctx context.Context, data []byte) error {
	if err := c.conn.SetWriteDeadline(time.Now().Add(stalledAfter)); err != nil {
		return err
	}
	if ctx.Err() != nil {
		return ctx.Err()
	}
	_, err := c.conn.Write(data)
	return err
}

func (c *connection) datagram(ctx context.Context, n int, data []byte) error {
	if n%datagramsAtOnce == datagramsAtOnce-1 {
		select {
		case <-time.After(datagramPause):
		case <-ctx.Done():
		}
	}
	return c.write(ctx, data)
}

func (c *connection) written() int64 {
	if c.wrote == nil {
		return 0
	}
	return c.wrote.bytes
}

func (c *connection) settled(now time.Time) (delivered, held uint64) {
	acknowledged := c.written()
	if c.tcp != nil {
		waiting, err := socket.Unacknowledged(c.tcp)
		if err != nil {
			return 0, 0 // it is closed, which others will notice
		}
		acknowledged -= int64(waiting)
	}
	return c.window.settled(acknowledged, now), c.window.holds(acknowledged, now)
}

// tlsConfig reads the files: a certificate that was renewed counts from the next connection on.
func (s Sink) tlsConfig() (*tls.Config, error) {
	roots, err := certificate.Roots(s.CA)
	if err != nil {
		return nil, err
	}
	config := &tls.Config{MinVersion: tls.VersionTLS12, ServerName: s.ServerName, RootCAs: roots}
	if config.ServerName == "" {
		if config.ServerName, err = s.host(); err != nil {
			return nil, err
		}
	}
	pair, err := certificate.Files{Certificate: s.Certificate, Key: s.Key, Group: "shekara-export"}.Read()
	if err != nil {
		return nil, err
	}
	config.Certificates = []tls.Certificate{pair}
	return config, nil
}

func (s Sink) host() (string, error) {
	if s.URL != "" {
		to, err := url.Parse(s.URL)
		if err != nil {
			return "", err
		}
		return to.Hostname(), nil
	}
	host, _, err := net.SplitHostPort(s.Address)
	return host, err
}
