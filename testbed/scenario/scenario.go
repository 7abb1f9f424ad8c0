package scenario

import (
	"net/netip"
	"regexp"
	"time"

	"shekara/testbed/wire"
)

// Scenario is a virtual network and what happens on it.
type Scenario struct {
	Name        string            `yaml:"name"`
	Title       string            `yaml:"title"`
	Description string            `yaml:"description"`
	Extends     string            `yaml:"extends"`   // name of a scenario whose network and setup come first
	Seed        uint64            `yaml:"seed"`      // of every impairment
	Variables   map[string]string `yaml:"variables"` // ${name} in commands, standard input, documents and files; steps can set more
	// Without are variables that are different where the edges lack a program, by its name (--without nft).
	Without map[string]map[string]string `yaml:"without"`
	// Machines, if given, are virtual ones that steps start by "shekara testbed machine".
	Machines *Machines `yaml:"machines"`
	Hosts    []Host    `yaml:"hosts"`
	// Programs are more programs of the hosts of the scenario that is extended.
	Programs map[string][]Program `yaml:"programs"`
	Links    []Link               `yaml:"links"`
	Tunnels  []Tunnel             `yaml:"tunnels"` // for the drawing
	Setup    []Step               `yaml:"setup"`   // what "up" does too; the first failure ends the run
	Steps    []Step               `yaml:"steps"`
}

// Machines is what virtual machines need that hosts cannot fetch. It is fetched before the network is built, into the folder ${machines}.
type Machines struct {
	// Packages are of Debian, and may conflict with what is installed: they are unpacked, each into a folder of its name.
	Packages []string `yaml:"packages"`
}

// Host is one host.
type Host struct {
	Name     string            `yaml:"name"` // a DNS label
	Label    string            `yaml:"label"`
	Kind     string            `yaml:"kind"`    // host, server, edge (runs Shekara), foreign (another's edge), router
	Contour  string            `yaml:"contour"` // external, integration, internal, or none for the internet
	Group    string            `yaml:"group"`
	Column   int               `yaml:"column"` // in the drawing, from 1; 0: found
	Row      int               `yaml:"row"`
	Zone     string            `yaml:"zone"` // where it stands, for the oracle: name of the Zone document
	Peer     string            `yaml:"peer"` // and of the Peer that protects it, or that it is
	Router   bool              `yaml:"forward"`
	Routes   []Route           `yaml:"routes"`
	Sysctls  map[string]string `yaml:"sysctls"`
	Files    map[string]string `yaml:"files"`
	Programs []Program         `yaml:"programs"`
	Line     int               `yaml:"-"`
}

// Route is a route of a host's main table.
type Route struct {
	To     string     `yaml:"to"` // a prefix, or default
	Via    netip.Addr `yaml:"via"`
	Source netip.Addr `yaml:"source"`
}

// Program is a program that runs on a host.
type Program struct {
	Name    string   `yaml:"name"`
	Command []string `yaml:"command"`
	Ready   bool     `yaml:"ready"`  // it says READY=1 by sd_notify(3), and is waited for
	Probe   []string `yaml:"probe"`  // it is waited for until this command succeeds
	Manual  bool     `yaml:"manual"` // a step starts it
}

// Link joins two hosts, or more at a switch.
type Link struct {
	Name       string          `yaml:"name"`
	Ends       []End           `yaml:"ends"`
	MTU        int             `yaml:"mtu"`
	Impairable bool            `yaml:"impairable"` // carried by our own wire, which a step can make bad
	Impair     wire.Impairment `yaml:"impair"`     // from the start
	Line       int             `yaml:"-"`
}

// End is where a link meets a host.
type End struct {
	Host      string         `yaml:"host"`
	Interface string         `yaml:"interface"`
	Addresses []netip.Prefix `yaml:"addresses"`
}

// Tunnel is drawn over the links.
type Tunnel struct {
	Between [2]string `yaml:"between"`
	Label   string    `yaml:"label"`
}

