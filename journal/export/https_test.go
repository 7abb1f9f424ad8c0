package export

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/sha512"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"io"
	"math/big"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"shekara/journal"
	"shekara/journal/export/cursor"
	"shekara/netctl/certificate/certificatetest"
)

// receiver is a centre that takes batches by HTTPS, when it is in the mood for it.
type receiver struct {
	t      *testing.T
	url    string
	mood   func(n int) mood // of the request of this number
	mu     sync.Mutex
	count  int                 // of requests
	lines  [][]byte            // of records, each once
	ends   map[uint64]struct{} // of batches that it has
	again  int                 // records that came again
	bodies int                 // largest
}

// mood is what becomes of a request.
type mood struct {
	status int           // 0: it is taken
	later  string        // Retry-After
	after  time.Duration // before the answer
	cut    bool          // the connection is ended instead of an answer
	untold bool          // and the batch is taken all the same
	long   bool          // the answer does not end
	phrase string        // beside status, as it is, instead of what belongs there
}

func receives(t *testing.T, of *certificatetest.Authority, in func(n int) mood) *receiver {
	t.Helper()
	r := &receiver{t: t, mood: in, ends: map[uint64]struct{}{}}
	r.url = servesTLS(t, of, r)
	return r
}

// servesTLS has requests served over TLS, with certificates both ways.
func servesTLS(t *testing.T, of *certificatetest.Authority, by http.Handler) (url string) {
	t.Helper()
	certificate, key := of.Leaf("soc.example.org")
	pair, err := tls.LoadX509KeyPair(certificate, key)
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewUnstartedServer(by)
	server.TLS = &tls.Config{Certificates: []tls.Certificate{pair}, ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: of.Pool()}
	server.StartTLS()
	t.Cleanup(server.Close)
	return server.URL + "/journal"
}

func (r *receiver) sink(of *certificatetest.Authority, name string) Sink {
	s := Sink{Name: "soc", Site: "owner", Protocol: HTTPS, URL: r.url, ServerName: "soc.example.org", CA: of.File()}
	s.Certificate, s.Key = of.Leaf(name)
	return s
}

func (r *receiver) ServeHTTP(w http.ResponseWriter, q *http.Request) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.count++
	m := r.mood(r.count)
	body, err := io.ReadAll(q.Body)
	if err != nil {
		r.t.Error(err)
	}
	if q.Method != http.MethodPost || q.URL.Path != "/journal" {
		r.t.Errorf("%s %s", q.Method, q.URL)
	}
	if m.status == 0 && (!m.cut || m.untold) {
		r.take(q, body)
	}
	time.Sleep(m.after)
	switch {
	case m.cut:
		conn, _, err := w.(http.Hijacker).Hijack()
		if err != nil {
			r.t.Error(err)
			return
		}
		conn.Close()
	case m.phrase != "":
		conn, _, err := w.(http.Hijacker).Hijack()
		if err != nil {
			r.t.Error(err)
			return
		}
		_, _ = fmt.Fprintf(conn, "HTTP/1.1 %d %s\r\nContent-Length: 0\r\n\r\n", m.status, m.phrase)
		conn.Close()
	case m.status != 0:
		if m.later != "" {
			w.Header().Set("Retry-After", m.later)
		}
		http.Error(w, "not now", m.status)
	case m.long:
		_, _ = w.Write(make([]byte, 1<<20))
	default:
		w.WriteHeader(http.StatusNoContent)
	}
}

var batchID = regexp.MustCompile(`^"owner/([0-9]+)-([0-9]+)"$`)

