package tunnels

import (
	"encoding/base64"
	"fmt"
	"net/netip"
	"time"

	"shekara/netctl/secret"
)

// PublicKey is a Curve25519 public key. It may be printed.
type PublicKey [32]byte

// ParsePublicKey reads the base64 form that wg(8) prints: 44 characters, canonical. The all-zero key is refused (RFC 7748, 6.1).
func ParsePublicKey(s string) (PublicKey, error) {
	b, err := base64.StdEncoding.Strict().DecodeString(s)
	if err != nil || len(b) != 32 || len(s) != 44 {
		return PublicKey{}, fmt.Errorf("%q is not a WireGuard public key (44 characters of base64)", s)
	}
	k := PublicKey(b)
	if k == (PublicKey{}) {
		return PublicKey{}, fmt.Errorf("the all-zero key is no key")
	}
	return k, nil
}

func (k PublicKey) String() string { return base64.StdEncoding.EncodeToString(k[:]) }

// DeviceSpec is a WireGuard device as it should be: one for each (far zone, environment, local peer), and for each tunnel
// whose addresses are translated, with its own key and port.
// It serves one local peer IP and so one address family outside.
type DeviceSpec struct {
	Name        string // link name, "sk-" and at most 15 bytes
	LocalPeer   string // name of the Peer document
	FarZone     string
	Environment string
	Tunnel      string     // the only one that it serves, by its document; "": any
	LocalIP     netip.Addr // the address that outer packets leave from; inside the NAT for a peer behind one
	Port        uint16
	Mark        uint32 // fwmark of outer packets; selects the outer route table
	MTU         int
	Engine      Engine // zero: whichever the driver prefers; a device that another engine made is then left with it
	PrivateKey  secret.Key
}

// Spec is one tunnel as seen from this box: a peer in a device.
type Spec struct {
	Tunnel       string     // name of the Tunnel document
	Device       string     // DeviceSpec.Name
	LocalIP      netip.Addr // DeviceSpec.LocalIP: Endpoint must be of its family. Zero: Diff takes it from the device, DiffPeer cannot check
	PublicKey    PublicKey
	PresharedKey secret.Key     // zero: none, and one that is there is removed
	Endpoint     netip.AddrPort // zero: wait for the far side. For one that is there see ForgetEndpoint
	Keepalive    time.Duration  // zero: none; whole seconds
	AllowedIPs   []netip.Prefix // sorted

	// ForgetEndpoint is for the one apply in which a document stops naming an endpoint: whatever endpoint the device has goes, by removing
	// the peer and adding it again, as WireGuard cannot unset one. Without it only an endpoint that never answered goes, and one
	// that the far side has spoken from stays: from the device they look alike, and a peer behind NAT lives by the latter.
	ForgetEndpoint bool
}

// Engine is what makes a device real.
type Engine string

const (
	Kernel    Engine = "kernel"
	Userspace Engine = "userspace"
)

// DeviceState is a WireGuard device as it is, seen now.
type DeviceState struct {
	Name       string
	Engine     Engine
	PublicKey  PublicKey
	PrivateKey secret.Key
	Port       uint16
	Mark       uint32
	MTU        int
	Up         bool
	Peers      map[PublicKey]PeerState
	Err        error // it is there and could not be read; then only Name is known, and Diff leaves it alone
}

// PeerState is a peer as it is. Counters are the device's: they begin again with it.
type PeerState struct {
	PublicKey     PublicKey
	PresharedKey  secret.Key
	Endpoint      netip.AddrPort // zero: none known
	Keepalive     time.Duration
	AllowedIPs    []netip.Prefix // sorted
	LastHandshake time.Time      // zero: never
	ReceivedBytes uint64
	SentBytes     uint64
}

// OpKind is what an Op does. PeerUpdate changes only what differs and never removes the peer first.
type OpKind uint8

const (
	DeviceAdd OpKind = iota
	DeviceUpdate
	DeviceDelete
	PeerAdd
	PeerUpdate
	PeerDelete
)

func (k OpKind) String() string {
	return [...]string{"add device", "update device", "delete device", "add peer", "update peer", "delete peer"}[k]
}

// Op is one step between state and spec.
type Op struct {
	Kind    OpKind
	Device  DeviceSpec // whole for DeviceAdd and DeviceUpdate; the Name alone for the others
	Peer    Spec       // for PeerAdd and PeerUpdate; Device and PublicKey (and Tunnel, if known) for PeerDelete
	Was     PeerState  // for PeerUpdate and PeerDelete
	Changes []string   // for updates: what differs, in words without secrets
}

// Failure is an Op that could not be done. The other Ops of the same call went on, except those of a device that could not be made.
type Failure struct {
	Op  Op
	Err error
}
