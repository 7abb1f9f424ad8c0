package document

// APIVersion is the only one so far.
const APIVersion = "shekara/v1"

// Kind is what a document describes.
type Kind string

const (
	KindZone         Kind = "Zone"
	KindSite         Kind = "Site"
	KindPeer         Kind = "Peer"
	KindTunnel       Kind = "Tunnel"
	KindFlow         Kind = "Flow"
	KindOrganisation Kind = "Organisation"
	KindSystem       Kind = "System"
	KindGateway      Kind = "Gateway"
	KindService      Kind = "Service"
	KindCryptoModule Kind = "CryptoModule"
	KindAssertion    Kind = "Assertion"
	KindEventSink    Kind = "EventSink"
	KindIncidentRule Kind = "IncidentRule"
	KindTimeService  Kind = "TimeService"
)

// Environment keeps test and production apart (VPN-11).
type Environment string

const (
	Test       Environment = "test"
	Production Environment = "production"
)

// Metadata names a document. A name is a DNS label: 1 to 63 of a-z, 0-9 and "-", beginning and ending with a letter or digit.
type Metadata struct {
	Name string `yaml:"name" doc:"unique among documents of the same kind; a DNS label, 1 to 63 characters"`
}

// Zone is a segment, known to all sites.
type Zone struct {
	Name           Names    `yaml:"name,omitempty" doc:"for people, in three languages"`
	Contour        string   `yaml:"contour" doc:"internal, external or integration"`
	Kind           string   `yaml:"kind" doc:"ets-go, lan, dedicated-segment, screened-subnet, partners, internet or management; which contour it may be of: SEG-01 in contours.md"`
	Organisation   string   `yaml:"organisation,omitempty" doc:"name of the Organisation whose segment it is; then every address of it that a Flow names is of a System or a Gateway (GWY-10)"`
	InternetAccess bool     `yaml:"internetAccess,omitempty" doc:"its hosts reach the Internet past this appliance: never to be joined to ETS GO (DEF-19)"`
	Prefixes       []string `yaml:"prefixes,omitempty" doc:"what the zone holds; empty only for kind internet: everything that no other zone claims"`
}

// Site is one appliance.
type Site struct {
	Lab        bool        `yaml:"lab,omitempty" doc:"documentation and private addresses are allowed as public peer IPs"`
	Peers      []string    `yaml:"peers" doc:"the Peer documents that this appliance is"`
	Interfaces []Interface `yaml:"interfaces" doc:"the host interfaces, each in exactly one zone"`
	Management Management  `yaml:"management,omitempty" doc:"who may reach the appliance itself; changed only within a confirm window"`
	Engine     string      `yaml:"engine,omitempty" doc:"auto (kernel where it can, else userspace), kernel or userspace" default:"auto"`
	Firewall   Firewall    `yaml:"firewall,omitempty" doc:"what holds the packet filter's rules"`
	Drift      string      `yaml:"drift,omitempty" doc:"what to do when the host differs from the revision: repair or report" default:"repair"`
	Unrecorded string      `yaml:"unrecorded,omitempty" doc:"what becomes of traffic while events cannot be recorded, as the journal's disk is full, broken or does not answer: forward (it goes on) or stop (nothing is forwarded until they can be)" default:"forward"`
	Journal    Journal     `yaml:"journal,omitempty" doc:"how long the record of events is kept, and what of the host is put there"`
	DNS        []string    `yaml:"dns,omitempty" doc:"resolvers that the appliance may ask, for endpoints by name"`
}

// Journal is what becomes of old records, and what the host says that is recorded. All that is kept stays on the appliance, where it is read as ever.
type Journal struct {
	Units []string `yaml:"units,omitempty" doc:"systemd units whose messages, as journald has them, are events (JRN-04); kernel stands for the kernel's warnings, none alone for no unit at all; of shekarad.service and shekara-export.service it is what systemd says of them. 32 at most" default:"chrony.service, kernel, shekara-close.service, shekara-export.service, shekara-time.service, shekarad.service, ssh.service, strongswan.service, systemd-journald.service, systemd-networkd.service, systemd-timesyncd.service"`
	Keep  string   `yaml:"keep,omitempty" doc:"calendar time after which a day's records may be removed, as 4y or 50mo; at least 3y (JRN-11)" default:"3y"`
}

const (
	NoUnits  = "none" // as the only one of Journal.Units
	MaxUnits = 32
)

// Firewall is how the packet filter is made real. What passes does not depend on it.
type Firewall struct {
	Engine string `yaml:"engine,omitempty" doc:"auto (nftables where the host can run it, else iptables), nftables or iptables (with ipset, for older kernels)" default:"auto"`
}

