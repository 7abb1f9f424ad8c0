package export

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"shekara/journal"
	"shekara/journal/export/cursor"
	"shekara/netctl/certificate/certificatetest"
)

// patience bounds what must happen. Nothing waits so long when all is well.
const patience = 90 * time.Second

// local is a journal in this process, and the sinks of its site.
type local struct {
	*journal.Journal
	t     *testing.T
	mu    sync.Mutex
	sinks []Sink // guarded by mu
	long  int    // bytes that each message is made longer by
}

func newLocal(t *testing.T) *local {
	t.Helper()
	j, err := journal.Open(t.TempDir(), nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { j.Close() })
	return &local{Journal: j, t: t}
}

func (l *local) Sinks(context.Context) ([]Sink, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.sinks, nil
}

func (l *local) set(sinks ...Sink) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.sinks = sinks
}

func (l *local) Last(context.Context) (uint64, error) { return l.Journal.Last(), nil }

func (l *local) Lines(ctx context.Context, after uint64, limit int) ([][]byte, error) {
	wait, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	_ = l.Wait(wait, after)
	return l.Journal.Lines(ctx, after, limit)
}

const producers = 100

// record puts so many events on record, from several at a time.
func (l *local) record(count int, of journal.Type) {
	l.t.Helper()
	var all sync.WaitGroup
	for worker := range producers {
		all.Go(func() {
			for i := worker; i < count; i += producers {
				if _, err := l.Append(l.t.Context(), journal.Event{Type: of, Severity: journal.Notice, Message: fmt.Sprintf("event %d", i) + strings.Repeat(".", l.long), Fields: map[string]string{"n": strconv.Itoa(i)}}); err != nil {
					l.t.Error(err)
				}
			}
		})
	}
	all.Wait()
}

// runs starts Run; what it gives ends it, once.
func runs(t *testing.T, source Source, dir string) (end func()) {
	t.Helper()
	end, _ = runsLogged(t, source, dir)
	return end
}

// runsLogged is runs that also gives what is logged.
func runsLogged(t *testing.T, source Source, dir string) (end func(), log *lockedBuffer) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	log = &lockedBuffer{}
	go func() {
		done <- Run(ctx, Options{Source: source, Dir: dir, Log: slog.New(slog.NewTextHandler(log, nil))})
	}()
	end = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
		if t.Failed() {
			t.Logf("log:\n%s", log.String())
		}
	})
	t.Cleanup(end)
	return end, log
}

type lockedBuffer struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.Write(p)
}

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.String()
}

func await(t *testing.T, what string, so func() bool) {
	t.Helper()
	deadline := time.Now().Add(patience)
	for !so() {
		if time.Now().After(deadline) {
			t.Fatalf("not within %s: %s", patience, what)
		}
		time.Sleep(10 * time.Millisecond)
	}
}

// collector is a syslog collector that notes the sequences that come, in the order in which they come.
type collector struct {
	t        *testing.T
	address  string
	mu       sync.Mutex
	got      [][]uint64 // of each connection
	open     []net.Conn
	listener net.Listener
	most     int // records that a connection may bring before it is reset; 0: any number
	deaf     bool
}

var sequenceOf = regexp.MustCompile(`\[shekara@32473 sequence="([0-9]+)"`)

