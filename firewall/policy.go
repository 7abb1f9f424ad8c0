package firewall

import (
	"fmt"
	"net/netip"
)

// Policy is who may reach what on this box. Nothing else passes. Its addresses are those that hosts on this box's side of the tunnels use;
// a device's Translation says how they stand in packets on the device.
type Policy struct {
	Zones      []Zone
	Interfaces []Interface
	Devices    []Device
	Ports      []TunnelPort
	Flows      []Flow
	Probes     []Probe
	Offers     []Offer // what the box itself serves
	Limits     []Limit // what single tunnels may take; they allow nothing
	Management Management
	DNS        []netip.Addr // resolvers that the box itself may ask; answers come back as established
	Engine     Engine       // what makes it real; it changes nothing of what passes
}

// Engine is which of the kernel's packet filters holds the rules.
type Engine string

const (
	AnyEngine Engine = ""         // the first below that the host can run
	NFTables  Engine = "nftables" // firewall/nft
	IPTables  Engine = "iptables" // firewall/iptables, for older kernels
)

// Zone is a segment that this box touches or reaches. Prefixes empty: everything that no other zone and no tunnel claims (the internet).
type Zone struct {
	Name     string
	Prefixes []netip.Prefix
}

// Interface places a host interface in one zone.
type Interface struct {
	Name string
	Zone string
}

// Device is a tunnel device: packets that arrive on it come from FarZone.
type Device struct {
	Name    string // link name
	FarZone string
	LocalIP netip.Addr // outer source; marked packets with any other are dropped
	Port    uint16
	Mark    uint32
	MTU     int // TCP MSS is clamped to it
	// Sources may arrive, in the notation of packets on the device; none: what FarZone holds.
	Sources []netip.Prefix
	// Translation of addresses, of the one tunnel that the device then serves; nil: they pass as they are.
	Translation *Translation
}

// TunnelPort lets one registered peer address talk to a device's port, at its LocalIP only.
type TunnelPort struct {
	Tunnel string
	Device string
	From   netip.Addr // zero: any address, for a Peer behind NAT
}

// Place is where packets enter or leave: a tunnel device or a zone's interfaces. Exactly one is set.
type Place struct {
	Device string
	Zone   string
}

// Flow lets connections be opened From -> To, from Sources to Destinations, to Services. Answers pass as established. Sources may be this
// box's own addresses: then it may open them too. Destinations never stand for the box itself: of what others open only management, probes,
// tunnel ports and offers end there.
type Flow struct {
	Name         string // of the Flow document
	Tunnel       string // of the Tunnel document, or ""
	From, To     Place
	Sources      []netip.Prefix
	Destinations []netip.Prefix
	Services     []Service
}

// Protocol is an IP protocol number.
type Protocol uint8

const (
	ICMP   Protocol = 1
	TCP    Protocol = 6
	UDP    Protocol = 17
	ICMPv6 Protocol = 58
	SCTP   Protocol = 132
)

// Service is a protocol and, for those that have ports, a range of destination ports (both 0: all ports, also port 0; 1 to 65535: without it).
type Service struct {
	Protocol  Protocol
	FirstPort uint16
	LastPort  uint16
}

func (s Service) String() string {
	name := map[Protocol]string{ICMP: "icmp", TCP: "tcp", UDP: "udp", ICMPv6: "icmpv6", SCTP: "sctp"}[s.Protocol]
	switch {
	case s.LastPort == 0:
		return name
	case s.FirstPort == s.LastPort:
		return fmt.Sprintf("%s/%d", name, s.FirstPort)
	default:
		return fmt.Sprintf("%s/%d-%d", name, s.FirstPort, s.LastPort)
	}
}

// Probe lets echo requests through a tunnel: out from this box, whatever its source, and in to Local from the far end's Remote.
type Probe struct {
	Tunnel string
	Device string
	Local  netip.Addr // address inside the local prefixes that answers echo; zero: none
	Remote netip.Addr // address inside the far prefixes that is asked; zero: none
}

// Offer is a service of the box itself, as the time: connections may be opened From a place, by Sources, to the box's own Addresses. Answers pass as
// established. What an administrator needs is Management, which needs no offer.
type Offer struct {
	Name      string // of the document that asks for it
	From      Place
	Sources   []netip.Prefix
	Addresses []netip.Addr // of the box, as hosts on this side of the tunnels write them
	Services  []Service
}

// Management is who may reach the box itself, and for what.
type Management struct {
	Zone     string
	From     []netip.Prefix
	Services []Service
}
