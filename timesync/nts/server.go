package nts

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"strconv"
	"sync"
	"time"

	"shekara/netctl/certificate"
	"shekara/netctl/socket"
	"shekara/timesync/ntp"
)

const (
	// Port is where keys are established (RFC 8915 section 7.1), by TCP.
	Port = 4460

	alpn          = "ntske/1"
	exporterLabel = "EXPORTER-network-time-security"

	maxMessage = 4096            // bytes of a client's message; chronyd's has 16, and any must be taken up to 1024 (RFC 8915 section 4)
	within     = 5 * time.Second // for all of a connection
	lingering  = time.Second     // for the client to close
	acceptWait = 100 * time.Millisecond
)

var (
	// ErrStranger is of a connection from somebody who is not admitted.
	ErrStranger = errors.New("not a registered system")
	// ErrTooMany is of a connection above the limits: of all, or of its address.
	ErrTooMany = errors.New("too many key establishments")
)

// Server establishes keys with clients (RFC 8915 section 4), where NTP is served. What it takes on is bounded: connections at once, of all and of each address, how often
// an address comes, bytes and time of each.
type Server struct {
	Addresses []netip.Addr // the box's own; they need not be there yet
	Port      uint16       // 0: 4460
	NTPPort   uint16       // of the same addresses; 0: 123
	Files     certificate.Files
	Keys      *Keys
	Admit     func(netip.Addr) bool // whether an address is that of a registered system
	// Done is told of each connection once it is over: nil when keys were established, ErrStranger, ErrTooMany, or what went wrong. Several goroutines call it.
	Done func(client netip.Addr, err error)
	Log  *slog.Logger
}

// serving is one Run of a Server.
type serving struct {
	*Server
	renewed *certificate.Renewed
	gate    gate
	clients sync.WaitGroup

	saying sync.Mutex
	said   string // what was last wrong with the certificate
}

// Run serves until ctx ends. It fails only if it cannot listen. A certificate that cannot be read is logged, and keys are established as soon as it can.
func (s *Server) Run(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	run := &serving{Server: s, renewed: certificate.Renew(s.Files), gate: newGate()}
	_, _ = run.certificate(nil) // said now, not to the first client
	var listeners []net.Listener
	defer func() {
		for _, l := range listeners {
			_ = l.Close()
		}
	}()
	port := s.Port
	if port == 0 {
		port = Port
	}
	for _, address := range s.Addresses {
		config := net.ListenConfig{Control: socket.Freebind}
		l, err := config.Listen(ctx, "tcp", netip.AddrPortFrom(address, port).String())
		if err != nil {
			return fmt.Errorf("establish keys of network time security: %w", err)
		}
		listeners = append(listeners, l)
	}
	stop := context.AfterFunc(ctx, func() {
		for _, l := range listeners {
			_ = l.Close()
		}
	})
	defer stop()
	var accepting sync.WaitGroup
	for _, l := range listeners {
		accepting.Go(func() { run.accept(ctx, l) })
	}
	accepting.Wait()
	<-ctx.Done() // with no address there is nothing to wait for but that
	run.clients.Wait()
	return nil
}

func (s *serving) accept(ctx context.Context, l net.Listener) {
	for {
		conn, err := l.Accept()
		if ctx.Err() != nil {
			if err == nil {
				_ = conn.Close()
			}
			return
		}
		if err != nil { // out of descriptors, most likely: others may give some back
			s.Log.Warn("accept to establish keys", "address", l.Addr().String(), "error", err)
			select {
			case <-time.After(acceptWait):
			case <-ctx.Done():
			}
			continue
		}
		client := conn.RemoteAddr().(*net.TCPAddr).AddrPort().Addr().Unmap()
		err = ErrStranger
		if s.Admit(client) {
			err = s.gate.enter(client)
		}
		if err != nil {
			_ = conn.Close()
			s.Done(client, err)
			continue
		}
		s.clients.Go(func() {
			err := s.serve(ctx, conn)
			s.gate.leave(client)
			s.Done(client, err)
		})
	}
}