func collect(t *testing.T, address string, config *tls.Config, most int, deaf bool) *collector {
	t.Helper()
	listener, err := net.Listen("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	c := &collector{t: t, address: listener.Addr().String(), listener: listener, most: most, deaf: deaf}
	if config != nil {
		c.listener = tls.NewListener(listener, config)
	}
	var serving sync.WaitGroup
	serving.Go(func() {
		for {
			conn, err := c.listener.Accept()
			if err != nil {
				return
			}
			c.mu.Lock()
			n := len(c.got)
			c.got, c.open = append(c.got, nil), append(c.open, conn)
			c.mu.Unlock()
			serving.Go(func() { c.serve(conn, n) })
		}
	})
	t.Cleanup(func() { c.stop(); serving.Wait() })
	return c
}

func (c *collector) stop() {
	c.listener.Close()
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, conn := range c.open {
		conn.Close()
	}
}

func (c *collector) serve(conn net.Conn, n int) {
	if c.deaf {
		return
	}
	defer conn.Close()
	in := bufio.NewReader(conn)
	for count := 1; ; count++ {
		length, err := in.ReadString(' ')
		if err != nil {
			return
		}
		size, err := strconv.Atoi(length[:len(length)-1])
		if err != nil || size > 64<<10 {
			c.t.Errorf("length %q", length)
			return
		}
		text := make([]byte, size)
		if _, err := io.ReadFull(in, text); err != nil {
			return
		}
		found := sequenceOf.FindSubmatch(text)
		if found == nil {
			c.t.Errorf("no sequence in %q", text)
			return
		}
		sequence, _ := strconv.ParseUint(string(found[1]), 10, 64)
		c.mu.Lock()
		c.got[n] = append(c.got[n], sequence)
		c.mu.Unlock()
		if count == c.most {
			return // with what has come unread in the socket, which is a reset
		}
	}
}

// newest is the last sequence that came, and whether every one up to it did, in order, with repetitions only at the beginning of a connection.
func (c *collector) newest() (newest uint64, connections int) {
	c.t.Helper()
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, got := range c.got {
		if len(got) == 0 {
			continue
		}
		connections++
		if got[0] > newest+1 {
			c.t.Errorf("a connection begins with %d after %d", got[0], newest)
		}
		for i, s := range got {
			if s != got[0]+uint64(i) {
				c.t.Errorf("%d follows %d", s, got[i-1])
				return newest, connections
			}
		}
		newest = max(newest, got[len(got)-1])
	}
	return newest, connections
}

func TestEveryRecordComesThoughTheCollectorBreaksOff(t *testing.T) {
	l := newLocal(t)
	c := collect(t, "127.0.0.1:0", nil, 700, false)
	l.set(Sink{Name: "soc", Site: "owner", Protocol: SyslogTCP, Address: c.address, Format: JSON})
	dir := t.TempDir()
	began := time.Now()
	runs(t, l, dir)
	l.record(600, journal.DriftFind)
	await(t, "the first records", func() bool { n, _ := c.newest(); return n == l.Journal.Last() })
	l.record(300, journal.DriftFind) // the last of these break the connection; all are sent again, for nothing was settled
	await(t, "a break", func() bool { s, _ := cursor.Read(dir, "soc"); return s.Failures > 0 })
	s, err := cursor.Read(dir, "soc")
	if err != nil || s.Delivered != 0 && time.Since(began) < settleAfter || s.Error == "" {
		t.Errorf("after the break: %+v, %v", s, err)
	}
	c.mu.Lock()
	c.most = 0
	c.mu.Unlock()
	await(t, "all records", func() bool { n, _ := c.newest(); return n == l.Journal.Last() })
	await(t, "a cursor", func() bool {
		s, err := cursor.Read(dir, "soc")
		return err == nil && s.Delivered > 0 && s.Error == "" && s.Connected
	})
	await(t, "that it holds all, though nothing is behind it", func() bool { s, _ := cursor.Read(dir, "soc"); return s.Held == l.Journal.Last() })
	if s, err = cursor.Read(dir, "soc"); err != nil || s.Sent-s.Delivered < settleRecords {
		t.Errorf("%+v, %v: a hundred records must not be taken as delivered", s, err)
	}
}

func TestACollectorThatTakesNothingHindersNobody(t *testing.T) {
	l := newLocal(t)
	l.long = 2500
	deaf, well := collect(t, "127.0.0.1:0", nil, 0, true), collect(t, "127.0.0.1:0", nil, 0, false)
	dir := t.TempDir()
	file := filepath.Join(t.TempDir(), "journal.jsonl")
	l.set(Sink{Name: "deaf", Site: "owner", Protocol: SyslogTCP, Address: deaf.address}, Sink{Name: "well", Site: "owner", Protocol: SyslogTCP, Address: well.address},
		Sink{Name: "file", Site: "owner", Protocol: File, Path: file}, Sink{Name: "away", Site: "owner", Protocol: SyslogTCP, Address: "127.0.0.1:1"})
	end := runs(t, l, dir)
	l.record(8_000, journal.DriftFind) // 20 MB: more than sockets hold
	await(t, "all at the others", func() bool {
		n, _ := well.newest()
		s, _ := cursor.Read(dir, "file")
		return n == l.Journal.Last() && s.Sent == l.Journal.Last()
	})
	await(t, "a word on the one that is away", func() bool { s, _ := cursor.Read(dir, "away"); return s.Failures > 1 && s.Error != "" && !s.Connected })
	end() // also while a write waits
	sameLines(t, l, file)
}

// sameLines: the file holds exactly the journal's lines.
func sameLines(t *testing.T, l *local, file string) {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var want []byte
	for after := uint64(0); after < l.Journal.Last(); {
		lines, err := l.Journal.Lines(t.Context(), after, 1000)
		if err != nil {
			t.Fatal(err)
		}
		for _, line := range lines {
			want = append(append(want, line...), '\n')
		}
		after += uint64(len(lines))
	}
	if !bytes.Equal(text, want) {
		t.Errorf("%d bytes in the file are not the journal's %d", len(text), len(want))
	}
}

func TestFileGoesOnWhereItStood(t *testing.T) {
	l := newLocal(t)
	dir, file := t.TempDir(), filepath.Join(t.TempDir(), "journal.jsonl")
	l.set(Sink{Name: "file", Site: "owner", Protocol: File, Path: file})
	all := func() bool { s, _ := cursor.Read(dir, "file"); return s.Delivered == l.Journal.Last() }
	end := runs(t, l, dir)
	l.record(500, journal.DriftFind)
	await(t, "the first", all)
	end()
	// As a power cut leaves it.
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, append(text, `{"sequence":50`...), 0o640); err != nil {
		t.Fatal(err)
	}
	l.record(500, journal.DriftFind)
	end = runs(t, l, dir)
	await(t, "the second", all)
	sameLines(t, l, file)
	// Somebody rotates it.
	if err := os.Rename(file, file+".1"); err != nil {
		t.Fatal(err)
	}
	l.record(500, journal.DriftFind)
	await(t, "the third", all)
	end()
	old, err := os.ReadFile(file + ".1")
	if err != nil {
		t.Fatal(err)
	}
	if text, err = os.ReadFile(file); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, append(old, text...), 0o640); err != nil {
		t.Fatal(err)
	}
	sameLines(t, l, file)
	// Another's file is left alone.
	if err := os.WriteFile(file, bytes.Repeat([]byte("x"), 2*journal.MaxEventBytes), 0o640); err != nil {
		t.Fatal(err)
	}
	if f, err := openFile(file); err == nil {
		f.close()
		t.Error("a file without lines is written to")
	}
}