// Step is one thing that happens, or is checked. Exactly one action is set.
type Step struct {
	Name string `yaml:"name"`
	Must bool   `yaml:"must"` // if it fails, what follows is skipped
	Line int    `yaml:"-"`

	Apply      *Apply      `yaml:"apply"`
	Run        *Run        `yaml:"run"`
	Start      *ProgramRef `yaml:"start"`
	Kill       *Kill       `yaml:"kill"`
	Write      *Write      `yaml:"write"`
	Wait       *Wait       `yaml:"wait"`
	Send       *Send       `yaml:"send"`
	Reach      *Reach      `yaml:"reach"`
	Matrix     *Matrix     `yaml:"matrix"`
	Impair     *Impair     `yaml:"impair"`
	Link       *LinkState  `yaml:"link"`
	Traffic    *Traffic    `yaml:"traffic"`
	EndTraffic *EndTraffic `yaml:"endTraffic"`
	Capture    *Capture    `yaml:"capture"`
	EndCapture *EndCapture `yaml:"endCapture"`
	Parallel   []Step      `yaml:"parallel"`
	Part       *Part       `yaml:"part"`
}

// Apply gives documents to the daemon of a host, by the command line that people use.
type Apply struct {
	On        string   `yaml:"on"`
	Documents []string `yaml:"documents"` // files beside the scenario, or on the host if absolute
	Inline    string   `yaml:"inline"`    // documents written here
	// Replace changes texts in the documents, as an operator does who puts a real key where a sample stands.
	Replace       map[string]string `yaml:"replace"`
	Whole         bool              `yaml:"whole"`
	ConfirmWithin time.Duration     `yaml:"confirmWithin"`
	Confirm       bool              `yaml:"confirm"` // confirm afterwards
	Exit          int               `yaml:"exit"`
	Output        *Pattern          `yaml:"output"` // of both standard output and error
}

// Run runs a command to its end.
type Run struct {
	On      string        `yaml:"on"`
	Command []string      `yaml:"command"`
	Shell   string        `yaml:"shell"` // instead of command: a script for sh -e
	Stdin   string        `yaml:"stdin"`
	Exit    int           `yaml:"exit"`
	Output  *Pattern      `yaml:"output"` // must match standard output
	Errors  *Pattern      `yaml:"errors"` // must match standard error
	Never   *Pattern      `yaml:"never"`  // must match neither
	Within  time.Duration `yaml:"within"` // run again until it is as wanted
	Set     string        `yaml:"set"`    // variable that standard output becomes, trimmed
	Store   *Place        `yaml:"store"`  // file that standard output becomes
	Show    bool          `yaml:"show"`   // standard output stands in the report
}

// Place is a file on a host.
type Place struct {
	On   string `yaml:"on"`
	File string `yaml:"file"`
}

// ProgramRef names a program of a host.
type ProgramRef struct {
	On      string `yaml:"on"`
	Program string `yaml:"program"`
}

// Kill sends a program a signal and waits for its end.
type Kill struct {
	On      string `yaml:"on"`
	Program string `yaml:"program"`
	Signal  string `yaml:"signal"` // KILL (default), TERM, HUP (not waited for), ...
}

// Write writes a file on a host.
type Write struct {
	On   string `yaml:"on"`
	File string `yaml:"file"`
	Text string `yaml:"text"`
	Copy string `yaml:"copy"` // instead of text: a file beside the scenario
}

// Wait follows a command's output until a line matches; the journal by default.
type Wait struct {
	On      string        `yaml:"on"`
	Command []string      `yaml:"command"` // empty: shekara journal tail --json
	Match   *Pattern      `yaml:"match"`
	Within  time.Duration `yaml:"within"` // 0: 30s
}

// Packet is crafted.
type Packet struct {
	Source      netip.Addr `yaml:"source"`
	Destination netip.Addr `yaml:"destination"`
	Protocol    string     `yaml:"protocol"`
	Port        uint16     `yaml:"port"`
	SourcePort  uint16     `yaml:"sourcePort"`
	Flags       string     `yaml:"flags"`
	TTL         uint8      `yaml:"ttl"`
	Size        int        `yaml:"size"`
	Options     bool       `yaml:"options"`
	Pieces      string     `yaml:"pieces"` // empty: whole; fragments: in two; later: the second fragment alone
}

// Send sends a crafted packet and looks where it arrives. Places are "host" or "host/interface".
type Send struct {
	From       string   `yaml:"from"`
	Interface  string   `yaml:"interface"`
	Packet     Packet   `yaml:"packet"`
	Arrives    []string `yaml:"arrives"`
	NotArrives []string `yaml:"notArrives"`
	// A packet that arrives nowhere proves nothing by itself: one of these must show that it could have.
	Control   *Control `yaml:"control"`   // sent right behind it
	ControlBy string   `yaml:"controlBy"` // name of an earlier step whose packet arrived at these places
}

