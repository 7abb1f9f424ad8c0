package export

import (
	"bytes"
	"flag"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"

	"shekara/journal"
	"shekara/journal/export/cursor"
	"shekara/netctl/certificate/certificatetest"
	"shekara/netctl/probe"
	"shekara/netctl/probe/probetest"
)

var drill = flag.Int("records", 2000, "records of the drill with rsyslog")

// centre is a real rsyslog with the configuration of docs/monitoring.
type centre struct {
	t       *testing.T
	of      *certificatetest.Authority
	dir     string
	config  string
	file    string // of the records that came
	command *exec.Cmd
	log     lockedBuffer
}

// newCentre has a port for each of two edges, owner and agency-a.
func newCentre(t *testing.T, of *certificatetest.Authority, addresses [2]string) *centre {
	t.Helper()
	host, port, err := net.SplitHostPort(addresses[0])
	if err != nil {
		t.Fatal(err)
	}
	_, other, err := net.SplitHostPort(addresses[1])
	if err != nil {
		t.Fatal(err)
	}
	c := &centre{t: t, of: of, dir: t.TempDir()}
	c.file = filepath.Join(c.dir, "log", "owner.jsonl")
	certificate, key := of.Leaf("soc.example.org")
	c.config = fromDocs(t, "rsyslog.conf", [][2]string{{"/etc/shekara-centre/ca.pem", of.File()}, {"/etc/shekara-centre/centre.pem", certificate},
		{"/etc/shekara-centre/centre.key", key}, {"/var/lib/shekara-centre", filepath.Join(c.dir, "log")}, {`address="0.0.0.0"`, `address="` + host + `"`},
		{`port="6514"`, `port="` + port + `"`}, {`port="6515"`, `port="` + other + `"`}})
	t.Cleanup(func() {
		if c.command != nil {
			c.stop(syscall.SIGKILL)
		}
		if t.Failed() {
			t.Logf("rsyslog:\n%s", c.log.String())
		}
	})
	return c
}

func (c *centre) start() {
	c.t.Helper()
	c.command = exec.Command("rsyslogd", "-n", "-f", c.config, "-i", filepath.Join(c.dir, "pid"))
	c.command.Stdout, c.command.Stderr = &c.log, &c.log
	if err := c.command.Start(); err != nil {
		c.t.Fatal(err)
	}
}

func (c *centre) stop(by syscall.Signal) {
	c.t.Helper()
	if err := c.command.Process.Signal(by); err != nil {
		c.t.Fatal(err)
	}
	_ = c.command.Wait()
	c.command = nil
	_ = os.Remove(filepath.Join(c.dir, "pid"))
}

// check holds what came to the journal: every record is there, byte for byte and in order. It gives how many came again.
func (c *centre) check(l *local) (again int) {
	c.t.Helper()
	text, err := os.ReadFile(c.file)
	if err != nil {
		c.t.Fatal(err)
	}
	var lines [][]byte
	for after := uint64(0); after < l.Journal.Last(); after = uint64(len(lines)) {
		page, err := l.Journal.Lines(c.t.Context(), after, 10_000)
		if err != nil {
			c.t.Fatal(err)
		}
		lines = append(lines, page...)
	}
	newest := uint64(0)
	for line := range bytes.Lines(text) {
		line = bytes.TrimSuffix(line, []byte("\n"))
		e, err := journal.ParseLine(line)
		if err != nil || e.Sequence > uint64(len(lines)) || !bytes.Equal(line, lines[e.Sequence-1]) {
			c.t.Fatalf("%.300q is no record of the journal: %v", line, err)
		}
		switch {
		case e.Sequence == newest+1:
			newest++
		case e.Sequence > newest:
			c.t.Fatalf("%d comes after %d", e.Sequence, newest)
		default:
			again++
		}
	}
	if newest != uint64(len(lines)) {
		c.t.Errorf("%d of %d records came", newest, len(lines))
	}
	return again
}

// newest is the sequence of the last whole record in the file.
func (c *centre) newest() (newest uint64) {
	file, err := os.Open(c.file)
	if err != nil {
		return 0
	}
	defer file.Close()
	info, err := file.Stat()
	if err != nil {
		return 0
	}
	begin := max(0, info.Size()-2*journal.MaxEventBytes)
	text, _ := io.ReadAll(io.NewSectionReader(file, begin, info.Size()-begin))
	text = text[:bytes.LastIndexByte(text, '\n')+1]
	last := text[bytes.LastIndexByte(bytes.TrimSuffix(text, []byte("\n")), '\n')+1:]
	if e, err := journal.ParseLine(bytes.TrimSuffix(last, []byte("\n"))); err == nil {
		newest = e.Sequence
	}
	return newest
}