func TestFilterAndBeginning(t *testing.T) {
	l := newLocal(t)
	l.record(10, journal.DriftFind)
	dir, files := t.TempDir(), t.TempDir()
	path := func(name string) string { return filepath.Join(files, name) }
	l.set(Sink{Name: "some", Protocol: File, Path: path("some"), Filter: journal.Filter{Types: []journal.Type{journal.TunnelState}}}, Sink{Name: "new", Protocol: File, Path: path("new"), NewOnly: true})
	runs(t, l, dir)
	await(t, "both begin", func() bool {
		a, errA := cursor.Read(dir, "some")
		b, errB := cursor.Read(dir, "new")
		return errA == nil && errB == nil && a.Sent == 10 && b.Sent == 10
	})
	l.record(3, journal.TunnelState)
	l.record(2, journal.DriftRepair)
	count := func(name string) int {
		text, _ := os.ReadFile(path(name))
		return bytes.Count(text, []byte("\n"))
	}
	await(t, "what each gets", func() bool { return count("some") == 3 && count("new") == 5 })
	checkpoint := journal.Event{Type: journal.JournalCheckpoint}
	if s := (Sink{Filter: journal.Filter{Types: []journal.Type{journal.TunnelState}}}); !s.chosen(checkpoint) {
		t.Error("a filter keeps checkpoints back")
	}
}

