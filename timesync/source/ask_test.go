package source

import (
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"shekara/timesync"
	"shekara/timesync/ntp"
)

func TestAsk(t *testing.T) {
	for name, c := range map[string]struct {
		change    func(*ntp.Header)
		good      bool
		reason    string
		reference string
	}{
		"good":             {func(*ntp.Header) {}, true, "a client would follow it", "192.0.2.5"},
		"a clock":          {func(h *ntp.Header) { h.Stratum, h.ReferenceID = 1, 'G'<<24|'P'<<16|'S'<<8 }, true, "a client would follow it", "GPS"},
		"not synchronised": {func(h *ntp.Header) { h.Leap, h.Stratum, h.ReferenceID = timesync.LeapUnknown, 0, 0 }, false, "not synchronised", ""},
		"a kiss":           {func(h *ntp.Header) { h.Stratum, h.ReferenceID = 0, ntp.KissRate }, false, `"RATE"`, "RATE"},
		"far":              {func(h *ntp.Header) { h.RootDispersion = ntp.ShortOf(3 * time.Second) }, false, "may be wrong by 3.", "192.0.2.5"},
		"a bad clock":      {func(h *ntp.Header) { h.Stratum, h.ReferenceID = 1, 7 }, true, "", "00000007"},
	} {
		address := serve(t, func(_ ntp.Packet, h ntp.Header) []byte { c.change(&h); return h.Append(nil) })
		l, err := Ask(t.Context(), Question{Address: address})
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if l.Good != c.good || !strings.Contains(l.Reason, c.reason) || l.Reference != c.reference || l.Authentication != "none" || l.Peer.String() != "127.0.0.1" || l.Version != 4 {
			t.Errorf("%s: %+v", name, l)
		}
		if l.Good && (l.Distance < l.Delay/2 || l.Offset.Abs() > l.Distance+time.Second) {
			t.Errorf("%s: offset %s, delay %s, distance %s", name, l.Offset, l.Delay, l.Distance)
		}
	}
	var asked atomic.Int32
	late := serve(t, func(_ ntp.Packet, h ntp.Header) []byte {
		if asked.Add(1) == 1 {
			return nil
		}
		return h.Append(nil)
	})
	if _, err := Ask(t.Context(), Question{Address: late}); err != nil || asked.Load() < 2 {
		t.Errorf("a lost packet: asked %d times, %v", asked.Load(), err)
	}
	if _, err := Ask(t.Context(), Question{Address: late, Key: 1, KeyFile: "nowhere"}); err == nil || !strings.Contains(err.Error(), "nowhere") {
		t.Errorf("a key file that is not there: %v", err)
	}
	if _, err := Ask(t.Context(), Question{Address: late, NTS: true, CA: "nowhere"}); err == nil || !strings.Contains(err.Error(), "nowhere") {
		t.Errorf("a file of certificates that is not there: %v", err)
	}
}
