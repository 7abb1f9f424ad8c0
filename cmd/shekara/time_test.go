package main

import (
	"net"
	"strings"
	"testing"
	"time"

	"shekara/timesync"
	"shekara/timesync/ntp"
)

// timeServer answers until the test ends, as one that knows the time, but for the changes.
func timeServer(t *testing.T, changes ...func(*ntp.Header)) string {
	t.Helper()
	conn, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	t.Cleanup(func() { conn.Close(); <-done })
	go func() {
		defer close(done)
		buffer := make([]byte, 1024)
		for {
			n, from, err := conn.ReadFrom(buffer)
			if err != nil {
				return
			}
			var p ntp.Packet
			if p.Parse(buffer[:n]) != nil {
				continue
			}
			now := ntp.TimestampOf(time.Now())
			h := ntp.Header{Version: 4, Mode: ntp.Server, Stratum: 1, Precision: -20, ReferenceID: 'G'<<24 | 'P'<<16 | 'S'<<8, Reference: now, Origin: p.Transmit, Receive: now, Transmit: now}
			for _, change := range changes {
				change(&h)
			}
			_, _ = conn.WriteTo(h.Append(nil), from) // the test sees that nothing came
		}
	}()
	return conn.LocalAddr().String()
}

func TestTimeCheck(t *testing.T) {
	good := timeServer(t)
	bad := timeServer(t, func(h *ntp.Header) { h.Leap, h.Stratum, h.ReferenceID = timesync.LeapUnknown, 0, 0 })
	for name, c := range map[string]struct {
		args []string
		code int
		says []string
	}{
		"good":           {[]string{good}, 0, []string{"good: a client would follow it", "Stratum         1", "Reference       GPS", "Authenticated   no", "This clock"}},
		"no use":         {[]string{bad}, 1, []string{"not good: it says that it is not synchronised", "Leap second     not known"}},
		"no key":         {[]string{good, "--key", "5"}, 1, []string{`--key "5"`, "hint: "}},
		"both":           {[]string{good, "--key", "f:5", "--nts"}, 1, []string{"--nts and --key", "hint: "}},
		"idle authority": {[]string{good, "--ca", "f"}, 1, []string{"--ca", "hint: add --nts"}},
		"nobody":         {[]string{"no-such-name.invalid"}, 1, []string{"ask no-such-name.invalid:123", "hint: "}},
	} {
		var out strings.Builder
		if code := run(t.Context(), append([]string{"time", "check"}, c.args...), strings.NewReader(""), &out, &out); code != c.code {
			t.Errorf("%s: exit code %d\n%s", name, code, &out)
		}
		for _, want := range c.says {
			if !strings.Contains(out.String(), want) {
				t.Errorf("%s: %q is not in\n%s", name, want, &out)
			}
		}
	}
}
