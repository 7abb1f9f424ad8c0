package firewall

import (
	"bytes"
	"testing"
)

func TestKey(t *testing.T) {
	key, err := Key("flow4_28_32_16", "0x00802000 . 10.64.1.16 . 10.20.0.10 . 6 . 443")
	want := []byte{0, 0, 0, 0, 10, 64, 1, 16, 10, 20, 0, 10, 6, 0, 0, 0, 443 >> 8, 443 & 0xff, 0, 0}
	if err != nil || len(key) != len(want) || !bytes.Equal(key[4:], want[4:]) { // the mark is in the processor's byte order
		t.Errorf("%x, %v", key, err)
	}
	key, err = Key("probe_out6", `"sk-a" . fd00:64::1`)
	want = append(append([]byte("sk-a"), make([]byte, 12)...), 0xfd, 0, 0, 0x64, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1)
	if err != nil || !bytes.Equal(key, want) {
		t.Errorf("%x, %v", key, err)
	}
	for _, bad := range [][2]string{
		{"flow4_28_32", "0x00802000 . 10.64.1.16 . 10.20.0.10"}, {"flow4_28_32", "0x00802000 . 10.64.1.16 . 10.20.0.10 . 256"}, {"flow4_28_32", "0x100802000 . 10.64.1.16 . 10.20.0.10 . 6"},
		{"flow4_28_32_16", "0x00802000 . 10.64.1.16 . 10.20.0.10 . 6 . 65536"}, {"flow4_28_32", "0x00802000 . fd00::1 . 10.20.0.10 . 6"}, {"flow6_64_64", "0x00802000 . ::ffff:10.0.0.1%lo . fd00::1 . 6"},
		{"probe_out4", `"sixteen-letters!" . 10.64.1.1`}, {"probe_out4", ""}, {"limit_in4_28", `"sk-a" . 10.64.1.0 : jump limit_in_agency-a`}, {Limits, "agency-a . 20 . 100 . 8"}, {"nothing", "1"},
	} {
		if key, err := Key(bad[0], bad[1]); err == nil {
			t.Errorf("set %s: %q is %x", bad[0], bad[1], key)
		}
	}
}