func TestUDP(t *testing.T) {
	l := newLocal(t)
	conn, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	const many = 150 // fit into a socket's buffer, whatever the kernel gives
	l.record(many, journal.DriftFind)
	l.set(Sink{Name: "soc", Site: "owner", Protocol: SyslogUDP, Address: conn.LocalAddr().String(), Format: Text})
	runs(t, l, t.TempDir())
	buffer := make([]byte, 64<<10)
	for want := 1; want <= many; want++ {
		if err := conn.SetReadDeadline(time.Now().Add(patience)); err != nil {
			t.Fatal(err)
		}
		n, err := conn.Read(buffer)
		if err != nil {
			t.Fatal(err)
		}
		if found := sequenceOf.FindSubmatch(buffer[:n]); found == nil || string(found[1]) != strconv.Itoa(want) {
			t.Fatalf("%q, want sequence %d", buffer[:n], want)
		}
	}
}

func TestTLSChecksBothWays(t *testing.T) {
	ours, theirs := certificatetest.New(t, "ours"), certificatetest.New(t, "theirs")
	certificate, key := ours.Leaf("soc.example.org")
	pair, err := tls.LoadX509KeyPair(certificate, key)
	if err != nil {
		t.Fatal(err)
	}
	l := newLocal(t)
	l.record(200, journal.DriftFind)
	c := collect(t, "127.0.0.1:0", &tls.Config{Certificates: []tls.Certificate{pair}, ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: ours.Pool()}, 0, false)
	sink := func(name string) Sink {
		s := Sink{Name: name, Site: "owner", Protocol: SyslogTLS, Address: c.address, ServerName: "soc.example.org", CA: ours.File()}
		s.Certificate, s.Key = ours.Leaf(name)
		return s
	}
	well, otherCA, otherName, stranger, open := sink("well"), sink("other-ca"), sink("other-name"), sink("stranger"), sink("open")
	otherCA.CA = theirs.File()
	otherName.ServerName = ""
	stranger.Certificate, stranger.Key = theirs.Leaf("stranger")
	if err := os.Chmod(open.Key, 0o644); err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	l.set(otherCA, otherName, stranger, open)
	runs(t, l, dir)
	for name, want := range map[string]string{
		"other-ca":   "unknown authority",
		"other-name": "127.0.0.1",
		"stranger":   refusedByTLS,
		"open":       "everybody may read",
	} {
		var s cursor.State
		await(t, name+" is refused", func() bool {
			s, _ = cursor.Read(dir, name)
			return s.Failures > 0 && !s.Connected && s.Sent == 0 // TLS 1.3 hears of the refusal only after it has connected
		})
		if !regexp.MustCompile(want).MatchString(s.Error) || s.Delivered != 0 || s.Sent != 0 || s.Connected {
			t.Errorf("%s: %+v, want an error with %q", name, s, want)
		}
	}
	if n, _ := c.newest(); n != 0 {
		t.Errorf("%d records came over connections that must be refused", n)
	}
	// The control: who is who he should be gets through, over the same collector.
	l.set(well)
	await(t, "all records", func() bool { n, _ := c.newest(); return n == l.Journal.Last() })
}

// refusedByTLS is how a connection ends whose client certificate the other end refuses: in TLS 1.3 the client may write before the alert comes (RFC 8446
// section 4.6.2), and then has the closed connection's error instead.
const refusedByTLS = `remote error: tls|tls error|broken pipe|connection reset by peer`

func TestDamagedCursorIsNotOverwritten(t *testing.T) {
	l := newLocal(t)
	l.record(5, journal.DriftFind)
	dir := t.TempDir()
	cursor := filepath.Join(dir, "soc.json")
	if err := os.WriteFile(cursor, []byte("{"), 0o644); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "f")
	l.set(Sink{Name: "soc", Protocol: File, Path: file})
	end := runs(t, l, dir)
	time.Sleep(100 * time.Millisecond)
	end()
	if text, err := os.ReadFile(cursor); err != nil || string(text) != "{" {
		t.Errorf("the cursor is %q, %v", text, err)
	}
	if _, err := os.Stat(file); err == nil {
		t.Error("without a cursor the sink is sent something")
	}
}
