package compile

import (
	"net/netip"

	"shekara/firewall"
	"shekara/netctl"
	"shekara/timesync"
	"shekara/tunnels"
)

// Desired is what one box should hold. Base belongs to the Site, its peers and the zones; each Tunnel stands by itself, so that
// one tunnel can be compiled, compared and applied without looking at the others.
type Desired struct {
	Site    string
	Base    Base
	Tunnels map[string]Tunnel // by name of the Tunnel document; those that end here and are active
	Flows   map[string]Flow   // flows between zones, by name; those of a tunnel stand in Tunnel
}

// Base is everything that is not one tunnel's.
type Base struct {
	Devices    map[string]Device // by link name
	Network    netctl.Spec       // outer tables, rules, sysctls
	Zones      []firewall.Zone
	Interfaces []firewall.Interface
	Management firewall.Management
	DNS        []netip.Addr
	Repair     bool // drift is repaired, else reported
	// StopUnrecorded: nothing is forwarded while events cannot be recorded; else traffic goes on.
	StopUnrecorded bool
	Units          []string // systemd units whose messages are put on record, sorted
	KeepMonths     int      // calendar months that the journal's records are kept; 0: the least
	Engine         string   // auto, kernel, userspace
	Filter         firewall.Engine
	Lab            bool
	Time           *timesync.Spec // nil: the site has no time service
	Offers         []firewall.Offer
}

// Device is a tunnel device without its private key, which the secret KeyName holds; PublicKey is what the documents say, if they do.
type Device struct {
	Spec      tunnels.DeviceSpec // PrivateKey zero
	KeyName   string             // "wireguard/<peer>.<far zone>.<environment>", and ".<tunnel>" where it serves that one alone
	PublicKey tunnels.PublicKey  // zero: the document leaves it to the box
	Filter    firewall.Device
}

// Tunnel is one tunnel's share: a peer in a device, its routes, its holes in the filter.
type Tunnel struct {
	Name         string
	Unsupported  string       // not "": why it cannot be applied yet ("ipsec: not yet"); nothing else is set
	Spec         tunnels.Spec // PresharedKey and Endpoint zero: filled at apply from PresharedKeyName and EndpointHost
	PresharedKey string       // name of the secret, "" for none
	EndpointHost string       // host name or address; "" for a far end behind NAT
	EndpointPort uint16
	ExpectIP     netip.Addr     // what EndpointHost must resolve to
	Known        []netip.Prefix // what is behind the far end, as this side writes it
	Routes       []netctl.Route
	Port         firewall.TunnelPort
	Flows        []firewall.Flow
	Probe        *firewall.Probe
	Limit        *firewall.Limit
	ProbeEvery   int // seconds; 0: no probe
}

// Flow is a flow between two zones.
type Flow struct{ Flow firewall.Flow }
