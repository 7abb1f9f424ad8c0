package source

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"time"

	beevik "github.com/beevik/ntp"

	"shekara/netctl/certificate"
	"shekara/timesync"
	"shekara/timesync/ntp"
	"shekara/timesync/nts"
)

const (
	answerWithin = 2 * time.Second  // which also bounds the asymmetry that a sample can hide to a second
	keysWithin   = 5 * time.Second  // key establishment (RFC 8915 section 4), name resolution with it
	reading      = time.Microsecond // how well the kernel's clock is read
	keysLast     = 3                // exchanges in a row that fail, then keys are established anew

	kissDeny     = "DENY"
	kissRestrict = "RSTR"
	kissRate     = "RATE"
)

// answer is what a server said.
type answer struct {
	sample
	stratum     uint8
	leap        timesync.Leap
	referenceID uint32
	reference   time.Time // when it was set last, by itself
	precision   time.Duration
	version     int
	peer, local netip.Addr
	key         string // what authenticated it, "" for none or NTS
	kiss        string // of four characters; then it tells no time
	unserving   error  // why it is not good as a source, by its own word; nil: it is
}

// unusable is in the error of what no request can mend: the document or a file on this box must change.
type unusable struct{ error }

func (e unusable) Unwrap() error { return e.error }

func isUnusable(err error) bool {
	var u unusable
	return errors.As(err, &u)
}

// exchanger asks one server. It belongs to one goroutine.
type exchanger struct {
	source   timesync.Source
	keyFile  string
	certTime func() time.Time // what certificates are held against
	session  *nts.Session     // nil: no keys are established
	failed   int              // exchanges since the last that succeeded
}

// exchange is one request and its answer. An answer that does not prove itself as the source must is an error.
func (e *exchanger) exchange(ctx context.Context) (answer, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	a := answer{}
	options := beevik.QueryOptions{Timeout: answerWithin, Dialer: func(_, address string) (net.Conn, error) {
		resolve, cancel := context.WithTimeout(ctx, keysWithin)
		defer cancel()
		conn, err := (&net.Dialer{}).DialContext(resolve, "udp", address)
		if err != nil {
			return nil, err
		}
		context.AfterFunc(ctx, func() { conn.SetDeadline(time.Unix(1, 0)) })
		a.local, a.peer = addressOf(conn.LocalAddr()), addressOf(conn.RemoteAddr())
		return conn, nil
	}}
	address := e.source.Address
	switch {
	case e.source.NTS:
		if err := e.establish(ctx); err != nil {
			return answer{}, err
		}
		address, options.Extensions = e.session.Server, []beevik.Extension{sealed{e.session}}
	case e.source.Key != 0:
		key, err := e.key()
		if err != nil {
			return answer{}, unusable{err}
		}
		a.key = key.String()
		options.Extensions = []beevik.Extension{keyed{key}}
	}
	response, err := safely(address, options)
	if e.failed++; err == nil {
		e.failed = 0
		a.take(response, time.Now())
	} else if e.failed >= keysLast {
		e.session, e.failed = nil, 0
	}
	return a, err
}

func (a *answer) take(r *beevik.Response, now time.Time) {
	span := r.Timestamps.ClientRecv.Sub(r.Timestamps.ClientXmit)
	a.sample = sample{offset: r.ClockOffset, delay: r.RTT, at: now, rootDelay: r.RootDelay, rootDispersion: r.RootDispersion,
		dispersion: min(max(r.Precision, 0), time.Second) + reading + grown(span, timesync.Tolerance)}
	a.stratum, a.leap, a.referenceID, a.reference = r.Stratum, timesync.Leap(r.Leap), r.ReferenceID, r.ReferenceTime
	a.precision, a.version, a.kiss = r.Precision, r.Version, r.KissCode
	a.unserving = r.Validate()
	if r.Stratum == 0 && a.kiss != "" {
		a.unserving = fmt.Errorf("kiss-o'-death %q", a.kiss)
	} else if r.Leap == beevik.LeapNotInSync || r.Stratum == 0 || r.Stratum >= timesync.MaxStratum {
		a.unserving = fmt.Errorf("it says that it is not synchronised (leap %d, stratum %d)", r.Leap, r.Stratum)
	}
}

// safely turns a panic into an error. BUG: beevik/ntp v1.6.0 panics on an answer whose precision or poll is -128, so that anybody on the way could end this process.
func safely(address string, options beevik.QueryOptions) (r *beevik.Response, err error) {
	defer func() {
		if p := recover(); p != nil {
			r, err = nil, fmt.Errorf("malformed answer: %v", p)
		}
	}()
	return beevik.QueryWithOptions(address, options)
}

func (e *exchanger) key() (*ntp.Key, error) {
	keys, err := ntp.ReadKeys(e.keyFile)
	if err != nil {
		return nil, err
	}
	return keys.Find(e.source.Key)
}

// keyed authenticates with a symmetric key (RFC 8573).
type keyed struct{ key *ntp.Key }

func (k keyed) ProcessQuery(b *bytes.Buffer) error {
	_, err := b.Write(k.key.AppendMAC(bytes.Clone(b.Bytes()))[b.Len():])
	return err
}

func (k keyed) ProcessResponse(datagram []byte) error {
	var p ntp.Packet
	if err := p.Parse(datagram); err != nil {
		return err
	}
	if !k.key.Verify(datagram[:len(datagram)-len(p.MAC)], p.MAC) {
		return fmt.Errorf("the answer is not authenticated by %s: both sides must have the same key under the same number", k.key)
	}
	return nil
}

// sealed authenticates by NTS (RFC 8915 section 5).
type sealed struct{ session *nts.Session }

func (s sealed) ProcessQuery(b *bytes.Buffer) error {
	request, err := s.session.Seal(bytes.Clone(b.Bytes()))
	if err != nil {
		return err
	}
	_, err = b.Write(request[b.Len():])
	return err
}

func (s sealed) ProcessResponse(datagram []byte) error { return s.session.Open(datagram) }

// establish establishes keys where there are none, or no cookie is left.
func (e *exchanger) establish(ctx context.Context) error {
	if e.session != nil && e.session.Cookies() > 0 {
		return nil
	}
	config := &tls.Config{ServerName: e.source.ServerName, Time: e.certTime}
	if e.source.CA != "" {
		var err error
		if config.RootCAs, err = certificate.Roots(e.source.CA); err != nil {
			return unusable{err}
		}
	}
	ctx, cancel := context.WithTimeout(ctx, keysWithin)
	defer cancel()
	var err error
	e.session, err = nts.Establish(ctx, tls.Dialer{Config: config}, e.source.Address)
	return err
}

func addressOf(a net.Addr) netip.Addr {
	if udp, ok := a.(*net.UDPAddr); ok {
		return udp.AddrPort().Addr().Unmap()
	}
	return netip.Addr{}
}
