package oracle

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v4"
)

// Packet opens a connection, or is one by itself. It is judged by where its sender and its receiver truly are, not by what it says.
type Packet struct {
	From        Location
	To          Location
	Source      netip.Addr // as written in it; may be a lie
	Destination netip.Addr
	Protocol    string // tcp, udp, icmp, icmpv6, sctp, or what no document can name
	Port        uint16 // destination; 0 for ICMP
	Later       bool   // a fragment without the first one, which alone names ports
}

// Location is where a host stands: in a zone, and behind a Peer, which is "" for hosts that no appliance protects.
// A host with Appliance set is the appliance (or its foreign counterpart) itself.
type Location struct {
	Zone      string
	Peer      string
	Appliance bool
}

// Oracle knows a set of documents.
type Oracle struct {
	zones   map[string]zone
	peers   map[string]peer
	tunnels map[string]tunnel
	flows   map[string]flow
	sites   map[string]site
}

type zone struct {
	Contour  string   `yaml:"contour"`
	Kind     string   `yaml:"kind"`
	Prefixes []string `yaml:"prefixes"`
}

type peer struct {
	PublicIP string `yaml:"publicIP"`
	Inactive bool   `yaml:"inactive"`
}

type end struct {
	Peer         string   `yaml:"peer"`
	Zone         string   `yaml:"zone"`
	Prefixes     []string `yaml:"prefixes"`
	Mapped       []string `yaml:"mapped"`
	Hide         []string `yaml:"hide"`
	ProbeAddress string   `yaml:"probeAddress"`
}

type tunnel struct {
	Protocol  string `yaml:"protocol"`
	Initiator end    `yaml:"initiator"`
	Owner     end    `yaml:"owner"`
	Probe     bool   `yaml:"probe"`
	Inactive  bool   `yaml:"inactive"`
}

type flow struct {
	Tunnel   string   `yaml:"tunnel"`
	FromZone string   `yaml:"fromZone"`
	ToZone   string   `yaml:"toZone"`
	From     []string `yaml:"from"`
	To       []string `yaml:"to"`
	Allow    []string `yaml:"allow"`
}

type site struct {
	Peers      []string `yaml:"peers"`
	Management struct {
		Zone  string   `yaml:"zone"`
		From  []string `yaml:"from"`
		Allow []string `yaml:"allow"`
	} `yaml:"management"`
}

// maxDocuments bounds the input.
const maxDocuments = 100_000

// Read takes in YAML files. A later document of the same kind and name replaces an earlier one.
func Read(files ...[]byte) (*Oracle, error) {
	o := &Oracle{zones: map[string]zone{}, peers: map[string]peer{}, tunnels: map[string]tunnel{}, flows: map[string]flow{}, sites: map[string]site{}}
	documents := 0
	for _, file := range files {
		decoder := yaml.NewDecoder(bytes.NewReader(file))
		for {
			var head struct {
				Kind     string `yaml:"kind"`
				Metadata struct {
					Name string `yaml:"name"`
				} `yaml:"metadata"`
				Spec yaml.Node `yaml:"spec"`
			}
			err := decoder.Decode(&head)
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil {
				return nil, fmt.Errorf("read documents: %w", err)
			}
			if documents++; documents > maxDocuments {
				return nil, fmt.Errorf("read documents: more than %d", maxDocuments)
			}
			if err := o.add(head.Kind, head.Metadata.Name, head.Spec); err != nil {
				return nil, fmt.Errorf("read %s %s: %w", head.Kind, head.Metadata.Name, err)
			}
		}
	}
	return o, nil
}

func (o *Oracle) add(kind, name string, spec yaml.Node) error {
	switch kind {
	case "Zone":
		return keep(o.zones, name, spec)
	case "Peer":
		return keep(o.peers, name, spec)
	case "Tunnel":
		return keep(o.tunnels, name, spec)
	case "Flow":
		return keep(o.flows, name, spec)
	case "Site":
		return keep(o.sites, name, spec)
	}
	return nil // other kinds let nothing pass
}

func keep[T any](into map[string]T, name string, spec yaml.Node) error {
	var value T
	if err := spec.Decode(&value); err != nil {
		return err
	}
	into[name] = value
	return nil
}

// Judges reports whether an appliance stands between sender and receiver: a Peer that a Site lists, or one to which both have a
// tunnel. Where only foreign devices do, or nothing at all, documents decide nothing.
func (o *Oracle) Judges(p Packet) bool {
	if p.From == p.To && !p.From.Appliance {
		return false
	}
	for _, s := range o.sites {
		for _, name := range s.Peers {
			if name == p.From.Peer || name == p.To.Peer || o.joined(name, p.From.Peer) && o.joined(name, p.To.Peer) {
				return true
			}
		}
	}
	return false
}