// Interface places a host interface in a zone. Shekara does not configure its addresses.
type Interface struct {
	Name      string   `yaml:"name" doc:"as ip link shows it"`
	Zone      string   `yaml:"zone" doc:"name of the Zone"`
	Addresses []string `yaml:"addresses,omitempty" doc:"with prefix length; what the host has on it, for uplinks: makes the link's own network reachable to outer packets"`
	Gateways  []string `yaml:"gateways,omitempty" doc:"next hops to the internet, at most one for IPv4 and one for IPv6; an interface that has the address of a Peer is its uplink"`
}

// Management is a named part of the filter that no other document can remove.
type Management struct {
	Zone  string   `yaml:"zone,omitempty" doc:"the zone whose interfaces management comes in by"`
	From  []string `yaml:"from,omitempty" doc:"source prefixes"`
	Allow []string `yaml:"allow,omitempty" doc:"services, as in Flow"`
}

// Peer is an address that terminates tunnels.
type Peer struct {
	Organisation string          `yaml:"organisation,omitempty" doc:"whose it is"`
	Side         string          `yaml:"side" doc:"initiator or owner"`
	PublicIP     string          `yaml:"publicIP" doc:"the address on the Internet, unique among active peers (DEF-09, VPN-01); other addresses only in a lab"`
	BehindNAT    bool            `yaml:"behindNAT,omitempty" doc:"another device holds publicIP and translates (VPN-02)"`
	InsideIP     string          `yaml:"insideIP,omitempty" doc:"with behindNAT: the address that the device itself has on its uplink"`
	Endpoint     string          `yaml:"endpoint,omitempty" doc:"host name that resolves to publicIP; empty: publicIP itself"`
	Inactive     bool            `yaml:"inactive,omitempty" doc:"kept for the record; takes part in nothing"`
	WireGuard    []WireGuardPort `yaml:"wireguard,omitempty" doc:"one for each far zone and environment that it serves"`
	IPsec        []IPsecIdentity `yaml:"ipsec,omitempty" doc:"identities for IPsec"`
}

// WireGuardPort is one WireGuard device of a peer.
type WireGuardPort struct {
	FarZone     string      `yaml:"farZone" doc:"the zone of the far ends that it serves"`
	Environment Environment `yaml:"environment" doc:"test or production"`
	Tunnel      string      `yaml:"tunnel,omitempty" doc:"the one Tunnel that the device serves: where this end hides its addresses, or the other is mapped or hides"`
	Port        int         `yaml:"port" doc:"UDP port, 1 to 65535; unique on one appliance"`
	PublicKey   string      `yaml:"publicKey,omitempty" doc:"base64; may be absent only for this appliance's own peers: the key is made on the box, and shekara peer export prints it"`
	MTU         int         `yaml:"mtu,omitempty" doc:"of the device, 576 to 65443, at least 1280 where IPv6 passes inside; the default fits a path of 1500 bytes with 20 to spare" default:"1420 where publicIP is IPv4, 1400 where it is IPv6"`
}

// IPsecIdentity is how a peer names itself in IKE.
type IPsecIdentity struct {
	Environment Environment `yaml:"environment" doc:"test or production"`
	Type        string      `yaml:"type" doc:"ip, fqdn or dn"`
	Value       string      `yaml:"value" doc:"the identity"`
}

// Tunnel joins exactly two peers (DEF-33).
type Tunnel struct {
	Environment  Environment `yaml:"environment" doc:"test or production"`
	Protocol     string      `yaml:"protocol" doc:"wireguard or ipsec"`
	Initiator    End         `yaml:"initiator" doc:"the end that asks"`
	Owner        End         `yaml:"owner" doc:"the end that owns the service"`
	PresharedKey string      `yaml:"presharedKey,omitempty" doc:"the name of a secret, never the secret"`
	Keepalive    int         `yaml:"keepalive,omitempty" doc:"seconds, 1 to 65535" default:"none, or 25 where an end is behind NAT"`
	IPsec        *IPsec      `yaml:"ipsec,omitempty" doc:"with protocol ipsec"`
	CryptoModule string      `yaml:"cryptoModule,omitempty" doc:"name of the CryptoModule that does the encryption: its level is the tunnel's (CRY-02)" default:"none, which is level 1"`
	Probe        bool        `yaml:"probe,omitempty" doc:"ask the far end's probeAddress every five seconds"`
	Limits       Limits      `yaml:"limits,omitempty" doc:"what the tunnel may take of each appliance that it passes through (VPN-08)"`
	Inactive     bool        `yaml:"inactive,omitempty" doc:"kept for the record; not made"`
}

