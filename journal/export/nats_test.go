package export

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"shekara/journal"
	"shekara/journal/export/cursor"
	"shekara/netctl/certificate/certificatetest"
	"shekara/netctl/probe"
	"shekara/netctl/probe/probetest"
)

// broker is a real nats-server with the configuration of docs/monitoring.
type broker struct {
	t       *testing.T
	of      *certificatetest.Authority
	address string
	config  string
	store   string
	command *exec.Cmd
	log     lockedBuffer
	js      jetstream.JetStream
}

func newBroker(t *testing.T, of *certificatetest.Authority) *broker {
	t.Helper()
	probetest.Need(t, probe.Tool("nats-server"))
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	b := &broker{t: t, of: of, address: listener.Addr().String(), store: t.TempDir()}
	listener.Close()
	certificate, key := of.Leaf("centre.example.org")
	b.config = fromDocs(t, "nats.conf", [][2]string{{"/etc/shekara-centre/ca.pem", of.File()}, {"/etc/shekara-centre/centre.pem", certificate},
		{"/etc/shekara-centre/centre.key", key}, {"/var/lib/shekara-centre/nats", b.store}, {`"0.0.0.0:4222"`, `"` + b.address + `"`}})
	t.Cleanup(func() {
		if b.command != nil {
			b.kill()
		}
		if t.Failed() {
			t.Logf("nats-server:\n%s", b.log.String())
		}
	})
	return b
}

func (b *broker) start() {
	b.t.Helper()
	b.command = exec.Command("nats-server", "-c", b.config)
	b.command.Stdout, b.command.Stderr = &b.log, &b.log
	if err := b.command.Start(); err != nil {
		b.t.Fatal(err)
	}
}

func (b *broker) kill() {
	_ = b.command.Process.Signal(syscall.SIGKILL)
	_ = b.command.Wait()
	b.command = nil
}

// centre connects as the centre does that looks after a stream, in the account of its edge.
func (b *broker) centre(stream string) (conn *nats.Conn) {
	b.t.Helper()
	s := Sink{CA: b.of.File(), ServerName: "centre.example.org"}
	s.Certificate, s.Key = b.of.Leaf(strings.ToLower(stream) + ".centre.example.org")
	config, err := s.tlsConfig()
	if err != nil {
		b.t.Fatal(err)
	}
	await(b.t, "the server answers", func() bool {
		conn, err = nats.Connect("tls://"+b.address, nats.Secure(config))
		return err == nil
	})
	b.t.Cleanup(conn.Close)
	return conn
}

// stream is the stream of the subject, made if absent, with direct gets as the nats command makes it.
func (b *broker) stream(name, subject string) jetstream.Stream {
	b.t.Helper()
	conn := b.centre(name)
	var err error
	if b.js, err = jetstream.New(conn); err != nil {
		b.t.Fatal(err)
	}
	made, err := b.js.CreateOrUpdateStream(b.t.Context(), jetstream.StreamConfig{Name: name, Subjects: []string{subject}, Storage: jetstream.FileStorage, Discard: jetstream.DiscardNew, AllowDirect: true})
	if err != nil {
		b.t.Fatal(err)
	}
	return made
}

// TestNATSHasEveryRecordOnce: a real JetStream that is killed meanwhile, and an exporter that is ended, have every record once, in order.
func TestNATSHasEveryRecordOnce(t *testing.T) {
	of := certificatetest.New(t, "authority")
	b := newBroker(t, of)
	b.start()
	b.stream("OWNER", "shekara.journal.owner")
	l := newLocal(t)
	sink := Sink{Name: "soc", Site: "owner", Protocol: NATS, Address: b.address, ServerName: "centre.example.org", CA: of.File(), Subject: "shekara.journal.owner"}
	sink.Certificate, sink.Key = of.Leaf("owner.edge.example.org")
	l.set(sink)
	dir := t.TempDir()
	end := runs(t, l, dir)
	all := func(what string) {
		t.Helper()
		await(t, what, func() bool {
			s, err := cursor.Read(dir, "soc")
			return err == nil && s.Delivered == l.Journal.Last() && s.Error == ""
		})
	}
	l.record(2500, journal.DriftFind)
	all("the first records")
	l.record(500, journal.DriftFind)
	b.kill()
	l.record(1500, journal.DriftFind)
	await(t, "a word that it is away", func() bool { s, _ := cursor.Read(dir, "soc"); return s.Error != "" && !s.Connected })
	b.start()
	all("all after the kill")
	end()
	// A cursor that is behind, as a kill leaves it.
	s, err := cursor.Read(dir, "soc")
	if err != nil {
		t.Fatal(err)
	}
	s.Delivered -= 1200
	s.Sent = s.Delivered
	if err := s.Write(dir, "soc"); err != nil {
		t.Fatal(err)
	}
	l.record(500, journal.DriftFind)
	end = runs(t, l, dir)
	all("all after the exporter was ended")
	end()
	sameStream(t, l, b.stream("OWNER", "shekara.journal.owner"))

	// Another journal of the same name is found out, and adds nothing.
	other := newLocal(t)
	other.record(5100, journal.TunnelState)
	other.set(sink)
	dir = t.TempDir()
	runs(t, other, dir)
	await(t, "another journal is refused", func() bool { s, _ := cursor.Read(dir, "soc"); return strings.Contains(s.Error, "another journal") })
	if s, err := cursor.Read(dir, "soc"); err != nil || s.Delivered != 0 {
		t.Errorf("of another journal: %+v, %v", s, err)
	}
	sameStream(t, l, b.stream("OWNER", "shekara.journal.owner"))
}

