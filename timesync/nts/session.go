package nts

import (
	"context"
	"crypto/rand"
	"crypto/subtle"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"strconv"
	"time"

	"shekara/timesync/ntp"
)

const (
	maxAnswer    = 64 << 10 // bytes of a server's message
	maxCookieLen = 1024
	answerWithin = 10 * time.Second
)

var (
	// ErrNAK is of an answer by which the server says that it does not know the cookie: establish keys anew. Nothing authenticates it.
	ErrNAK = errors.New("the server does not know the cookie (NTSN)")
	// ErrForged is of an answer that is not of the server, or not to this request.
	ErrForged = errors.New("the answer is not authenticated")
	// ErrNoCookie is of a session that has used up its cookies.
	ErrNoCookie = errors.New("no cookies left")
)

// Session is a client's end: what one key establishment gave. One goroutine may use it.
type Session struct {
	Server   string // host and port where NTP is served
	c2s, s2c *siv
	cookies  [][]byte
	uniqueID []byte // of the request last sealed
	scratch  scratch
}

// Establish establishes keys with a server, at host and port. Of the dialer's Config, RootCAs and ServerName count; without them it is the host's authorities, and the host's name.
func Establish(ctx context.Context, dialer tls.Dialer, address string) (*Session, error) {
	ctx, cancel := context.WithTimeout(ctx, answerWithin)
	defer cancel()
	if dialer.Config == nil {
		dialer.Config = &tls.Config{}
	}
	dialer.Config = dialer.Config.Clone()
	dialer.Config.MinVersion, dialer.Config.NextProtos = tls.VersionTLS13, []string{alpn}
	conn, err := dialer.DialContext(ctx, "tcp", address)
	if err != nil {
		return nil, fmt.Errorf("establish keys with %s: %w", address, err)
	}
	defer conn.Close()
	stop := context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Now()) })
	defer stop()
	secured := conn.(*tls.Conn)
	s, err := establish(secured)
	if err != nil {
		return nil, fmt.Errorf("establish keys with %s: %w", address, err)
	}
	return s, nil
}

func establish(secured *tls.Conn) (*Session, error) {
	state := secured.ConnectionState()
	if state.NegotiatedProtocol != alpn {
		return nil, fmt.Errorf("the server does not speak %s", alpn)
	}
	request := appendRecord(nil, critical|recordProtocol, 0, protocolNTP)
	request = appendRecord(appendRecord(request, critical|recordAEAD, 0, aeadSIV), critical|recordEnd)
	if _, err := secured.Write(request); err != nil {
		return nil, err
	}
	a, err := readMessage(secured, maxAnswer, parseAgreement)
	if err != nil {
		return nil, err
	}
	c2s, s2c, err := export(state)
	if err != nil {
		return nil, err
	}
	if a.server == "" {
		if a.server, _, err = net.SplitHostPort(secured.RemoteAddr().String()); err != nil {
			return nil, err
		}
	}
	if a.port == 0 {
		a.port = ntp.Port
	}
	return &Session{
		Server: net.JoinHostPort(a.server, strconv.Itoa(int(a.port))), cookies: a.cookies,
		c2s: newSIV((*[keyLen]byte)(c2s)), s2c: newSIV((*[keyLen]byte)(s2c)),
	}, nil
}

// Cookies are how many requests can be made before an answer must bring new ones.
func (s *Session) Cookies() int { return len(s.cookies) }

// Seal authenticates a request, whose 48 bytes of header are in request. It takes a cookie, and asks for so many that there are eight again. The error is ErrNoCookie.
func (s *Session) Seal(request []byte) ([]byte, error) {
	if len(s.cookies) == 0 {
		return nil, ErrNoCookie
	}
	cookie := s.cookies[0]
	s.cookies = s.cookies[1:]
	s.uniqueID = make([]byte, minUniqueID)
	_, _ = rand.Read(s.uniqueID)
	request = ntp.AppendField(request[:ntp.HeaderLen], fieldUniqueID, s.uniqueID, 0)
	request = ntp.AppendField(request, fieldCookie, cookie, 0)
	for range maxCookies - 1 - len(s.cookies) {
		request = ntp.AppendField(request, fieldPlaceholder, make([]byte, len(cookie)), 0)
	}
	head := len(request)
	nonce := s.scratch.random[:nonceLen]
	_, _ = rand.Read(nonce)
	request = appendAuthenticator(request, nonce, 0)
	s.c2s.seal(&s.scratch, nonce, request[:head], request[len(request)-tagLen:])
	return request, nil
}

// Open checks the answer to the request last sealed, and keeps the cookies that it brings. The error is ErrNAK or ErrForged.
func (s *Session) Open(answer []byte) error {
	var f fields
	err := f.find(answer)
	if subtle.ConstantTimeCompare(f.uniqueID.Value, s.uniqueID) != 1 || len(s.uniqueID) == 0 {
		return ErrForged
	}
	if err != nil {
		var h ntp.Header
		if h.Decode(answer) == nil && h.Stratum == 0 && h.ReferenceID == ntp.KissNTSN {
			return ErrNAK
		}
		return ErrForged
	}
	nonce, sealed, ok := authenticator(f.authenticator.Value)
	if !ok {
		return ErrForged
	}
	opened := make([]byte, len(sealed)-tagLen)
	if !s.s2c.open(&s.scratch, nonce, answer[:f.head], opened, sealed) {
		return ErrForged
	}
	s.uniqueID = nil
	for len(opened) >= headerLen && len(s.cookies) < maxCookies {
		length := int(binary.BigEndian.Uint16(opened[2:]))
		if length < headerLen || length > len(opened) {
			break
		}
		if binary.BigEndian.Uint16(opened) == fieldCookie && length > headerLen {
			s.cookies = append(s.cookies, opened[headerLen:length:length])
		}
		opened = opened[length:]
	}
	return nil
}
