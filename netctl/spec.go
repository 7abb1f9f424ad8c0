package netctl

import (
	"fmt"
	"net/netip"
	"strings"
)

// Numbers by which everything that Shekara puts into the kernel's routing can be told from everybody else's.
const (
	// RouteProtocol is the rtnetlink protocol number of each route and rule of ours (rtnetlink(7): numbers above
	// RTPROT_STATIC are for the administrator; 83 is unused in iproute2's rt_protos).
	RouteProtocol = 83
	// InnerTable holds the routes to remote prefixes, through tunnel devices, and the unreachable routes under them.
	InnerTable uint32 = 0x534b
	// OuterRulePriority sends marked (already encrypted) packets to the table of their local peer IP.
	OuterRulePriority = 5200
	// The four of a tunnel whose far range is mapped. ArrivedRulePriority: what comes from it goes by the main table, whatever range it has.
	// AnswerRulePriority: what this box answers to it, and the reverse path check, go by the tunnel's table. BackRulePriority: what this box
	// answers to others about packets that were on their way to it goes by the main table. MappedRulePriority: those themselves go by the
	// tunnel's table.
	ArrivedRulePriority = 5202
	AnswerRulePriority  = 5203
	BackRulePriority    = 5204
	MappedRulePriority  = 5205
	// LocalIn is, to a rule, the incoming interface of what the host itself sends.
	LocalIn = "lo"
	// InnerRulePriority sends all other packets through InnerTable, before the main table (32766).
	InnerRulePriority = 5210
	// UnreachableMetric keeps the unreachable route under a prefix below any route that works.
	UnreachableMetric uint32 = 4294967294
	// LinkPrefix begins the name of every link of ours.
	LinkPrefix = "sk-"
)

// RouteKind is what a route does with a packet.
type RouteKind uint8

const (
	// Unicast forwards through Link, by Gateway if it is valid.
	Unicast RouteKind = iota
	// Unreachable answers ICMP unreachable: nothing leaves in the clear when a device is gone.
	Unreachable
	// Other is what somebody made of a route with our protocol number: a blackhole, say. It is never in a Spec.
	Other
)

// Route is one route of ours. Comparable: it is its own map key.
type Route struct {
	Table   uint32
	Prefix  netip.Prefix // masked; 0.0.0.0/0 or ::/0 for a default route
	Kind    RouteKind
	Link    string     // output interface of a Unicast route
	Gateway netip.Addr // zero: on the link itself. On a network of Link, as the kernel finds it by the rules and routes of the moment
	Source  netip.Addr // preferred source address; zero: the kernel's choice
	Metric  uint32
}

func (r Route) String() string {
	if r.Kind != Unicast {
		kind := map[RouteKind]string{Unreachable: "unreachable", Other: "other"}[r.Kind]
		return fmt.Sprintf("%s %s table %d metric %d", kind, r.Prefix, r.Table, r.Metric)
	}
	s := r.Prefix.String()
	if r.Gateway.IsValid() {
		s += " via " + r.Gateway.String()
	}
	s += " dev " + r.Link
	if r.Source.IsValid() {
		s += " src " + r.Source.String()
	}
	return fmt.Sprintf("%s table %d metric %d", s, r.Table, r.Metric)
}

// Rule is one policy routing rule of ours. Comparable. Two of which one has no In and that do not differ otherwise need two priorities:
// the kernel cannot be told which of them to delete.
type Rule struct {
	IPv6     bool
	Priority int
	In       string // incoming interface, which need not be there; LocalIn; "": any. The reverse path check looks up with the outgoing one
	Mark     uint32 // zero: any packet
	Table    uint32
}

func (r Rule) String() string {
	family := "ipv4"
	if r.IPv6 {
		family = "ipv6"
	}
	text := fmt.Sprintf("%s rule %d: ", family, r.Priority)
	if r.In != "" {
		text += "iif " + r.In + " "
	}
	if r.Mark != 0 {
		text += fmt.Sprintf("fwmark 0x%x ", r.Mark)
	}
	return fmt.Sprintf("%slookup %d", text, r.Table)
}