// take holds a batch to what is promised of it.
func (r *receiver) take(q *http.Request, body []byte) {
	if err := checkBatch(q.Header, body, q.TLS.PeerCertificates[0]); err != nil {
		r.t.Error(err)
	}
	id := batchID.FindStringSubmatch(q.Header.Get("Idempotency-Key"))
	if id == nil {
		r.t.Errorf("batch %q", q.Header.Get("Idempotency-Key"))
		return
	}
	first, _ := strconv.ParseUint(id[1], 10, 64)
	last, _ := strconv.ParseUint(id[2], 10, 64)
	if _, follows := r.ends[first-1]; !follows && first != 1 {
		r.t.Errorf("batch %s follows none", id[0])
	}
	r.ends[last] = struct{}{}
	r.bodies = max(r.bodies, len(body))
	for line := range bytes.Lines(body) {
		line = bytes.TrimSuffix(line, []byte("\n"))
		e, err := journal.ParseLine(line)
		if err != nil || e.Sequence < first || e.Sequence > last {
			r.t.Errorf("%v: record %d in batch %s", err, e.Sequence, id[0])
		}
		newest := uint64(0)
		if n := len(r.lines); n > 0 {
			before, _ := journal.ParseLine(r.lines[n-1])
			newest = before.Sequence
		}
		if e.Sequence <= newest {
			r.again++
			continue
		}
		r.lines = append(r.lines, line)
	}
}

func (r *receiver) text() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return string(bytes.Join(r.lines, []byte("\n")))
}

// checkBatch checks a batch's signature as RFC 9421 and RFC 9530 have it.
func checkBatch(header http.Header, body []byte, by *x509.Certificate) error {
	digest := sha256.Sum256(body)
	if want := "sha-256=:" + base64.StdEncoding.EncodeToString(digest[:]) + ":"; header.Get("Content-Digest") != want {
		return fmt.Errorf("digest %s, want %s", header.Get("Content-Digest"), want)
	}
	input := regexp.MustCompile(`^journal=(\(([^)]*)\);created=[0-9]+;keyid="([0-9a-f]{64})";alg="([a-z0-9-]+)";tag="shekara-journal")$`).FindStringSubmatch(header.Get("Signature-Input"))
	encoded := regexp.MustCompile(`^journal=:([^:]+):$`).FindStringSubmatch(header.Get("Signature"))
	if input == nil || encoded == nil {
		return fmt.Errorf("signature %q of %q", header.Get("Signature"), header.Get("Signature-Input"))
	}
	if key := sha256.Sum256(by.Raw); input[3] != hex.EncodeToString(key[:]) {
		return fmt.Errorf("keyid %s is not the certificate's", input[3])
	}
	text := ""
	for _, name := range strings.Fields(input[2]) {
		name = strings.Trim(name, `"`)
		text += fmt.Sprintf("%q: %s\n", name, header.Get(name))
	}
	text += `"@signature-params": ` + input[1]
	signature, err := base64.StdEncoding.DecodeString(encoded[1])
	if err != nil {
		return err
	}
	good := false
	switch key := by.PublicKey.(type) {
	case *ecdsa.PublicKey:
		sum, half := sha256.Sum256([]byte(text)), len(signature)/2
		hash := sum[:]
		if input[4] == "ecdsa-p384-sha384" {
			long := sha512.Sum384([]byte(text))
			hash = long[:]
		}
		good = half == (key.Params().BitSize+7)/8 && ecdsa.Verify(key, hash, new(big.Int).SetBytes(signature[:half]), new(big.Int).SetBytes(signature[half:]))
	case ed25519.PublicKey:
		good = input[4] == "ed25519" && ed25519.Verify(key, []byte(text), signature)
	case *rsa.PublicKey:
		sum := sha512.Sum512([]byte(text))
		good = input[4] == "rsa-pss-sha512" && rsa.VerifyPSS(key, crypto.SHA512, sum[:], signature, &rsa.PSSOptions{SaltLength: 64}) == nil
	}
	if !good {
		return fmt.Errorf("the signature (%s) is not of %s", input[4], text)
	}
	return nil
}