// joined reports whether there is a tunnel between two peers.
func (o *Oracle) joined(a, b string) bool {
	for _, t := range o.tunnels {
		if t.Initiator.Peer == a && t.Owner.Peer == b || t.Initiator.Peer == b && t.Owner.Peer == a {
			return true
		}
	}
	return false
}

// Allowed says whether the packet should arrive, and by which document or for want of what. It is asked only what Judges accepts.
func (o *Oracle) Allowed(p Packet) (bool, string) {
	if p.Later {
		return false, "a later fragment alone belongs to no connection"
	}
	if p.To.Appliance {
		return o.allowedToAppliance(p)
	}
	if p.From.Appliance && p.From.Peer == p.To.Peer {
		return true, "an appliance speaks to its own zones"
	}
	if name := o.asked(p); name != "" {
		return true, "probe of tunnel " + name
	}
	refusal := "no flow allows it"
	for _, name := range sortedNames(o.flows) {
		f := o.flows[name]
		why := ""
		if f.Tunnel != "" {
			why = o.throughTunnel(f, p)
		} else {
			why = o.betweenZones(f, p)
		}
		if why == "" {
			return true, "flow " + name
		}
		if why != "elsewhere" {
			refusal = "flow " + name + ": " + why
		}
	}
	return false, refusal
}

// throughTunnel says why a tunnel's flow does not let the packet pass; "" if it does.
func (o *Oracle) throughTunnel(f flow, p Packet) string {
	t, known := o.tunnels[f.Tunnel]
	if !known || t.Inactive || t.Protocol != "wireguard" || o.peers[t.Initiator.Peer].Inactive || o.peers[t.Owner.Peer].Inactive {
		return "its tunnel is not there"
	}
	var near, far end
	switch {
	case t.Initiator.Peer == p.From.Peer && t.Owner.Peer == p.To.Peer:
		near, far = t.Initiator, t.Owner
	case t.Owner.Peer == p.From.Peer && t.Initiator.Peer == p.To.Peer:
		near, far = t.Owner, t.Initiator
	default:
		return "elsewhere"
	}
	switch {
	case !p.From.Appliance && p.From.Zone != near.Zone: // an appliance sends from its address in that zone
		return "the sender is not in zone " + near.Zone
	case p.To.Zone != far.Zone:
		return "the receiver is not in zone " + far.Zone
	case !within(p.Source, near.Prefixes):
		return "the source is none of the sender's end"
	case far.hidden():
		return "the receiver's end is hidden behind one address"
	}
	// The sender writes the receiver as it knows it; flows name everybody as he is at home.
	if p.Destination = far.home(p.Destination); !p.Destination.IsValid() {
		return "the destination is none of the receiver's end"
	}
	return f.refuses(p)
}

// known is by which ranges the other side knows an end: where it is mapped, by those; where it hides, by what it shows.
func (e end) known() []string {
	switch {
	case len(e.Mapped) > 0:
		return e.Mapped
	case len(e.Hide) > 0:
		return e.Hide
	}
	return e.Prefixes
}

// hidden reports whether all behind the end share one address, so that nobody can be told apart from outside.
func (e end) hidden() bool {
	length := func(prefix string) string { _, bits, _ := strings.Cut(prefix, "/"); return bits }
	return len(e.Hide) > 0 && !slices.EqualFunc(e.Hide, e.Prefixes, func(shown, own string) bool { return length(shown) == length(own) })
}

// probedAs reports whether the other side asks the end's probe address when it asks a.
func (e end) probedAs(a netip.Addr) bool {
	if len(e.Mapped)+len(e.Hide) == 0 {
		return a.String() == e.ProbeAddress
	}
	return !e.hidden() && e.home(a).String() == e.ProbeAddress
}

// home is the address of a host that the other side writes as a; zero if a is none of the end's.
func (e end) home(a netip.Addr) netip.Addr {
	for i, text := range e.known() {
		if i >= len(e.Prefixes) || !within(a, []string{text}) {
			continue
		}
		base, length, _ := strings.Cut(e.Prefixes[i], "/")
		own, err := netip.ParseAddr(base)
		bits, err2 := strconv.Atoi(length)
		if err != nil || err2 != nil || own.Is4() != a.Is4() {
			continue
		}
		bytes, leading := a.AsSlice(), own.AsSlice()
		for bit := range bits {
			mask := byte(1) << (7 - bit%8)
			bytes[bit/8] = bytes[bit/8]&^mask | leading[bit/8]&mask
		}
		home, _ := netip.AddrFromSlice(bytes) // of the length of an address
		return home
	}
	return netip.Addr{}
}