// TestNATSLostWhatItAcknowledged: a stream that was purged, made anew, or shortened behind the cursor gets all again that it lacks, and the log says so. While JetStream's window for
// duplicates would swallow that, nothing counts as delivered.
func TestNATSLostWhatItAcknowledged(t *testing.T) {
	of := certificatetest.New(t, "authority")
	b := newBroker(t, of)
	b.start()
	owner := b.stream("OWNER", "shekara.journal.owner")
	l := newLocal(t)
	sink := Sink{Name: "soc", Site: "owner", Protocol: NATS, Address: b.address, ServerName: "centre.example.org", CA: of.File(), Subject: "shekara.journal.owner"}
	sink.Certificate, sink.Key = of.Leaf("owner.edge.example.org")
	l.set(sink)
	dir := t.TempDir()
	carry := func(what, again string) {
		t.Helper()
		began := time.Now()
		end, log := runsLogged(t, l, dir)
		await(t, what, func() bool {
			s, err := cursor.Read(dir, "soc")
			info, lost := owner.Info(t.Context())
			return err == nil && s.Written.After(began) && s.Delivered == l.Journal.Last() && s.Error == "" && lost == nil && info.State.Msgs == l.Journal.Last()
		})
		end()
		if got := strings.Count(log.String(), "again="); again == "" && got != 0 || again != "" && (got != 1 || !strings.Contains(log.String(), again)) {
			t.Errorf("%s: the log says %d times what is sent again, want %q once:\n%s", what, got, again, log.String())
		}
		sameStream(t, l, owner)
	}
	l.record(2500, journal.DriftFind)
	carry("the first", "")

	if err := owner.Purge(t.Context()); err != nil {
		t.Fatal(err)
	}
	end := runs(t, l, dir)
	await(t, "a word that it is taken for a duplicate", func() bool {
		s, _ := cursor.Read(dir, "soc")
		return strings.Contains(s.Error, "duplicate") && s.Delivered == 0
	})
	end()
	info, err := owner.Info(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	config := info.Config
	config.Duplicates = 100 * time.Millisecond
	if owner, err = b.js.UpdateStream(t.Context(), config); err != nil {
		t.Fatal(err)
	}
	carry("all after a purge", "")

	l.record(500, journal.DriftFind)
	carry("all before the copy", "")
	b.kill()
	backup := t.TempDir()
	if err := os.CopyFS(backup, os.DirFS(b.store)); err != nil {
		t.Fatal(err)
	}
	b.start()
	owner = b.stream("OWNER", "shekara.journal.owner")
	l.record(700, journal.DriftFind)
	carry("all after the copy", "")
	b.kill()
	if err := errors.Join(os.RemoveAll(b.store), os.Mkdir(b.store, 0o700), os.CopyFS(b.store, os.DirFS(backup))); err != nil {
		t.Fatal(err)
	}
	b.start()
	owner = b.stream("OWNER", "shekara.journal.owner")
	carry("all after the copy was restored", "records 3001 to 3700")

	if err := b.js.DeleteStream(t.Context(), "OWNER"); err != nil {
		t.Fatal(err)
	}
	owner = b.stream("OWNER", "shekara.journal.owner")
	carry("all after it was made anew", "records 1 to 3700")
	l.record(1, journal.DriftFind)
	carry("nothing twice", "")
}

// TestNATSBeginsWhereItIsTold: a sink with newOnly does not get what was before it when its stream is emptied.
func TestNATSBeginsWhereItIsTold(t *testing.T) {
	c := carrier{state: cursor.State{Delivered: 150, Began: 100}}
	// A cursor of before it was noted where a sink began says so of what was delivered.
	for newOnly, want := range map[bool]uint64{true: 150, false: 0} {
		old := carrier{sink: Sink{Name: "soc", NewOnly: newOnly}, dir: t.TempDir()}
		if err := errors.Join((cursor.State{Delivered: 150, Sent: 150}).Write(old.dir, "soc"), old.begin(t.Context())); err != nil || old.state.Began != want {
			t.Errorf("with newOnly %t an old cursor began at %d, %v; want %d", newOnly, old.state.Began, err, want)
		}
	}
	for have, want := range map[uint64]uint64{200: 150, 120: 120, 100: 100, 0: 100} {
		of := c
		if of.goBack(have); of.state.Delivered != want || (of.lost > 0) != (want < 150) {
			t.Errorf("of a stream that has %d: from %d, lost %d; want from %d", have, of.state.Delivered, of.lost, want)
		}
	}
}

// sameStream: the stream holds exactly the journal.
func sameStream(t *testing.T, l *local, of jetstream.Stream) {
	t.Helper()
	consumer, err := of.OrderedConsumer(t.Context(), jetstream.OrderedConsumerConfig{})
	if err != nil {
		t.Fatal(err)
	}
	for sequence := uint64(1); sequence <= l.Journal.Last(); {
		lines, err := l.Journal.Lines(t.Context(), sequence-1, 1000)
		if err != nil {
			t.Fatal(err)
		}
		batch, err := consumer.Fetch(len(lines), jetstream.FetchMaxWait(patience))
		if err != nil {
			t.Fatal(err)
		}
		for m := range batch.Messages() {
			if id := m.Headers().Get(messageID); id != fmt.Sprintf("owner/%d", sequence) || !bytes.Equal(m.Data(), lines[0]) {
				t.Fatalf("message %q is %s, want record %d: %s", id, m.Data(), sequence, lines[0])
			}
			lines, sequence = lines[1:], sequence+1
		}
		if len(lines) > 0 {
			t.Fatalf("%d records are missing from %d on: %v", len(lines), sequence, batch.Error())
		}
	}
	info, err := of.Info(t.Context())
	if err != nil || info.State.Msgs != l.Journal.Last() {
		t.Errorf("%d messages, %v; want %d", info.State.Msgs, err, l.Journal.Last())
	}
}

func TestNATSIsRefused(t *testing.T) {
	of, theirs := certificatetest.New(t, "ours"), certificatetest.New(t, "theirs")
	b := newBroker(t, of)
	b.start()
	b.stream("OWNER", "others")
	sink := Sink{Name: "soc", Site: "owner", Protocol: NATS, Address: b.address, ServerName: "centre.example.org", CA: of.File(), Subject: "shekara.journal.owner"}
	sink.Certificate, sink.Key = of.Leaf("owner.edge.example.org")
	stranger, elsewhere, unknown := sink, sink, sink
	stranger.Certificate, stranger.Key = theirs.Leaf("owner.edge.example.org")
	elsewhere.ServerName = "elsewhere.example.org"
	unknown.Certificate, unknown.Key = of.Leaf("unknown.edge.example.org")
	for want, s := range map[string]Sink{refusedByTLS: stranger, "Authorization": unknown, "elsewhere.example.org": elsewhere, "shekara.journal.owner": sink} {
		began := time.Now()
		way, err := openStream(t.Context(), s)
		if err == nil {
			way.close()
		}
		if err == nil || !regexp.MustCompile(want).MatchString(err.Error()) || time.Since(began) > patience {
			t.Errorf("%v, want an error with %q", err, want)
		}
	}
	// Streams that do not say by what they have what they got.
	for want, c := range map[string]jetstream.StreamConfig{"leave it after 1h0m0s.*--max-age 0": {MaxAge: time.Hour}, "--retention limits": {Retention: jetstream.WorkQueuePolicy}, "retention is Interest": {Retention: jetstream.InterestPolicy}} {
		c.Name, c.Subjects = "OWNER", []string{"shekara.journal.owner"}
		if err := b.js.DeleteStream(t.Context(), c.Name); err != nil {
			t.Fatal(err)
		}
		if _, err := b.js.CreateStream(t.Context(), c); err != nil {
			t.Fatal(err)
		}
		if way, err := openStream(t.Context(), sink); err == nil || !regexp.MustCompile(want).MatchString(err.Error()) {
			t.Errorf("%v, %v; want an error with %q", way, err, want)
		}
	}
	if err := b.js.DeleteStream(t.Context(), "OWNER"); err != nil {
		t.Fatal(err)
	}
	// The control: with a stream for it, it is open.
	b.stream("OWNER", "shekara.journal.owner")
	way, err := openStream(t.Context(), sink)
	if err != nil {
		t.Fatal(err)
	}
	way.close()
}

// TestNATSKeepsEdgesApart: with the configuration of docs/monitoring an edge's certificate lets nobody at another edge's stream, nor change its own, nor hear what others are answered.
func TestNATSKeepsEdgesApart(t *testing.T) {
	of := certificatetest.New(t, "authority")
	b := newBroker(t, of)
	b.start()
	owner, agency := b.stream("OWNER", "shekara.journal.owner"), b.stream("AGENCY-A", "shekara.journal.agency-a")
	sink := Sink{Name: "soc", Site: "agency-a", Protocol: NATS, Address: b.address, ServerName: "centre.example.org", CA: of.File(), Subject: "shekara.journal.owner"}
	sink.Certificate, sink.Key = of.Leaf("agency-a.edge.example.org")
	config, err := sink.tlsConfig()
	if err != nil {
		t.Fatal(err)
	}
	refused := make(chan error, 100)
	edge, err := nats.Connect("tls://"+b.address, nats.Secure(config), nats.CustomInboxPrefix("_INBOX.shekara.journal.agency-a"), nats.ErrorHandler(func(_ *nats.Conn, _ *nats.Subscription, err error) { refused <- err }))
	if err != nil {
		t.Fatal(err)
	}
	defer edge.Close()
	isRefused := func(what string) {
		t.Helper()
		select {
		case err := <-refused:
			if !errors.Is(err, nats.ErrPermissionViolation) || !strings.Contains(err.Error(), what) {
				t.Errorf("%s: %v", what, err)
			}
		case <-time.After(patience):
			t.Errorf("%s is not refused", what)
		}
	}
	centre := b.centre("AGENCY-A")
	for _, c := range [][2]string{{"shekara.journal.owner", "forged"}, {"$JS.API.STREAM.MSG.GET.OWNER", `{"seq":1}`}, {"$JS.API.STREAM.INFO.OWNER", ""}, {"$JS.API.STREAM.PURGE.OWNER", ""},
		{"$JS.API.STREAM.CREATE.MINE", `{"name":"MINE","subjects":["mine"]}`}, {"$JS.API.STREAM.PURGE.AGENCY-A", ""}, {"$JS.API.STREAM.DELETE.AGENCY-A", ""}} {
		if err := edge.PublishRequest(c[0], edge.NewInbox(), []byte(c[1])); err != nil {
			t.Fatal(err)
		}
		isRefused(c[0])
		// The control: the centre's certificate in the same account may ask for all of it, and what is its own is done.
		if strings.Contains(c[0], "AGENCY-A") || strings.Contains(c[0], "MINE") {
			if m, err := centre.Request(c[0], []byte(c[1]), patience); err != nil || strings.Contains(string(m.Data), `"error"`) {
				t.Errorf("the control: %s by the centre: %v", c[0], err)
			}
		}
	}
	for _, subject := range []string{"_INBOX.>", "shekara.journal.owner", ">"} {
		if _, err := edge.SubscribeSync(subject); err != nil {
			t.Fatal(err)
		}
		isRefused(subject)
	}
	if way, err := openStream(t.Context(), sink); err == nil {
		way.close()
		t.Error("a sink opens another edge's stream")
	}
	// A server answers where it is asked to, and nobody's permissions hold it back. Beyond the account that is nowhere; within it, the control, it is a message.
	agency = b.stream("AGENCY-A", "shekara.journal.agency-a")
	for _, answers := range []string{"shekara.journal.owner", "shekara.journal.agency-a"} {
		if err := edge.PublishRequest("$JS.API.STREAM.NAMES", answers, nil); err != nil {
			t.Fatal(err)
		}
	}
	holds := func(s jetstream.Stream) uint64 {
		info, err := s.Info(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		return info.State.Msgs
	}
	await(t, "the answer to its own subject", func() bool { return holds(agency) == 1 })
	if n := holds(owner); n != 0 {
		t.Errorf("another edge's stream has %d messages", n)
	}
	if err := agency.Purge(t.Context()); err != nil {
		t.Fatal(err)
	}
	sink.Subject = "shekara.journal.agency-a"
	way, err := openStream(t.Context(), sink)
	if err != nil {
		t.Fatal(err)
	}
	way.close()
}