// TestBatchesAreSigned by every sort of key, and what is changed of one is found.
func TestBatchesAreSigned(t *testing.T) {
	p256, _ := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	p384, _ := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	p521, _ := ecdsa.GenerateKey(elliptic.P521(), rand.Reader)
	_, edwards, _ := ed25519.GenerateKey(rand.Reader)
	prime, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	for _, key := range []crypto.Signer{p256, p384, edwards, prime} {
		template := &x509.Certificate{SerialNumber: big.NewInt(1)}
		raw, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
		if err != nil {
			t.Fatal(err)
		}
		by, err := x509.ParseCertificate(raw)
		if err != nil {
			t.Fatal(err)
		}
		header, err := signedHeader("owner/1-2", []byte("{}\n"), tls.Certificate{Certificate: [][]byte{raw}, PrivateKey: key}, time.Now())
		if err != nil {
			t.Fatal(err)
		}
		if err := checkBatch(header, []byte("{}\n"), by); err != nil {
			t.Errorf("%T: %v", key, err)
		}
		if err := checkBatch(header, []byte("[]\n"), by); err == nil {
			t.Errorf("%T: another body passes", key)
		}
		header.Set("Idempotency-Key", `"owner/1-3"`)
		if err := checkBatch(header, []byte("{}\n"), by); err == nil {
			t.Errorf("%T: another range passes", key)
		}
	}
	if _, err := signedHeader("owner/1-2", nil, tls.Certificate{Certificate: [][]byte{{}}, PrivateKey: p521}, time.Now()); err == nil {
		t.Error("P-521, which RFC 9421 has no name for, signs")
	}
}

// TestHTTPSHasEveryRecord: a receiver that breaks off, refuses, is slow and does not end its answers gets every record, in order; what it got twice it knows.
func TestHTTPSHasEveryRecord(t *testing.T) {
	of := certificatetest.New(t, "authority")
	r := receives(t, of, func(n int) mood {
		switch n {
		case 2:
			return mood{cut: true}
		case 4:
			return mood{cut: true, untold: true}
		case 5:
			return mood{status: http.StatusInternalServerError}
		case 6:
			return mood{status: http.StatusTooManyRequests, later: "1"}
		case 7:
			return mood{after: 300 * time.Millisecond}
		case 8:
			return mood{long: true}
		}
		return mood{}
	})
	l := newLocal(t)
	l.long = 300
	l.set(r.sink(of, "owner"))
	dir := t.TempDir()
	end := runs(t, l, dir)
	all := func() bool {
		s, err := cursor.Read(dir, "soc")
		return err == nil && s.Delivered == l.Journal.Last() && s.Error == ""
	}
	for range 4 {
		l.record(3000, journal.DriftFind)
		await(t, "all records", all)
	}
	end()
	// A cursor that is behind, as a kill leaves it.
	s, err := cursor.Read(dir, "soc")
	if err != nil {
		t.Fatal(err)
	}
	for end := range r.ends {
		if end < s.Delivered-500 {
			s.Delivered, s.Sent = end, end
			break
		}
	}
	if err := s.Write(dir, "soc"); err != nil {
		t.Fatal(err)
	}
	l.record(100, journal.DriftFind)
	end = runs(t, l, dir)
	await(t, "all after the exporter was ended", all)
	end()
	var want [][]byte
	for after := uint64(0); after < l.Journal.Last(); after = uint64(len(want)) {
		lines, err := l.Journal.Lines(t.Context(), after, 1000)
		if err != nil {
			t.Fatal(err)
		}
		want = append(want, lines...)
	}
	if r.text() != string(bytes.Join(want, []byte("\n"))) {
		t.Errorf("%d records came, not the journal's %d", len(r.lines), len(want))
	}
	if r.again == 0 || r.bodies > bodyBytes+1000 || r.bodies < bodyBytes/2 {
		t.Errorf("%d records came again, and the largest body had %d bytes", r.again, r.bodies)
	}
}

// TestBatchesOfAFilterLeaveNoGap: of some records a receiver sees by the batches that none is missing, also after the exporter was ended. The receiver checks that.
func TestBatchesOfAFilterLeaveNoGap(t *testing.T) {
	of := certificatetest.New(t, "authority")
	r := receives(t, of, func(int) mood { return mood{} })
	l := newLocal(t)
	sink := r.sink(of, "owner")
	sink.Filter = journal.Filter{Types: []journal.Type{journal.TunnelState}}
	l.set(sink)
	dir := t.TempDir()
	for n := 1; n <= 3; n++ {
		end := runs(t, l, dir)
		l.record(20, journal.TunnelState)
		l.record(20, journal.DriftFind)
		await(t, "all", func() bool {
			r.mu.Lock()
			defer r.mu.Unlock()
			s, err := cursor.Read(dir, "soc")
			return err == nil && len(r.lines) == 20*n && s.Sent == l.Journal.Last()
		})
		end()
	}
	if r.again > 0 {
		t.Errorf("%d records came again", r.again)
	}
}

