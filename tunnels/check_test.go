package tunnels_test

import (
	"crypto/ecdh"
	"encoding/hex"
	"net/netip"
	"strings"
	"testing"
	"time"

	"shekara/tunnels"
)

// TestLowOrderPoints: the ones we refuse are those with which X25519 gives zero, by the standard library's word.
func TestLowOrderPoints(t *testing.T) {
	private, err := ecdh.X25519().NewPrivateKey([]byte("any thirty-two bytes will do here"[:32]))
	if err != nil {
		t.Fatal(err)
	}
	points := []string{
		"0000000000000000000000000000000000000000000000000000000000000000",
		"0100000000000000000000000000000000000000000000000000000000000000",
		"e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800",
		"5f9c95bca3508c24b1d0b1559c83ef5b04445cc4581c8e86d8224eddd09f1157",
		"ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
		"edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
		"eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
	}
	for _, text := range points {
		for _, highBit := range []byte{0, 0x80} {
			raw, err := hex.DecodeString(text)
			if err != nil {
				t.Fatal(err)
			}
			raw[31] |= highBit
			remote, err := ecdh.X25519().NewPublicKey(raw)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := private.ECDH(remote); err == nil {
				t.Errorf("%x is not of low order", raw)
			}
			if (tunnels.Spec{PublicKey: tunnels.PublicKey(raw)}).Check() == nil {
				t.Errorf("%x is not refused", raw)
			}
		}
	}
	if err := (tunnels.Spec{PublicKey: public(1)}).Check(); err != nil {
		t.Errorf("a good key is refused: %v", err)
	}
}

func TestCheck(t *testing.T) {
	v4, v6 := netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("2001:db8::1")
	good := tunnels.Spec{Device: "sk-d", PublicKey: public(1), LocalIP: v4, Endpoint: netip.MustParseAddrPort("198.51.100.1:51820"),
		Keepalive: 25 * time.Second, AllowedIPs: []netip.Prefix{prefix(0), prefix(1)}}
	if err := good.Check(); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		change func(*tunnels.Spec)
		say    string
	}{
		{func(s *tunnels.Spec) { s.LocalIP = v6 }, "device sk-d serves 2001:db8::1, which is IPv6: a device serves one address family"},
		{func(s *tunnels.Spec) { s.Endpoint = netip.MustParseAddrPort("[2001:db8::2]:1") }, "[2001:db8::2]:1 is IPv6, but device sk-d serves 192.0.2.1"},
		{func(s *tunnels.Spec) { s.Endpoint = netip.MustParseAddrPort("198.51.100.1:0") }, "has no port"},
		{func(s *tunnels.Spec) { s.Endpoint = netip.MustParseAddrPort("0.0.0.0:1") }, "not the address of one host"},
		{func(s *tunnels.Spec) { s.Keepalive = time.Millisecond }, "whole seconds"},
		{func(s *tunnels.Spec) { s.Keepalive = 65536 * time.Second }, "65535"},
		{func(s *tunnels.Spec) { s.AllowedIPs = []netip.Prefix{netip.MustParsePrefix("10.0.0.1/24")} }, "10.0.0.1/24 is not a network prefix"},
	} {
		s := good
		c.change(&s)
		if err := s.Check(); err == nil || !strings.Contains(err.Error(), c.say) {
			t.Errorf("%v, want ...%s...", err, c.say)
		}
	}
	device := tunnels.DeviceSpec{Name: "sk-d", Port: 1, MTU: 1420, PrivateKey: key(1)}
	if err := device.Check(); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"", "sk-", "eth0", "sk-with/slash", "sk-Upper", "sk-longer-than-15"} {
		d := device
		if d.Name = name; d.Check() == nil {
			t.Errorf("device name %q is taken", name)
		}
	}
}