// Control is a packet that must arrive where another must not.
type Control struct {
	From    string   `yaml:"from"` // empty: the same sender
	Packet  Packet   `yaml:"packet"`
	Arrives []string `yaml:"arrives"` // empty: where the other must not
}

// Reach opens a connection, or asks and awaits an answer.
type Reach struct {
	From      string        `yaml:"from"`
	Source    netip.Addr    `yaml:"source"`
	To        string        `yaml:"to"`       // 192.0.2.1:80, an address for icmp, a URL for http
	Protocol  string        `yaml:"protocol"` // tcp, http, udp (an echo), icmp
	Status    int           `yaml:"status"`   // of http; 0: 200
	Body      *Pattern      `yaml:"body"`
	Within    time.Duration `yaml:"within"` // 0: 10s, tried again and again; blocked: 1500ms, tried once
	Blocked   bool          `yaml:"blocked"`
	ControlBy string        `yaml:"controlBy"` // with blocked: an earlier step that reached this destination
}

// Matrix sends every host's packets to every other's services and compares with the oracle.
type Matrix struct {
	Hosts     []string `yaml:"hosts"`
	Services  []string `yaml:"services"`  // tcp/80, icmp, gre, 253; "udp/53 fragments" in two pieces, "udp/53 later" the second alone
	Documents []string `yaml:"documents"` // for the oracle
	// ControlOf names an earlier matrix whose packets are sent once more, now that nothing filters: each of them must arrive. So it is
	// shown that those which did not arrive were stopped, and not lost, misrouted or overlooked. The other fields stay empty.
	ControlOf string `yaml:"controlOf"`
}

// Impair makes an impairable link bad, or good again.
type Impair struct {
	Link string          `yaml:"link"`
	From string          `yaml:"from"` // only this host's direction; empty: both
	By   wire.Impairment `yaml:"by"`
}

// LinkState sets one end of a link up or down.
type LinkState struct {
	Link string `yaml:"link"`
	On   string `yaml:"on"`
	Up   bool   `yaml:"up"`
}

// Traffic starts a stream of numbered packets, there and back.
type Traffic struct {
	Name        string     `yaml:"name"`
	From        string     `yaml:"from"`
	To          string     `yaml:"to"`
	Source      netip.Addr `yaml:"source"`
	Destination netip.Addr `yaml:"destination"`
	Port        uint16     `yaml:"port"` // UDP; 0: ICMP echo
	Rate        int        `yaml:"rate"` // packets a second
	Size        int        `yaml:"size"`
}

// EndTraffic ends streams and says how much they may have lost.
type EndTraffic struct {
	Names []string       `yaml:"names"`
	After int            `yaml:"after"` // go on until so many packets were sent
	Lost  int            `yaml:"lost"`  // at most
	Least int            `yaml:"least"` // lost at least: for positive controls
	Gap   *time.Duration `yaml:"gap"`   // longest gap at most
}

// Capture keeps what passes an interface, as pcap.
type Capture struct {
	Name      string `yaml:"name"`
	On        string `yaml:"on"`
	Interface string `yaml:"interface"`
	// Inside, if given, makes it a guard: kept is only what leaves the interface and shows an address of these prefixes in the clear.
	Inside []netip.Prefix `yaml:"inside"`
}

// EndCapture ends a capture. Of a guard nothing may have been kept, unless Leaks says how much must have been.
type EndCapture struct {
	Name  string `yaml:"name"`
	Least int    `yaml:"least"` // packets that must have been seen
	// Never are addresses that stand in none of them: in no IP header, none that an ICMP error quotes, and a single address in no payload.
	Never []netip.Prefix `yaml:"never"`
	// Shows are addresses of which each stands in some packet: with Never the proof that the capture would have seen one.
	Shows []netip.Prefix `yaml:"shows"`
	// NoMoreOutOf is an address with a port of UDP: no more bytes left it than came to it, and some did both.
	NoMoreOutOf netip.AddrPort `yaml:"noMoreOutOf"`
	Leaks       int            `yaml:"leaks"` // of a guard: positive control, at least so many must have been kept
}

// Part runs what is awkward in YAML: a function of the testbed, by name.
type Part struct {
	Name string            `yaml:"name"`
	With map[string]string `yaml:"with"`
}

// Pattern is a regular expression (RE2).
type Pattern struct{ *regexp.Regexp }