func TestHTTPSIsRefused(t *testing.T) {
	of, theirs := certificatetest.New(t, "ours"), certificatetest.New(t, "theirs")
	r := receives(t, of, func(int) mood { return mood{} })
	elsewhere := receives(t, of, func(int) mood { return mood{status: http.StatusFound} })
	well := r.sink(of, "owner")
	stranger, other, moved := well, well, well
	stranger.Certificate, stranger.Key = theirs.Leaf("owner")
	other.ServerName = "elsewhere.example.org"
	moved.URL = elsewhere.url
	l := newLocal(t)
	l.record(1, journal.DriftFind)
	lines, err := l.Journal.Lines(t.Context(), 0, 1)
	if err != nil {
		t.Fatal(err)
	}
	e, err := journal.ParseLine(lines[0])
	if err != nil {
		t.Fatal(err)
	}
	send := func(s Sink) error {
		b, err := openBatches(t.Context(), s, 0)
		if err != nil {
			return err
		}
		defer b.close()
		return b.send(t.Context(), 1, []record{{e, lines[0]}})
	}
	for want, s := range map[string]Sink{refusedByTLS: stranger, "elsewhere.example.org": other, `302 "Found"`: moved} {
		if err := send(s); err == nil || !regexp.MustCompile(want).MatchString(err.Error()) {
			t.Errorf("%v, want an error with %q", err, want)
		}
	}
	if len(r.lines) > 0 {
		t.Errorf("%d records came that must not", len(r.lines))
	}
	// The control: who is who he should be gets through.
	if err := send(well); err != nil || len(r.lines) != 1 {
		t.Errorf("%d records, %v", len(r.lines), err)
	}
}

func TestRetryAfter(t *testing.T) {
	now := time.Date(2026, 11, 26, 4, 5, 6, 0, time.UTC)
	for field, want := range map[string]time.Duration{"": 0, "7": 7 * time.Second, "-1": 0, "x": 0, "99999999999999999999": 0, "2000000000": longestLater,
		"Thu, 26 Nov 2026 04:05:16 GMT": 10 * time.Second, "Thu, 26 Nov 2026 04:05:00 GMT": 0, "Fri, 27 Nov 2026 04:05:00 GMT": longestLater} {
		if got := retryAfter(field, now); got != want {
			t.Errorf("%q is %s, want %s", field, got, want)
		}
	}
}

func TestACarrierComesWhenItIsTold(t *testing.T) {
	of := certificatetest.New(t, "authority")
	r := receives(t, of, func(n int) mood {
		if n == 1 {
			return mood{status: http.StatusServiceUnavailable, later: "600"}
		}
		return mood{}
	})
	l := newLocal(t)
	l.record(1, journal.DriftFind)
	l.set(r.sink(of, "owner"))
	dir := t.TempDir()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	end := runs(t, l, dir)
	await(t, "a word that it said no", func() bool { s, _ := cursor.Read(dir, "soc"); return strings.Contains(s.Error, "503") })
	pause(ctx, 3*firstPause)
	end()
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.count != 1 {
		t.Errorf("%d requests, though the receiver said when to come again", r.count)
	}
}

// TestWordsOfAReceiverAreQuoted: what it answers goes to people's terminals.
func TestWordsOfAReceiverAreQuoted(t *testing.T) {
	of := certificatetest.New(t, "authority")
	r := receives(t, of, func(int) mood {
		return mood{status: http.StatusServiceUnavailable, phrase: "\x1b[2J" + strings.Repeat("x", 1000)}
	})
	p, err := openPoster(t.Context(), r.sink(of, "owner"))
	if err != nil {
		t.Fatal(err)
	}
	defer p.close()
	_, err = p.post(t.Context(), http.Header{}, nil)
	if want := `503 "\x1b[2J` + strings.Repeat("x", 96) + `": `; err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("%q, want %s", err, want)
	}
}

