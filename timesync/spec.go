package timesync

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"net"
	"net/netip"
	"strings"
	"time"
)

// Engine is who asks the sources and serves.
type Engine string

const (
	EngineOwn    Engine = "own"    // source and server; whoever steers the clock goes on doing so, and is watched
	EngineChrony Engine = "chrony" // chronyd, by a configuration of ours, and it steers the clock too where it is let
)

// Spec is what a TimeService document asks of this box. It holds no secret: files on the box are named, and read by who needs them.
type Spec struct {
	Name     string   `json:"name"`             // of the document
	Engine   Engine   `json:"engine,omitempty"` // "": own
	Sources  []Source `json:"sources,omitempty"`
	Agreeing int      `json:"agreeing"` // so many sources must agree, or the clock is not synchronised (TIM-01)
	// MaxDistance is the root distance above which the clock is not synchronised (RFC 5905 section 11.2.3: half the root delay, and all dispersion).
	MaxDistance time.Duration `json:"maxDistance"`
	WarnOffset  time.Duration `json:"warnOffset"` // from this offset on, either way, a warning is due
	Withhold    bool          `json:"withhold"`   // leave requests unanswered while not synchronised; else the answer says leap 3, stratum 16

	Addresses []netip.Addr `json:"addresses,omitempty"` // the box's own, at which it serves; none: it only watches its clock
	Clients   []Client     `json:"clients,omitempty"`   // who is answered; nobody else is
	KeyFile   string       `json:"keyFile,omitempty"`   // symmetric keys in the manner of ntp.keys(5); used with sources and with clients
	NTS       *NTS         `json:"nts,omitempty"`       // nil: NTS is not served
}

// Digest tells Specs apart: of two that ask the same it is the same.
func (s *Spec) Digest() string {
	text, err := json.Marshal(s)
	if err != nil {
		return "" // it holds nothing that cannot be encoded
	}
	sum := sha256.Sum256(text)
	return hex.EncodeToString(sum[:8])
}

// SystemOf is the registered system whose prefix, the longest, an address is in; of two with the same prefix the first.
func (s *Spec) SystemOf(a netip.Addr) (system string, registered bool) {
	longest := -1
	for _, c := range s.Clients {
		for _, p := range c.Prefixes {
			if p.Bits() > longest && p.Contains(a) {
				system, longest = c.System, p.Bits()
			}
		}
	}
	return system, longest >= 0
}

// Source is a server that is asked the time.
type Source struct {
	Name       string `json:"name"`
	Address    string `json:"address"`              // host and port: 192.0.2.1:123, [2001:db8::1]:123, time.example.org:123; with NTS the port of key establishment, 4460
	NTS        bool   `json:"nts,omitempty"`        // authenticated by NTS (RFC 8915)
	CA         string `json:"ca,omitempty"`         // with NTS: file of certificates (PEM) that the server's may be from; "": the host's
	ServerName string `json:"serverName,omitempty"` // with NTS: the name in its certificate; "": the host of Address
	Key        uint32 `json:"key,omitempty"`        // authenticated by this key of Spec.KeyFile; 0: by none
}

// Host is that of Address, in the one way that it is written in: two sources with the same are one. "": Address cannot be read.
func (s Source) Host() string {
	host, _, err := net.SplitHostPort(s.Address)
	if err != nil {
		return ""
	}
	if a, err := netip.ParseAddr(host); err == nil {
		return a.String()
	}
	return strings.ToLower(strings.TrimSuffix(host, "."))
}

// Client is a registered system that may ask.
type Client struct {
	System   string         `json:"system"` // name of its System document
	Prefixes []netip.Prefix `json:"prefixes"`
	Key      uint32         `json:"key,omitempty"` // it must authenticate by this key of Spec.KeyFile; 0: it need not
	NTS      bool           `json:"nts,omitempty"` // it must authenticate by NTS
}

// NTS is how keys for it are established (RFC 8915 section 4), at Spec.Addresses.
type NTS struct {
	Certificate string `json:"certificate"` // file (PEM)
	Key         string `json:"key"`         // file (PEM), of its private key
}
