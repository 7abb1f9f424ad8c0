package source

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"shekara/netctl/certificate/certificatetest"
	"shekara/netctl/nstest"
	"shekara/netctl/probe"
	"shekara/netctl/probe/probetest"
	"shekara/timesync"
)

// TestChronydIsASource: chronyd as a source, plain, by a key and by NTS, beside one that answers what chronyd would not.
func TestChronydIsASource(t *testing.T) {
	probetest.Need(t, probe.Root, probe.Namespaces, probe.Tool("chronyd"))
	probetest.NeedTime(t, "a burst of requests to real servers: 15 s")
	dir := t.TempDir()
	authority := certificatetest.New(t, "authority")
	cert, key := authority.Leaf("time", "127.0.0.1")
	keys := filepath.Join(dir, "keys")
	if err := os.WriteFile(keys, []byte("5 AES128 HEX:000102030405060708090a0b0c0d0e0f\n6 AES128 HEX:ff0102030405060708090a0b0c0d0e0f\n"), 0o640); err != nil {
		t.Fatal(err)
	}
	theirs := filepath.Join(dir, "theirs") // of key 6 they have another
	if err := os.WriteFile(theirs, []byte("5 AES128 HEX:000102030405060708090a0b0c0d0e0f\n6 AES128 HEX:000102030405060708090a0b0c0d0e0f\n"), 0o640); err != nil {
		t.Fatal(err)
	}
	config := filepath.Join(dir, "chrony.conf")
	if err := os.WriteFile(config, []byte(strings.Join([]string{"local stratum 3", "allow", "cmdport 0", "bindcmdaddress /", "pidfile " + dir + "/pid", "ntsservercert " + cert, "ntsserverkey " + key,
		"ntsdumpdir " + dir, "keyfile " + theirs, "driftfile " + dir + "/drift", ""}, "\n")), 0o600); err != nil {
		t.Fatal(err)
	}
	host := nstest.Host(t, "edge")
	host.Start("chronyd", "-x", "-d", "-u", "root", "-f", config)
	host.Do(func() {
		checkAnswers(t, authority.File(), keys)
	})
	watchChronyd(t, host, authority.File(), keys)
}

// checkAnswers asks once each way, and once with what must not be believed.
func checkAnswers(t *testing.T, ca, keys string) {
	for _, c := range []struct {
		name string
		q    Question
		by   string // what authenticated it
		says string // in the error
	}{
		{"plain", Question{Address: "127.0.0.1"}, "none", ""},
		{"key", Question{Address: "127.0.0.1:123", KeyFile: keys, Key: 5}, "key 5 (AES128CMAC)", ""},
		{"nts", Question{Address: "127.0.0.1", NTS: true, CA: ca}, "nts", ""},
		{"another key", Question{Address: "127.0.0.1", KeyFile: keys, Key: 6}, "", ""},
		{"another's CA", Question{Address: "127.0.0.1", NTS: true}, "", "certificate"},
		{"another name", Question{Address: "127.0.0.1", NTS: true, CA: ca, ServerName: "time.example.org"}, "", "certificate"},
		{"another port", Question{Address: "127.0.0.1:12300"}, "", "refused"},
	} {
		var l Look
		var err error
		for range 20 { // chronyd may not have started
			if l, err = Ask(t.Context(), c.q); err == nil || c.by == "" {
				break
			}
			time.Sleep(500 * time.Millisecond)
		}
		if (err == nil) != (c.by != "") || err != nil && !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: %v", c.name, err)
		} else if err == nil && (!l.Good || l.Authentication != c.by || l.Stratum != 3 || l.Offset.Abs() > l.Distance) {
			t.Errorf("%s: %+v", c.name, l)
		}
	}
}

func watchChronyd(t *testing.T, host *nstest.H, ca, keys string) {
	spec := timesync.Spec{Agreeing: 2, MaxDistance: time.Second, KeyFile: keys, Sources: []timesync.Source{
		{Name: "plain", Address: "127.0.0.1:123"}, {Name: "key", Address: "127.0.0.1:123", Key: 5}, {Name: "nts", Address: "127.0.0.1:4460", NTS: true, CA: ca},
		{Name: "wrong key", Address: "127.0.0.1:123", Key: 6},
	}}
	w := New(spec, filepath.Join(t.TempDir(), "time.json"), func(err error) { t.Errorf("complains: %v", err) })
	open := w.open
	w.open = func(s timesync.Source, certTime func() time.Time) func(context.Context) (answer, error) {
		exchange := open(s, certTime)
		return func(ctx context.Context) (a answer, err error) { // its goroutine would be on another host
			host.Do(func() { a, err = exchange(ctx) })
			return a, err
		}
	}
	ctx, stop := context.WithTimeout(t.Context(), time.Minute)
	done := make(chan error)
	go func() { done <- w.Run(ctx) }()
	state := func() string {
		text := string(w.Standing().State)
		for _, s := range w.Status().Sources {
			verdict := s.Verdict
			if verdict == timesync.Followed {
				verdict = timesync.Agrees
			}
			text += fmt.Sprintf(" %s:%s", s.Name, verdict)
		}
		return text
	}
	want := "synchronised plain:agrees key:agrees nts:agrees wrong key:unreachable"
	for state() != want && ctx.Err() == nil {
		select {
		case <-w.Changed():
		case <-ctx.Done():
		}
	}
	s := w.Standing()
	if state() != want || s.Stratum != 4 || s.Offset.Abs() > s.Bound(time.Now()) {
		t.Errorf("%s: %+v", state(), w.Status())
	}
	t.Logf("synchronised to chronyd: offset %s, bound %s", s.Offset, s.Bound(time.Now()))
	stop()
	if err := <-done; err != nil {
		t.Error(err)
	}
}