// certificate is for the next connection. It logs what is wrong with it once.
func (s *serving) certificate(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	pair, err := s.renewed.Now()
	s.saying.Lock()
	defer s.saying.Unlock()
	switch {
	case err == nil:
		s.said = ""
	case err.Error() != s.said:
		s.said = err.Error()
		s.Log.Error("certificate of network time security", "error", err, "served", pair != nil)
	}
	if pair == nil {
		return nil, err
	}
	return pair, nil
}

// serve establishes keys over one connection, and closes it.
func (s *serving) serve(ctx context.Context, conn net.Conn) (err error) {
	defer func() { err = errors.Join(err, quiet(conn.Close())) }()
	ctx, cancel := context.WithTimeout(ctx, within)
	defer cancel()
	stop := context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Now()) })
	defer stop()
	secured := tls.Server(conn, &tls.Config{
		MinVersion: tls.VersionTLS13, NextProtos: []string{alpn}, GetCertificate: s.certificate,
		SessionTicketsDisabled: true, // a client comes once in days, and a ticket would be longer than the rest
	})
	if err := secured.HandshakeContext(ctx); err != nil {
		return fmt.Errorf("TLS: %w", err)
	}
	state := secured.ConnectionState()
	if state.NegotiatedProtocol != alpn { // a client that names no protocol gets through TLS
		return fmt.Errorf("the client does not ask for %s", alpn)
	}
	answer, refused := s.answer(secured, state)
	if _, err := secured.Write(answer); err != nil {
		return errors.Join(refused, fmt.Errorf("answer: %w", err))
	}
	// To close with something unread would reset the connection, and might take the answer from the client.
	_ = secured.CloseWrite()
	_ = conn.SetReadDeadline(time.Now().Add(lingering))
	_, _ = io.Copy(io.Discard, io.LimitReader(conn, maxMessage))
	return refused
}

// answer reads the client's message, and makes the server's. With an error, what was established is nothing; the answer says so.
func (s *serving) answer(secured *tls.Conn, state tls.ConnectionState) ([]byte, error) {
	o, err := readMessage(secured, maxMessage, parseOffer)
	if err != nil {
		f := badRequest
		errors.As(err, &f)
		return refuse(f), err
	}
	if !o.ntp || !o.siv {
		return accept(o, 0, nil), errors.New("the client has not NTPv4 with AES-SIV-CMAC-256")
	}
	c2s, s2c, err := export(state)
	if err != nil {
		return refuse(internalError), err
	}
	port := s.NTPPort
	if port == ntp.Port {
		port = 0 // as clients take for granted
	}
	return accept(o, port, s.Keys.cookies(c2s, s2c, maxCookies)), nil
}

// export is what TLS makes both ends' keys of (RFC 8915 section 5.1).
func export(state tls.ConnectionState) (c2s, s2c []byte, err error) {
	direction := func(d byte) []byte {
		key, failed := state.ExportKeyingMaterial(exporterLabel, []byte{0, protocolNTP, 0, aeadSIV, d}, keyLen)
		err = errors.Join(err, failed)
		return key
	}
	c2s, s2c = direction(0), direction(1)
	return c2s, s2c, err
}

// readMessage reads from conn until parse has a whole message.
func readMessage[T any](conn net.Conn, limit int, parse func([]byte) (T, error)) (T, error) {
	message := make([]byte, 0, 1024)
	for {
		if len(message) == cap(message) {
			message = append(make([]byte, 0, min(4*cap(message), limit)), message...)
		}
		n, err := conn.Read(message[len(message):cap(message)])
		message = message[:len(message)+n]
		parsed, partial := parse(message)
		if !errors.Is(partial, errPartial) {
			return parsed, partial
		}
		if err == nil && len(message) == limit {
			err = errors.New("above " + strconv.Itoa(limit) + " bytes")
		}
		if err != nil {
			return parsed, fmt.Errorf("%w after %d bytes: %w", partial, len(message), err)
		}
	}
}

func quiet(err error) error {
	if errors.Is(err, net.ErrClosed) {
		return nil
	}
	return err
}
