package export

import (
	"bytes"
	"cmp"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
)

const (
	// answeredWithin is how long a receiver may take for a request, its answer included.
	answeredWithin = time.Minute
	// bodyBytes is how much is in a request, but one record is always: many servers take no more than 1 MiB.
	bodyBytes = 512 << 10
	// answerBytes is how much of an answer is read, headerBytes of its header.
	answerBytes, headerBytes = 64 << 10, 16 << 10
	// longestLater bounds Retry-After: what somebody else says keeps nobody back for longer.
	longestLater = 10 * time.Minute
	userAgent    = "shekara-export"
)

// poster hands requests (POST) to a URL over TLS, one after another.
type poster struct {
	sink   Sink
	client *http.Client
}

// later is an error of somebody who said when to come again.
type later struct {
	error
	after time.Duration
}

// openPoster connects once to see whether it can, so that who cannot be reached is told at once and not with the next record. That connection is
// ended: a server may have closed it before there is a request for it.
func openPoster(ctx context.Context, s Sink) (*poster, error) {
	to, err := url.Parse(s.URL)
	if err != nil {
		return nil, err
	}
	address := net.JoinHostPort(to.Hostname(), cmp.Or(to.Port(), "443"))
	dial := func(ctx context.Context, _, _ string) (net.Conn, error) {
		ctx, cancel := context.WithTimeout(ctx, openWithin)
		defer cancel()
		config, err := s.tlsConfig()
		if err != nil {
			return nil, err
		}
		conn, err := (&tls.Dialer{Config: config}).DialContext(ctx, "tcp", address)
		if err != nil {
			return nil, fmt.Errorf("TLS with %s: %w", address, err)
		}
		return conn, nil
	}
	conn, err := dial(ctx, "", "")
	if err != nil {
		return nil, err
	}
	_ = conn.Close()
	return &poster{sink: s, client: &http.Client{
		// A redirect is an answer like any other that is not yes: records go where the document says.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		Transport: &http.Transport{DialTLSContext: dial, MaxConnsPerHost: 1, DisableCompression: true, MaxResponseHeaderBytes: headerBytes,
			IdleConnTimeout: 2 * time.Minute},
	}}, nil
}

// answer is what there is beside a yes.
type answer struct {
	contentType string
	body        []byte
}

// post gives the answer if it is yes. Both ends can be told that it is the same request again, so a connection that the other end
// has closed meanwhile is replaced without a word (net/http, Transport).
func (p *poster) post(ctx context.Context, header http.Header, body []byte) (answer, error) {
	ctx, cancel := context.WithTimeout(ctx, answeredWithin)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, p.sink.URL, bytes.NewReader(body))
	if err != nil {
		return answer{}, err
	}
	request.Header = header
	request.Header.Set("User-Agent", userAgent)
	response, err := p.client.Do(request)
	if err != nil {
		return answer{}, err
	}
	defer func() { _ = response.Body.Close() }()
	text, err := io.ReadAll(io.LimitReader(response.Body, answerBytes))
	if response.StatusCode/100 == 2 {
		return answer{response.Header.Get("Content-Type"), text}, err
	}
	_, phrase, _ := strings.Cut(response.Status, " ") // a server may write into it what it likes
	err = fmt.Errorf("POST to %s: %d %.100q: %.200q", p.sink.URL, response.StatusCode, phrase, bytes.TrimSpace(text))
	if after := retryAfter(response.Header.Get("Retry-After"), time.Now()); after > 0 {
		err = later{err, after}
	}
	return answer{}, err
}

// retryAfter reads the field of this name (RFC 9110, section 10.2.3); 0: it says nothing.
func retryAfter(field string, now time.Time) time.Duration {
	if seconds, err := strconv.ParseUint(field, 10, 31); err == nil {
		return min(time.Duration(seconds)*time.Second, longestLater)
	}
	if at, err := http.ParseTime(field); err == nil {
		return max(0, min(at.Sub(now), longestLater))
	}
	return 0
}

func (p *poster) ended() <-chan error { return nil }

func (p *poster) close() error {
	p.client.CloseIdleConnections()
	return nil
}