func FuzzRetryAfter(f *testing.F) {
	f.Add("120")
	f.Add("Thu, 26 Nov 2026 04:05:16 GMT")
	f.Fuzz(func(t *testing.T, field string) {
		if after := retryAfter(field, time.Unix(1700000000, 0)); after < 0 || after > longestLater {
			t.Errorf("%q is %s", field, after)
		}
	})
}

// TestNoBatchClaimsWhatTheJournalLacks: where a record is damaged a batch ends before it, and the next begins behind it, also with a filter; the journal says so once, whoever reads.
func TestNoBatchClaimsWhatTheJournalLacks(t *testing.T) {
	of := certificatetest.New(t, "authority")
	folder := t.TempDir()
	j, err := journal.Open(folder, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer j.Close()
	l := &local{Journal: j, t: t}
	l.record(300, journal.DriftFind)
	names, err := filepath.Glob(filepath.Join(folder, "*.jsonl"))
	if err != nil || len(names) != 1 {
		t.Fatal(names, err)
	}
	text, err := os.ReadFile(names[0])
	if err != nil {
		t.Fatal(err)
	}
	file, err := os.OpenFile(names[0], os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	for _, sequence := range []string{"100", "101", "200"} {
		if _, err := file.WriteAt([]byte("x"), int64(bytes.Index(text, []byte(`{"sequence":`+sequence+`,`))+30)); err != nil {
			t.Fatal(err)
		}
	}
	var all, some batchLog
	allAt, someAt := servesTLS(t, of, &all), servesTLS(t, of, &some)
	sink := func(name, url string) Sink {
		s := Sink{Name: name, Site: "owner", Protocol: HTTPS, URL: url, ServerName: "soc.example.org", CA: of.File()}
		s.Certificate, s.Key = of.Leaf("owner")
		return s
	}
	filtered := sink("some", someAt)
	filtered.Filter = journal.Filter{Text: "event 7"}
	l.set(sink("all", allAt), filtered)
	dir := t.TempDir()
	end, log := runsLogged(t, l, dir)
	for _, name := range []string{"all", "some"} {
		await(t, name, func() bool {
			s, _ := cursor.Read(dir, name)
			return s.Sent >= 300 && s.Delivered >= 200 && s.Error == ""
		})
	}
	end()
	if got := all.ranges(); len(got) < 3 || got[0] != [2]uint64{1, 99} || got[1] != [2]uint64{102, 199} || got[2][0] != 201 {
		t.Errorf("batches of all are %v", got)
	}
	for _, r := range some.ranges() {
		for _, lacking := range []uint64{100, 101, 200} {
			if r[0] <= lacking && lacking <= r[1] {
				t.Errorf("a batch of some claims %v, and the journal lacks record %d", r, lacking)
			}
		}
	}
	if n := strings.Count(log.String(), "missing="); n != 4 {
		t.Errorf("the log says %d times what is missing, want twice for each sink:\n%s", n, log.String())
	}
	j.Settle()
	await(t, "a record of it", func() bool { return len(damage(t, j)) > 0 })
	if said := damage(t, j); len(said) != 1 || said[0].Fields["first"] != "100" || said[0].Fields["last"] != "101" {
		t.Errorf("on record are %+v", said)
	}
}

func damage(t *testing.T, j *journal.Journal) []journal.Event {
	t.Helper()
	events, _, err := j.Query(t.Context(), 0, 10, journal.Filter{Types: []journal.Type{journal.JournalDamage}})
	if err != nil {
		t.Fatal(err)
	}
	return events
}

// batchLog notes what batches claim to be, and says yes.
type batchLog struct {
	mu  sync.Mutex
	got [][2]uint64
}

func (b *batchLog) ServeHTTP(w http.ResponseWriter, q *http.Request) {
	id := batchID.FindStringSubmatch(q.Header.Get("Idempotency-Key"))
	first, _ := strconv.ParseUint(id[1], 10, 64)
	last, _ := strconv.ParseUint(id[2], 10, 64)
	b.mu.Lock()
	b.got = append(b.got, [2]uint64{first, last})
	b.mu.Unlock()
	w.WriteHeader(http.StatusNoContent)
}

func (b *batchLog) ranges() [][2]uint64 {
	b.mu.Lock()
	defer b.mu.Unlock()
	return slices.Clone(b.got)
}
