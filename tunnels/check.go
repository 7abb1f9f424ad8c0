package tunnels

import (
	"crypto/ecdh"
	"fmt"
	"net/netip"
	"strings"
	"time"

	"shekara/netctl"
	"shekara/netctl/secret"
)

const (
	maxLinkName   = 15    // IFNAMSIZ less its final zero
	maxKeepalive  = 65535 // seconds, 16 bits on both configuration protocols
	minMTU        = 576   // RFC 791: what every IPv4 host takes. IPv6 inside needs 1280, which the compiler asks for
	maxMTU        = 65535 - 60 - 32
	maxAllowedIPs = 10_000 // of one peer: bounds what one tunnel can cost
)

// PublicKeyOf gives the public key of a private one.
func PublicKeyOf(private secret.Key) (PublicKey, error) {
	raw := private.Reveal()
	key, err := ecdh.X25519().NewPrivateKey(raw[:])
	if err != nil || private.IsZero() {
		return PublicKey{}, fmt.Errorf("derive public key: no private key")
	}
	return PublicKey(key.PublicKey().Bytes()), nil
}

// Check says what is wrong with a device before anything is asked of an engine.
func (d DeviceSpec) Check() error {
	switch {
	case !strings.HasPrefix(d.Name, netctl.LinkPrefix) || len(d.Name) > maxLinkName || len(d.Name) == len(netctl.LinkPrefix) || !plainName(d.Name):
		return fmt.Errorf("device name %q is not %s and at most %d letters, digits and dashes", d.Name, netctl.LinkPrefix, maxLinkName)
	case d.PrivateKey.IsZero():
		return fmt.Errorf("device %s has no private key", d.Name)
	case d.Port == 0:
		return fmt.Errorf("device %s has no port", d.Name)
	case d.MTU < minMTU || d.MTU > maxMTU:
		return fmt.Errorf("device %s has MTU %d, not between %d and %d", d.Name, d.MTU, minMTU, maxMTU)
	}
	return nil
}

// plainName keeps a name that is used in paths and unit names to what needs no escaping in either.
func plainName(s string) bool {
	for _, c := range s {
		if (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '-' {
			return false
		}
	}
	return true
}

// Check says what is wrong with a peer before anything is asked of an engine. What the engines take in silence and then never do is
// refused here: a public key of low order (RFC 7748, 6.1: no shared secret ever comes of it), an endpoint of the other
// address family than the device's local IP.
func (s Spec) Check() error {
	if lowOrder(s.PublicKey) {
		return fmt.Errorf("public key %s is of low order: no handshake can succeed with it", s.PublicKey)
	}
	if s.Endpoint.IsValid() {
		if err := s.checkEndpoint(); err != nil {
			return err
		}
	}
	if s.Keepalive < 0 || s.Keepalive > maxKeepalive*time.Second || s.Keepalive%time.Second != 0 {
		return fmt.Errorf("keepalive %s is not whole seconds between 0 and %d", s.Keepalive, maxKeepalive)
	}
	if len(s.AllowedIPs) > maxAllowedIPs {
		return fmt.Errorf("%d allowed IPs, at most %d", len(s.AllowedIPs), maxAllowedIPs)
	}
	for _, p := range s.AllowedIPs {
		if !p.IsValid() || p != p.Masked() || p.Addr().Is4In6() || p.Addr().Zone() != "" {
			return fmt.Errorf("allowed IP %s is not a network prefix", p)
		}
	}
	return nil
}

func (s Spec) checkEndpoint() error {
	addr := s.Endpoint.Addr()
	switch {
	case s.Endpoint.Port() == 0:
		return fmt.Errorf("endpoint %s has no port", s.Endpoint)
	case addr.Is4In6() || addr.Zone() != "" || addr.IsUnspecified() || addr.IsMulticast():
		return fmt.Errorf("endpoint %s is not the address of one host", s.Endpoint)
	case s.LocalIP.IsValid() && s.LocalIP.Is4() != addr.Is4():
		// Also keeps us off a defect of the userspace engine: a send to IPv6 after one to IPv4 through the same Bind can go to a wrong host.
		return fmt.Errorf("endpoint %s is %s, but device %s serves %s, which is %s: a device serves one address family",
			s.Endpoint, family(addr), s.Device, s.LocalIP, family(s.LocalIP))
	}
	return nil
}

func family(a netip.Addr) string {
	if a.Is4() {
		return "IPv4"
	}
	return "IPv6"
}

// lowOrder knows the encodings of Curve25519 points of small order. X25519 with any of them gives zero, which Noise must refuse.
// The highest bit of the last byte is ignored by X25519 (RFC 7748, 5).
func lowOrder(k PublicKey) bool {
	k[31] &= 0x7f
	rest := func(first, middle, last byte) PublicKey {
		var p PublicKey
		for i := range p {
			p[i] = middle
		}
		p[0], p[31] = first, last
		return p
	}
	switch k {
	case rest(0x00, 0x00, 0x00), rest(0x01, 0x00, 0x00), // 0 and 1
		rest(0xec, 0xff, 0x7f), rest(0xed, 0xff, 0x7f), rest(0xee, 0xff, 0x7f), // p-1, p and p+1
		PublicKey{0xe0, 0xeb, 0x7a, 0x7c, 0x3b, 0x41, 0xb8, 0xae, 0x16, 0x56, 0xe3, 0xfa, 0xf1, 0x9f, 0xc4, 0x6a,
			0xda, 0x09, 0x8d, 0xeb, 0x9c, 0x32, 0xb1, 0xfd, 0x86, 0x62, 0x05, 0x16, 0x5f, 0x49, 0xb8, 0x00}, // order 8
		PublicKey{0x5f, 0x9c, 0x95, 0xbc, 0xa3, 0x50, 0x8c, 0x24, 0xb1, 0xd0, 0xb1, 0x55, 0x9c, 0x83, 0xef, 0x5b,
			0x04, 0x44, 0x5c, 0xc4, 0x58, 0x1c, 0x8e, 0x86, 0xd8, 0x22, 0x4e, 0xdd, 0xd0, 0x9f, 0x11, 0x57}: // order 8
		return true
	}
	return false
}
