package export

import (
	"bytes"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"shekara/journal"
	"shekara/journal/export/cursor"
	"shekara/netctl/certificate/certificatetest"
	"shekara/netctl/probe"
	"shekara/netctl/probe/probetest"
)

// TestNginxHasEveryBatch: a real nginx with the configuration of docs/monitoring, which is killed meanwhile, has every record and the signatures.
func TestNginxHasEveryBatch(t *testing.T) {
	probetest.Need(t, probe.Tool("nginx"))
	of := certificatetest.New(t, "authority")
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address, dir := listener.Addr().String(), t.TempDir()
	listener.Close()
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	certificate, key := of.Leaf("soc.example.org")
	configuration := fromDocs(t, "nginx.conf", [][2]string{{"/etc/shekara-centre/ca.pem", of.File()}, {"/etc/shekara-centre/centre.pem", certificate},
		{"/etc/shekara-centre/centre.key", key}, {"/var/lib/shekara-centre", dir}, {"/run/shekara-centre", dir}, {"0.0.0.0:8443", address}})
	var log lockedBuffer
	var command *exec.Cmd
	start := func() {
		t.Helper()
		_ = os.Remove(filepath.Join(dir, "taken")) // a kill leaves it
		command = exec.Command("nginx", "-p", dir, "-c", configuration, "-g", "daemon off; master_process off; user root; error_log stderr; pid "+dir+"/pid;")
		command.Stdout, command.Stderr = &log, &log
		if err := command.Start(); err != nil {
			t.Fatal(err)
		}
	}
	stop := func() {
		_ = command.Process.Signal(syscall.SIGKILL)
		_ = command.Wait()
	}
	start()
	t.Cleanup(func() {
		stop()
		if t.Failed() {
			t.Logf("nginx:\n%s", log.String())
		}
	})
	l := newLocal(t)
	sink := Sink{Name: "soc", Site: "owner", Protocol: HTTPS, URL: "https://" + address + "/journal", ServerName: "soc.example.org", CA: of.File()}
	sink.Certificate, sink.Key = of.Leaf("owner.edge.example.org")
	stranger := sink
	stranger.Name = "stranger"
	stranger.Certificate, stranger.Key = of.Leaf("owner.elsewhere.example.org")
	l.set(sink, stranger)
	cursors := t.TempDir()
	runs(t, l, cursors)
	all := func() bool {
		s, err := cursor.Read(cursors, "soc")
		return err == nil && s.Delivered == l.Journal.Last() && s.Error == ""
	}
	l.record(2000, journal.DriftFind)
	await(t, "the first records", all)
	await(t, "who has another name is refused", func() bool { s, _ := cursor.Read(cursors, "stranger"); return strings.Contains(s.Error, "403") })
	stop()
	l.record(1500, journal.DriftFind)
	start()
	await(t, "all after the kill", all)

	await(t, "the last batch in nginx's log, which it writes after its answer", func() bool {
		return keptBatches(t, filepath.Join(dir, "batches.jsonl"), sink.Certificate) == l.Journal.Last()
	})
}

// keptBatches checks what nginx has kept: every batch is signed, no record is missing. It gives the newest record.
func keptBatches(t *testing.T, index, certificate string) (newest uint64) {
	t.Helper()
	by, err := os.ReadFile(certificate)
	if err != nil {
		t.Fatal(err)
	}
	block, _ := pem.Decode(by)
	signer, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(index)
	if err != nil {
		t.Fatal(err)
	}
	for line := range bytes.Lines(text) {
		if !bytes.HasSuffix(line, []byte("\n")) {
			break // it is just being written
		}
		var b struct {
			Edge, File, Batch, Digest, SignatureInput, Signature string
			Status                                               int
		}
		if err := json.Unmarshal(line, &b); err != nil {
			t.Fatal(err)
		}
		if b.Status != http.StatusNoContent {
			continue
		}
		body, err := os.ReadFile(b.File)
		if err != nil {
			t.Fatal(err)
		}
		header := http.Header{"Content-Type": {lineType}, "Idempotency-Key": {b.Batch}, "Content-Digest": {b.Digest}, "Signature-Input": {b.SignatureInput}, "Signature": {b.Signature}}
		if err := checkBatch(header, body, signer); err != nil || b.Edge != "owner.edge.example.org" {
			t.Errorf("batch %s of %s: %v", b.Batch, b.Edge, err)
		}
		for record := range bytes.Lines(body) {
			e, err := journal.ParseLine(bytes.TrimSuffix(record, []byte("\n")))
			if err != nil || e.Sequence > newest+1 {
				t.Fatalf("record %d after %d, %v", e.Sequence, newest, err)
			}
			newest = max(newest, e.Sequence)
		}
	}
	return newest
}

// fromDocs is a configuration of docs/monitoring with this test's paths and addresses.
func fromDocs(t *testing.T, name string, replace [][2]string) (file string) {
	t.Helper()
	text, err := os.ReadFile("../../docs/monitoring/" + name)
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range replace {
		if !bytes.Contains(text, []byte(r[0])) {
			t.Fatalf("%s is not in %s", r[0], name)
		}
		text = bytes.ReplaceAll(text, []byte(r[0]), []byte(r[1]))
	}
	file = filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(file, text, 0o644); err != nil {
		t.Fatal(err)
	}
	return file
}
