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
	address string
	config  string
	store   string
	command *exec.Cmd
	log     lockedBuffer
	options []nats.Option // of the centre's own client
	js      jetstream.JetStream
}

func newBroker(t *testing.T, of *certificatetest.Authority) *broker {
	t.Helper()
	probetest.Need(t, probe.Tool("nats-server"))
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	b := &broker{t: t, address: listener.Addr().String(), store: t.TempDir()}
	listener.Close()
	certificate, key := of.Leaf("soc.example.org")
	b.config = fromDocs(t, "nats.conf", [][2]string{{"/etc/shekara-centre/ca.pem", of.File()}, {"/etc/shekara-centre/centre.pem", certificate},
		{"/etc/shekara-centre/centre.key", key}, {"/var/lib/shekara-centre/nats", b.store}, {`"0.0.0.0:4222"`, `"` + b.address + `"`}})
	s := Sink{CA: of.File(), ServerName: "soc.example.org"}
	s.Certificate, s.Key = of.Leaf("centre")
	config, err := s.tlsConfig()
	if err != nil {
		t.Fatal(err)
	}
	b.options = []nats.Option{nats.Secure(config)}
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

// stream is the stream of the subject, made if absent.
func (b *broker) stream(name, subject string) jetstream.Stream {
	b.t.Helper()
	var conn *nats.Conn
	await(b.t, "the server answers", func() (up bool) {
		var err error
		conn, err = nats.Connect("tls://"+b.address, b.options...)
		return err == nil
	})
	b.t.Cleanup(conn.Close)
	var err error
	if b.js, err = jetstream.New(conn); err != nil {
		b.t.Fatal(err)
	}
	made, err := b.js.CreateOrUpdateStream(b.t.Context(), jetstream.StreamConfig{Name: name, Subjects: []string{subject}, Storage: jetstream.FileStorage, Discard: jetstream.DiscardNew})
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
	sink := Sink{Name: "soc", Site: "owner", Protocol: NATS, Address: b.address, ServerName: "soc.example.org", CA: of.File(), Subject: "shekara.journal.owner"}
	sink.Certificate, sink.Key = of.Leaf("owner")
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
	sink := Sink{Name: "soc", Site: "owner", Protocol: NATS, Address: b.address, ServerName: "soc.example.org", CA: of.File(), Subject: "shekara.journal.owner"}
	sink.Certificate, sink.Key = of.Leaf("owner")
	l.set(sink)
	dir := t.TempDir()
	carry := func(what, again string) {
		t.Helper()
		end, log := runsLogged(t, l, dir)
		await(t, what, func() bool {
			s, err := cursor.Read(dir, "soc")
			info, lost := owner.Info(t.Context())
			return err == nil && s.Delivered == l.Journal.Last() && s.Error == "" && lost == nil && info.State.Msgs == l.Journal.Last()
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
	b.stream("OTHERS", "others")
	sink := Sink{Name: "soc", Site: "owner", Protocol: NATS, Address: b.address, ServerName: "soc.example.org", CA: of.File(), Subject: "shekara.journal.owner"}
	sink.Certificate, sink.Key = of.Leaf("owner")
	stranger, elsewhere := sink, sink
	stranger.Certificate, stranger.Key = theirs.Leaf("owner")
	elsewhere.ServerName = "elsewhere.example.org"
	for want, s := range map[string]Sink{refusedByTLS: stranger, "elsewhere.example.org": elsewhere, "shekara.journal.owner": sink} {
		began := time.Now()
		way, err := openStream(t.Context(), s)
		if err == nil {
			way.close()
		}
		if err == nil || !regexp.MustCompile(want).MatchString(err.Error()) || time.Since(began) > patience {
			t.Errorf("%v, want an error with %q", err, want)
		}
	}
	// The control: with a stream for it, it is open.
	b.stream("OWNER", "shekara.journal.owner")
	way, err := openStream(t.Context(), sink)
	if err != nil {
		t.Fatal(err)
	}
	way.close()
}