// End is one end of a tunnel.
type End struct {
	Peer         string   `yaml:"peer" doc:"name of the Peer"`
	Zone         string   `yaml:"zone" doc:"the zone behind it"`
	Prefixes     []string `yaml:"prefixes" doc:"what is reached behind it, as hosts there have it; inside the zone, unless it is mapped and the other side alone looks"`
	Mapped       []string `yaml:"mapped,omitempty" doc:"by what the other side knows prefixes, one to one: as many, in the same order and of the same lengths; inside the zone; the other end's appliance translates"`
	Hide         []string `yaml:"hide,omitempty" doc:"what stands in the tunnel instead of prefixes: as many, in the same order and of the same lengths, or one single address for each family, and then nobody opens connections to this end; this end's appliance translates (HID-01)"`
	ProbeAddress string   `yaml:"probeAddress,omitempty" doc:"an address inside prefixes that answers echo; the appliance that holds it probes from it"`
}

// Limits are of what passes through an appliance; what it sends itself, and its probes, are not counted. The numbers' bounds are those of firewall.
type Limits struct {
	NewPerSecond  int `yaml:"newPerSecond,omitempty" doc:"connections opened in a second, 1 to 100000, of both directions together; what is not used is kept for a second" default:"any number"`
	Connections   int `yaml:"connections,omitempty" doc:"connections at a time, 1 to 10000, of both directions together: those that connection tracking knows and does not call closed; with thousands give newPerSecond too, for counting them costs the appliance some microseconds at each new one" default:"any number"`
	MbitPerSecond int `yaml:"mbitPerSecond,omitempty" doc:"megabits (10^6 bits) of IP packets in a second, 1 to 100000, for each direction on its own; what is not used is kept for a second" default:"any number"`
}

// IPsec is decoded and checked; applying it answers "not yet".
type IPsec struct {
	Encapsulation string   `yaml:"encapsulation" doc:"esp or ah"`
	Proposals     []string `yaml:"proposals,omitempty" doc:"for the child, as in swanctl.conf"`
	IKEProposals  []string `yaml:"ikeProposals,omitempty" doc:"as in swanctl.conf"`
}

// Flow lets connections be opened. Nothing else passes. Either Tunnel is set, or FromZone and ToZone are.
type Flow struct {
	Tunnel   string   `yaml:"tunnel,omitempty" doc:"through which tunnel"`
	FromZone string   `yaml:"fromZone,omitempty" doc:"between zones: where it begins"`
	ToZone   string   `yaml:"toZone,omitempty" doc:"between zones: where it ends"`
	From     []string `yaml:"from" doc:"source prefixes; of one family with to, inside one end's prefixes or the zone's"`
	To       []string `yaml:"to" doc:"destination prefixes, inside the other end's prefixes or the zone's"`
	Allow    []string `yaml:"allow" doc:"tcp/443, udp/5000-5010, icmp, icmpv6, tcp (all ports, also 0; write it so rather than tcp/1-65535, which takes 16 set elements)"`
	Service  string   `yaml:"service,omitempty" doc:"name of the Service that is used, where the contour rules ask for it (GWY-02, GWY-04)"`
	Waiver   *Waiver  `yaml:"waiver,omitempty" doc:"lets the flow pass though it breaks a contour rule that allows waivers"`
}

// Waiver is a decision of a person to let a Flow break a contour rule for a time (ARC-03).
type Waiver struct {
	Reason   string `yaml:"reason" doc:"why; for those who read the report"`
	Approver string `yaml:"approver" doc:"who decided"`
	Expires  string `yaml:"expires" doc:"the last day it holds, as 2026-12-31, by the calendar of Asia/Almaty"`
}

// Assertion is what must hold of all flows together. It lets nothing pass: an apply that breaks it is refused.
type Assertion struct {
	Site    string   `yaml:"site" doc:"name of the Site whose appliance it is about"`
	Require string   `yaml:"require" doc:"mustReach: all connections that are named can be opened; mustNotReach: none of them can"`
	From    []string `yaml:"from" doc:"source prefixes; of one family with to; as hosts on the Site's side write them, mapped ones too. What the appliance sends by no document, as it may to its zones, is asked only where its address stands alone, as 10.20.0.1/32: a wider prefix is of the hosts in it"`
	To      []string `yaml:"to" doc:"destination prefixes, as hosts on the Site's side write them"`
	Service string   `yaml:"service" doc:"as in Flow: tcp/443, udp/5000-5010, icmp, tcp (every port)"`
}