// betweenZones says why a flow between zones of one appliance does not let the packet pass; "" if it does.
func (o *Oracle) betweenZones(f flow, p Packet) string {
	from, to := o.zones[f.FromZone], o.zones[f.ToZone]
	switch {
	case p.From.Zone != f.FromZone || p.To.Zone != f.ToZone || p.From.Peer != p.To.Peer || p.From.Peer == "":
		return "elsewhere"
	case len(from.Prefixes) > 0 && !within(p.Source, from.Prefixes):
		return "the source is none of zone " + f.FromZone
	case len(to.Prefixes) > 0 && !within(p.Destination, to.Prefixes):
		return "the destination is none of zone " + f.ToZone
	case len(from.Prefixes) == 0 && o.claimed(p.Source):
		return "the source belongs to another zone than " + f.FromZone
	}
	return f.refuses(p)
}

func (f flow) refuses(p Packet) string {
	switch {
	case !within(p.Source, f.From):
		return "the source is not among from"
	case !within(p.Destination, f.To):
		return "the destination is not among to"
	case !serves(f.Allow, p.Protocol, p.Port):
		return "the service is not among allow"
	}
	return ""
}

// allowedToAppliance: management as the Site says, and the tunnels' own probes; nothing else.
func (o *Oracle) allowedToAppliance(p Packet) (bool, string) {
	for _, name := range sortedNames(o.sites) {
		s := o.sites[name]
		m := s.Management
		if !slices.Contains(s.Peers, p.To.Peer) || p.From.Zone != m.Zone || p.From.Peer != p.To.Peer {
			continue
		}
		if within(p.Source, m.From) && serves(m.Allow, p.Protocol, p.Port) {
			return true, "management of site " + name
		}
	}
	for _, name := range sortedNames(o.tunnels) {
		t := o.tunnels[name]
		if !t.Probe || t.Inactive || p.Protocol != "icmp" && p.Protocol != "icmpv6" {
			continue
		}
		for _, ends := range [][2]end{{t.Initiator, t.Owner}, {t.Owner, t.Initiator}} {
			if ends[0].Peer == p.From.Peer && ends[1].Peer == p.To.Peer && p.Source.String() == ends[0].ProbeAddress && ends[1].probedAs(p.Destination) {
				return true, "probe of tunnel " + name
			}
		}
	}
	return false, "only management and probes reach an appliance"
}

// asked is the tunnel, if any, whose far probe address an appliance asks and a host has, behind a device that no Site lists: another of our
// appliances lets only flows pass on to hosts. The asking end may use any of its addresses.
func (o *Oracle) asked(p Packet) string {
	if !p.From.Appliance || p.Protocol != "icmp" && p.Protocol != "icmpv6" {
		return ""
	}
	for _, s := range o.sites {
		if slices.Contains(s.Peers, p.To.Peer) {
			return ""
		}
	}
	for _, name := range sortedNames(o.tunnels) {
		t := o.tunnels[name]
		for _, ends := range [][2]end{{t.Initiator, t.Owner}, {t.Owner, t.Initiator}} {
			if t.Probe && !t.Inactive && ends[0].Peer == p.From.Peer && ends[1].Peer == p.To.Peer && p.Destination.String() == ends[1].ProbeAddress {
				return name
			}
		}
	}
	return ""
}

// claimed reports whether any zone holds the address.
func (o *Oracle) claimed(a netip.Addr) bool {
	for _, z := range o.zones {
		if within(a, z.Prefixes) {
			return true
		}
	}
	return false
}

// within reports whether any prefix, "192.0.2.0/24", holds the address. Bits are compared by hand.
func within(a netip.Addr, prefixes []string) bool {
	for _, text := range prefixes {
		base, length, found := strings.Cut(text, "/")
		if !found {
			continue
		}
		b, err := netip.ParseAddr(base)
		bits, err2 := strconv.Atoi(length)
		if err != nil || err2 != nil || b.Is4() != a.Is4() || bits < 0 || bits > a.BitLen() {
			continue
		}
		if sameBits(a.AsSlice(), b.AsSlice(), bits) {
			return true
		}
	}
	return false
}

func sameBits(a, b []byte, bits int) bool {
	for i := range bits {
		if (a[i/8]^b[i/8])>>(7-i%8)&1 != 0 {
			return false
		}
	}
	return true
}

// serves reports whether any service, "tcp/443", "udp/5000-5010", "icmp" or "tcp", covers the protocol and port.
func serves(services []string, protocol string, port uint16) bool {
	for _, service := range services {
		name, ports, hasPorts := strings.Cut(service, "/")
		if !strings.EqualFold(name, protocol) {
			continue
		}
		if !hasPorts {
			return true
		}
		first, last, isRange := strings.Cut(ports, "-")
		if !isRange {
			last = first
		}
		low, err := strconv.Atoi(first)
		high, err2 := strconv.Atoi(last)
		if err == nil && err2 == nil && int(port) >= low && int(port) <= high {
			return true
		}
	}
	return false
}

func sortedNames[T any](m map[string]T) []string {
	names := make([]string, 0, len(m))
	for name := range m {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}