// Spec is what the host's network should hold of ours.
type Spec struct {
	Routes  []Route
	Rules   []Rule
	Sysctls map[string]string // key as in sysctl(8), dots; "net.ipv4.conf.ext0.rp_filter"
}

// State is what the host's network holds. Routes and Rules are ours alone; Links are all links.
type State struct {
	Links   []Link
	Routes  []Route
	Rules   []Rule
	Sysctls map[string]string // the keys that were asked for; one that the kernel does not have is absent

	// Strangers are routes of others in tables of ours. One in the very place of a route of ours gives way to it; the others are
	// reported, never repaired.
	Strangers []Route
	// Shadowing is rules of others that decide before ours do, as text. They are reported, never repaired.
	Shadowing []string
}

// OwnTable says whether a route table is ours alone: InnerTable, and those of local peer IPs, which have the number of a mark.
func OwnTable(table uint32) bool { return table == InnerTable || table>>16 == InnerTable }

// Link is a network interface as the kernel shows it.
type Link struct {
	Name      string
	Index     int
	Kind      string // "veth", "tun", "wireguard", "" for hardware
	MTU       int
	Up        bool
	Addresses []netip.Prefix
}

// Verb is what an Op does. Set replaces a route by another of the same table, prefix and metric, without a gap.
type Verb uint8

const (
	Add Verb = iota
	Delete
	Set
)

func (v Verb) String() string { return [...]string{"add", "delete", "set"}[v] }

// Address is an address on a link of ours. Comparable.
type Address struct {
	Link   string
	Prefix netip.Prefix // the address, with the length of its network
}

func (a Address) String() string { return fmt.Sprintf("address %s on %s", a.Prefix, a.Link) }

// foreign says whether somebody put the address on a link of ours. Links of ours have none but the link-local one of IPv6, which the
// kernel gives them, at a moment of its own.
func (a Address) foreign() bool {
	return strings.HasPrefix(a.Link, LinkPrefix) && (a.Prefix.Addr().Is4() || !a.Prefix.Addr().IsLinkLocalUnicast())
}

// Op is one step between State and Spec. Exactly one of Route, Rule, Address and Key is set. Addresses are only ever deleted.
type Op struct {
	Verb    Verb
	Route   *Route
	Rule    *Rule
	Address *Address
	Key     string // sysctl
	Value   string
	Was     string // value before, of a sysctl; "": not known
}

func (o Op) String() string {
	switch {
	case o.Route != nil:
		return fmt.Sprintf("%s route %s", o.Verb, *o.Route)
	case o.Rule != nil:
		return fmt.Sprintf("%s %s", o.Verb, *o.Rule)
	case o.Address != nil:
		return fmt.Sprintf("%s %s", o.Verb, *o.Address)
	case o.Was == "": // not looked at yet
		return fmt.Sprintf("set sysctl %s to %s", o.Key, o.Value)
	default:
		return fmt.Sprintf("set sysctl %s to %s (was %s)", o.Key, o.Value, o.Was)
	}
}

// Failure is an Op that the kernel refused. The other Ops of the same call went on.
type Failure struct {
	Op  Op
	Err error
}

// Error is what went wrong at the seam to the host: which operation, on what, and why.
type Error struct {
	Op     string // "add route", "run nft"
	Object string // quoted in the message
	Err    error  // an errno or a sentinel of the standard library, for errors.Is
	Detail string // standard error of a program, or the kernel's extended acknowledgement
}

func (e *Error) Error() string {
	s := fmt.Sprintf("%s %q: %v", e.Op, e.Object, e.Err)
	if e.Detail != "" {
		s += ": " + e.Detail
	}
	return s
}

func (e *Error) Unwrap() error { return e.Err }
