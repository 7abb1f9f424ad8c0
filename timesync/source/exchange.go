package source

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"time"

	beevik "github.com/beevik/ntp"
	"github.com/beevik/nts"

	"shekara/timesync"
	"shekara/timesync/ntp"
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
	life     context.Context // key establishment ends with it
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
	query := func() (*beevik.Response, error) { return beevik.QueryWithOptions(e.source.Address, options) }
	switch {
	case e.source.NTS:
		if err := e.establish(); err != nil {
			return answer{}, err
		}
		options.Extensions = []beevik.Extension{sealed{}}
		query = func() (*beevik.Response, error) { return e.session.QueryWithOptions(&options) }
	case e.source.Key != 0:
		key, err := e.key()
		if err != nil {
			return answer{}, unusable{err}
		}
		a.key = key.String()
		options.Extensions = []beevik.Extension{keyed{key}}
	}
	response, err := safely(query)
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

// safely turns a panic into an error. BUG: beevik/ntp v1.6.0 panics on an answer whose precision or poll is -128, beevik/nts v0.3.0 on extension fields shorter than four
// bytes and on empty ciphertext: anybody on the way could end this process.
func safely(query func() (*beevik.Response, error)) (r *beevik.Response, err error) {
	defer func() {
		if p := recover(); p != nil {
			r, err = nil, fmt.Errorf("malformed answer: %v", p)
		}
	}()
	return query()
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

// sealed refuses an answer without an authenticator. BUG: beevik/nts v0.3.0 checks one that is there, and takes an answer that has none (RFC 8915 section 5.7 forbids that).
type sealed struct{}

const authenticatorField = 0x0404 // NTS Authenticator and Encrypted Extension Fields (RFC 8915 section 5.6)

func (sealed) ProcessQuery(*bytes.Buffer) error { return nil }

func (sealed) ProcessResponse(datagram []byte) error {
	var p ntp.Packet
	if err := p.Parse(datagram); err != nil {
		return err
	}
	for rest := p.Extensions; ; {
		field, after, ok := rest.Next()
		if !ok {
			return errors.New("the answer is not authenticated by NTS")
		}
		if field.Type == authenticatorField {
			return nil
		}
		rest = after
	}
}

// establish establishes keys where there are none.
func (e *exchanger) establish() error {
	if e.session != nil {
		return nil
	}
	config := &tls.Config{MinVersion: tls.VersionTLS13, ServerName: e.source.ServerName, Time: e.certTime}
	if e.source.CA != "" {
		text, err := os.ReadFile(e.source.CA)
		if err != nil {
			return unusable{err}
		}
		config.RootCAs = x509.NewCertPool()
		if !config.RootCAs.AppendCertsFromPEM(text) {
			return unusable{fmt.Errorf("read %s: there is no certificate (PEM) in it", e.source.CA)}
		}
	}
	session, err := nts.NewSessionWithOptions(e.source.Address, &nts.SessionOptions{TLSConfig: config, Dialer: func(network, address string, config *tls.Config) (*tls.Conn, error) {
		ctx, cancel := context.WithTimeout(e.life, keysWithin)
		defer cancel()
		conn, err := (&tls.Dialer{Config: config}).DialContext(ctx, network, address)
		if err != nil {
			return nil, err
		}
		return conn.(*tls.Conn), conn.SetDeadline(time.Now().Add(keysWithin)) // the records that follow are read without another bound
	}})
	e.session = session
	return err
}

func addressOf(a net.Addr) netip.Addr {
	if udp, ok := a.(*net.UDPAddr); ok {
		return udp.AddrPort().Addr().Unmap()
	}
	return netip.Addr{}
}