// TestRsyslogHasEveryRecord: a real rsyslog over TLS that is stopped, killed and away meanwhile, and an exporter that is ended, have every record of the journal,
// in order; what came twice is known by its sequence.
func TestRsyslogHasEveryRecord(t *testing.T) {
	probetest.Need(t, probe.Tool("rsyslogd"))
	if modules, _ := filepath.Glob("/usr/lib/*/rsyslog/lmnsd_gtls.so"); len(modules) == 0 {
		probetest.Need(t, probe.Tool("rsyslog-gnutls")) // a package without a program, so this one lacks
	}
	of := certificatetest.New(t, "authority")
	addresses := freePorts(t)
	c := newCentre(t, of, addresses)
	c.start()
	l := newLocal(t)
	sink := Sink{Name: "soc", Site: "owner", Protocol: SyslogTLS, Address: addresses[0], ServerName: "soc.example.org", CA: of.File(), Format: JSON}
	sink.Certificate, sink.Key = of.Leaf("owner.edge.example.org")
	l.set(sink)
	dir := t.TempDir()
	end := runs(t, l, dir)
	arrived := func(what string) { t.Helper(); await(t, what, func() bool { return c.newest() == l.Journal.Last() }) }
	l.record(*drill/5, journal.DriftFind)
	arrived("the first records")
	for _, by := range []syscall.Signal{syscall.SIGTERM, syscall.SIGKILL} {
		reached := c.newest()
		l.record(*drill/5, journal.DriftFind)
		await(t, "some of what follows", func() bool { return c.newest() > reached })
		c.stop(by)
		l.record(*drill/5, journal.DriftFind)
		c.start()
		arrived(fmt.Sprintf("all after signal %d", by))
	}
	end()
	l.record(*drill/5, journal.DriftFind)
	runs(t, l, dir)
	arrived("all after the exporter was ended")
	if again := c.check(l); again == 0 {
		t.Error("nothing was sent again: the drill broke no connection")
	} else {
		t.Logf("%d records, and %d of them again", l.Journal.Last(), again)
	}
	keepsEdgesApart(t, c, l, sink, addresses)
}

// freePorts are two addresses where nobody listens.
func freePorts(t *testing.T) (addresses [2]string) {
	t.Helper()
	for i := range addresses {
		listener, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer listener.Close() // when both are known
		addresses[i] = listener.Addr().String()
	}
	return addresses
}

// keepsEdgesApart: whom the centre does not permit is turned away, though its certificate is of the same authority, and so is one edge from the other's port. On its own it writes into its
// own file, whatever name it gives itself.
func keepsEdgesApart(t *testing.T, c *centre, l *local, sink Sink, addresses [2]string) {
	t.Helper()
	stranger, agency, liar := sink, sink, sink
	stranger.Name, agency.Name, liar.Name = "stranger", "agency", "liar"
	stranger.Certificate, stranger.Key = c.of.Leaf("other.edge.example.org")
	agency.Certificate, agency.Key = c.of.Leaf("agency-a.edge.example.org")
	liar.Certificate, liar.Key = agency.Certificate, agency.Key
	liar.Address, liar.Site = addresses[1], "../owner"
	before, err := os.ReadFile(c.file)
	if err != nil {
		t.Fatal(err)
	}
	l.set(stranger, agency, liar)
	dir := t.TempDir()
	runs(t, l, dir)
	for _, name := range []string{"stranger", "agency"} {
		var s cursor.State
		await(t, name+" is refused", func() bool { s, _ = cursor.Read(dir, name); return s.Failures > 0 })
		if s.Delivered != 0 || s.Error == "" {
			t.Errorf("of %s: %+v", name, s)
		}
	}
	own := &centre{t: t, file: filepath.Join(filepath.Dir(c.file), "agency-a.jsonl")}
	await(t, "the control: all in its own file", func() bool { return own.newest() == l.Journal.Last() })
	own.check(l)
	if after, err := os.ReadFile(c.file); err != nil || !bytes.Equal(before, after) {
		t.Errorf("the owner's file had %d bytes, and has %d, %v", len(before), len(after), err)
	}
	if files, err := os.ReadDir(filepath.Dir(c.file)); err != nil || len(files) != 2 {
		t.Errorf("there are %v, %v", files, err)
	}
}
