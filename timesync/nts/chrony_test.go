package nts

import (
	"crypto/tls"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	beevikntp "github.com/beevik/ntp"
	beevik "github.com/beevik/nts"

	"shekara/netctl/certificate/certificatetest"
	"shekara/netctl/nstest"
	"shekara/netctl/probe"
	"shekara/netctl/probe/probetest"
	"shekara/timesync/ntp"
)

// chronyConfig is for a chronyd that leaves the clock and the machine's own chronyd alone.
func chronyConfig(t *testing.T, lines ...string) (path string) {
	t.Helper()
	dir := t.TempDir()
	path = filepath.Join(dir, "chrony.conf")
	lines = append(lines, "cmdport 0", "bindcmdaddress /", "pidfile "+filepath.Join(dir, "pid"), "user root")
	if err := os.WriteFile(path, []byte(strings.Join(lines, "\n")+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// chronyd runs on a host without control of the clock.
func chronyd(h *nstest.H, config string, more ...string) []string {
	return append([]string{"chronyd", "-x", "-d", "-f", config}, more...)
}

// TestChronyIsServed has chronyd as the client, on the same host as ours: it measures, survives our restart, and establishes keys anew when its cookies are forgotten.
func TestChronyIsServed(t *testing.T) {
	probetest.Need(t, probe.Tool("chronyd"))
	h := nstest.Host(t, "time")
	k := openKeys(t)
	authority := certificatetest.New(t, "authority")
	var v *served
	var opened, unknown atomic.Int64
	h.Do(func() { v = serve(t, k, authority, here, Port, ntp.Port) })
	v.seen = func(err error) {
		switch {
		case err == nil:
			opened.Add(1)
		case errors.Is(err, ErrCookie):
			unknown.Add(1)
		default:
			t.Errorf("a request of chronyd's: %v", err)
		}
	}
	v.start(t, h.Do)

	config := chronyConfig(t, "server "+here+" nts iburst minpoll 0 maxpoll 0", "nosystemcert", "ntstrustedcerts "+authority.File())
	out := h.Run(chronyd(h, config, "-Q", "-t", "18")...) // it ends well only with a measurement
	if opened.Load() == 0 {
		t.Errorf("%d requests: %s", opened.Load(), out)
	}
	if err := v.end(t); err != nil {
		t.Error(err)
	}

	stranger := chronyConfig(t, "server "+here+" nts iburst", "nosystemcert", "ntstrustedcerts "+certificatetest.New(t, "other").File())
	if out, err := h.Try(chronyd(h, stranger, "-Q", "-t", "10")...); err == nil {
		t.Errorf("chronyd took another authority's certificate: %s", out)
	}
	for err := error(nil); err == nil; {
		err = v.end(t)
	}

	h.Start(chronyd(h, config)...)
	if err := v.end(t); err != nil {
		t.Fatal(err)
	}
	before := opened.Load()
	await(t, "requests", func() bool { return opened.Load() > before+4 })
	again, err := OpenKeys(k.path) // as a restart would
	if err != nil {
		t.Fatal(err)
	}
	k.ring.Store(again.ring.Load())
	before = opened.Load()
	await(t, "requests after a restart", func() bool { return opened.Load() > before+4 })
	if unknown.Load() != 0 {
		t.Errorf("%d cookies were unknown", unknown.Load())
	}
	if testing.Short() { // chronyd waits 16 seconds before it establishes keys again
		return
	}
	rotateAll(t, k)
	await(t, "keys established anew", func() bool {
		select {
		case err := <-v.ends:
			return err == nil
		default:
			return false
		}
	})
	if unknown.Load() == 0 {
		t.Error("no cookie was unknown")
	}
	before = opened.Load()
	await(t, "requests with new keys", func() bool { return opened.Load() > before+4 })
}

// await waits for as long as chronyd may take to try again.
func await(t *testing.T, what string, so func() bool) {
	t.Helper()
	for end := time.Now().Add(3 * time.Minute); !so(); time.Sleep(50 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("waited for %s", what)
		}
	}
}

// TestChronyServes has chronyd as the server, and asks it as our sources are asked, and by a session of ours.
func TestChronyServes(t *testing.T) {
	probetest.Need(t, probe.Tool("chronyd"))
	h := nstest.Host(t, "time")
	authority := certificatetest.New(t, "authority")
	made, key := authority.Leaf("time.example.org", here)
	h.Start(chronyd(h, chronyConfig(t, "local stratum 3", "allow "+here, "bindaddress "+here, "ntsserverkey "+key, "ntsservercert "+made))...)

	var ours *Session
	await(t, "chronyd", func() bool {
		var err error
		h.Do(func() {
			ours, err = Establish(t.Context(), tls.Dialer{Config: &tls.Config{RootCAs: authority.Pool()}}, fmt.Sprintf("%s:%d", here, Port))
		})
		return err == nil
	})
	if ours.Server != fmt.Sprintf("%s:%d", here, ntp.Port) || ours.Cookies() != maxCookies {
		t.Errorf("server %s, %d cookies", ours.Server, ours.Cookies())
	}
	h.Do(func() {
		s, err := beevik.NewSessionWithOptions(here, &beevik.SessionOptions{TLSConfig: &tls.Config{RootCAs: authority.Pool()}, Timeout: patience})
		if err != nil {
			t.Fatal(err)
		}
		for range 10 {
			r, err := s.QueryWithOptions(&beevikntp.QueryOptions{Timeout: patience})
			if err != nil || r.Stratum != 3 || r.Validate() != nil {
				t.Fatalf("%+v, %v", r, err)
			}
		}
		for range 10 {
			query(t, ours)
		}
	})
	if ours.Cookies() != maxCookies {
		t.Errorf("%d cookies", ours.Cookies())
	}
}
