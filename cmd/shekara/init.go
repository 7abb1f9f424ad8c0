package main

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"shekara/netctl"
	"shekara/netctl/durable"
	"shekara/provisioning/document"
)

func (p *program) initCommand() *cobra.Command {
	var site string
	var toOutput, force bool
	c := &cobra.Command{
		Use:   "init [DIR]",
		Short: "Look at this host's interfaces and write a commented starter document",
		Long: "init writes DIR/site, which names the Site that this box is, and DIR/SITE.yaml with its Site, Zone and Peer documents, for you to\n" +
			"edit. If either is there it writes neither, unless with --force; nothing else changes. DIR is /etc/shekara unless given.",
		Example: "  shekara init\n  shekara init --site owner --print",
		Args:    arguments(0, 1, "at most one directory"),
		RunE: func(_ *cobra.Command, args []string) error {
			dir := "/etc/shekara"
			if len(args) > 0 {
				dir = args[0]
			}
			h, err := lookAtHost(sshConnection("/proc", os.Getpid()))
			if err != nil {
				return err
			}
			h.name, h.peer = names(h.host, site)
			if label(h.name) != h.name {
				return hint(fmt.Errorf("%q is not a name for a Site", h.name), "write 1 to 63 of a-z, 0-9 and -, beginning and ending with a letter or digit")
			}
			if toOutput {
				return p.raw([]byte(starter(h)))
			}
			return p.writeStarter(dir, h, force)
		},
	}
	c.Flags().StringVar(&site, "site", "", "name of the Site (default: the host's name)")
	c.Flags().BoolVar(&toOutput, "print", false, "print the documents and write nothing")
	c.Flags().BoolVar(&force, "force", false, "overwrite files that are there")
	c.MarkFlagsMutuallyExclusive("print", "force")
	return c
}

// writeStarter writes both files or neither: all that can be known to be in the way is looked at first, and a first file goes again if
// the second fails.
func (p *program) writeStarter(dir string, h hostView, force bool) error {
	path, site := filepath.Join(dir, h.name+".yaml"), filepath.Join(dir, "site")
	if !force {
		for _, file := range []string{path, site} {
			switch _, err := os.Lstat(file); {
			case err == nil:
				return hint(fmt.Errorf("%s is there already, and nothing was written", file), "look with --print, or overwrite with --force")
			case !errors.Is(err, fs.ErrNotExist):
				return unwritable(err)
			}
		}
	}
	if err := durable.MkdirAll(dir, 0o755); err != nil {
		return unwritable(err)
	}
	write := durable.CreateFile
	if force {
		write = durable.WriteFile
	}
	if err := write(path, []byte(starter(h)), 0o644); err != nil {
		return unwritable(err)
	}
	if err := write(site, []byte(h.name+"\n"), 0o644); err != nil {
		if !force {
			err = errors.Join(err, os.Remove(path))
		}
		return unwritable(err)
	}
	p.line("Wrote %s: this box's documents.", path)
	p.line("Wrote %s: this box is Site %s.", site, h.name)
	p.line("Look at every line that says CHANGE, then:")
	p.line("  shekara validate %s", dir)
	p.line("  shekara plan %s", dir)
	p.line("  shekara apply %s --confirm-within 5m", dir)
	return nil
}

func unwritable(err error) error {
	return hint(err, "run it as root, give a directory of your own, or look with --print")
}

// hostView is what init needs to know of a host.
type hostView struct {
	host       string // a DNS label of its name
	name       string // of the Site
	peer       string // of this box as a peer
	interfaces []interfaceView
	admin      netip.Addr // whoever is logged in over SSH; zero: nobody is
	adminAt    netip.Addr // the address of ours that he came to
}

type interfaceView struct {
	name      string
	addresses []netip.Prefix // global ones, with the host's own address
	gateways  []netip.Addr   // of its default routes, at most one of each address family
}

// names are those of the Site and of its peer. A Site is a place and its edge a device in it: of a host called owner-edge the Site is
// owner, and the peer owner-edge.
func names(host, site string) (name, peer string) {
	const suffix = "-edge"
	if site == "" {
		site = strings.TrimSuffix(host, suffix)
	}
	return site, strings.TrimSuffix(site[:min(len(site), 63-len(suffix))], suffix) + suffix
}

// lookAtHost reads names, addresses and gateways of interfaces; ours are left out. ssh is the environment's SSH_CONNECTION.
func lookAtHost(ssh string) (hostView, error) {
	var h hostView
	name, err := os.Hostname()
	if err != nil {
		return h, fmt.Errorf("read the host's name: %w", err)
	}
	if h.host = label(name); h.host == "" {
		h.host = "site"
	}
	network, err := netctl.Open()
	if err != nil {
		return h, fmt.Errorf("open the host's network: %w", err)
	}
	defer network.Close()
	gateways, err := network.Gateways()
	if err != nil {
		return h, err
	}
	interfaces, err := net.Interfaces()
	if err != nil {
		return h, fmt.Errorf("list interfaces: %w", err)
	}
	for _, i := range interfaces {
		if i.Flags&net.FlagLoopback != 0 || strings.HasPrefix(i.Name, netctl.LinkPrefix) {
			continue
		}
		addresses, err := i.Addrs()
		if err != nil {
			return h, fmt.Errorf("list addresses of %s: %w", i.Name, err)
		}
		view := interfaceView{name: i.Name}
		for _, a := range addresses {
			if prefix, err := netip.ParsePrefix(a.String()); err == nil && prefix.Addr().IsGlobalUnicast() {
				view.addresses = append(view.addresses, prefix)
			}
		}
		for _, g := range gateways {
			same := func(a netip.Addr) bool { return a.Is4() == g.Address.Is4() }
			// One that is not on the interface's network (a link-local one, or that of a /32) is no gateway that a Site may have.
			on := func(p netip.Prefix) bool { return p.Contains(g.Address) }
			if g.Link == i.Name && slices.ContainsFunc(view.addresses, on) && !slices.ContainsFunc(view.gateways, same) {
				view.gateways = append(view.gateways, g.Address)
			}
		}
		h.interfaces = append(h.interfaces, view)
	}
	// SSH_CONNECTION is "client port server port", sshd(8).
	if words := strings.Fields(ssh); len(words) == 4 {
		h.admin, _ = netip.ParseAddr(words[0])
		h.adminAt, _ = netip.ParseAddr(words[2])
	}
	return h, nil
}

// sshConnection is SSH_CONNECTION of this process or of the nearest ancestor that has it, since sudo(8) does not hand it on. "" if there
// is none. proc is /proc.
func sshConnection(proc string, pid int) string {
	for range 16 { // shells and sudos between a login and us
		environment, _ := os.ReadFile(filepath.Join(proc, strconv.Itoa(pid), "environ"))
		for variable := range strings.SplitSeq(string(environment), "\x00") {
			if value, found := strings.CutPrefix(variable, "SSH_CONNECTION="); found {
				return value
			}
		}
		stat, _ := os.ReadFile(filepath.Join(proc, strconv.Itoa(pid), "stat"))
		// proc(5): "pid (name) state parent", and a name may hold anything.
		fields := strings.Fields(string(stat[strings.LastIndexByte(string(stat), ')')+1:]))
		if len(fields) < 2 {
			return ""
		}
		if pid, _ = strconv.Atoi(fields[1]); pid < 1 {
			return ""
		}
	}
	return ""
}

// label makes a DNS label of a name; "" if nothing of it can stay.
func label(name string) string {
	name, _, _ = strings.Cut(strings.ToLower(name), ".")
	name = strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= '0' && r <= '9' {
			return r
		}
		return '-'
	}, name)
	return strings.Trim(name[:min(len(name), 63)], "-")
}

// uplink is the interface whose address can be a peer's: one with a default route before others, a public address before a private
// one; -1 if none has an address.
func (h hostView) uplink() (index int, address netip.Prefix) {
	best, index := -1, -1
	for i, view := range h.interfaces {
		for _, a := range view.addresses {
			rank := 0
			if !a.Addr().IsPrivate() {
				rank += 2
			}
			if slices.ContainsFunc(view.gateways, func(g netip.Addr) bool { return g.Is4() == a.Addr().Is4() }) {
				rank++
			}
			if rank > best {
				best, index, address = rank, i, a
			}
		}
	}
	return index, address
}

// zones names the zone of each interface: internet for the uplink, else a zone of its own after the interface.
func (h hostView) zones(uplink int) []string {
	var zones []string
	for i, view := range h.interfaces {
		zone := label(view.name)
		for zone == "" || zone == "internet" || slices.Contains(zones, zone) {
			zone = strings.Trim(zone+"-net", "-")
		}
		if i == uplink {
			zone = "internet"
		}
		zones = append(zones, zone)
	}
	return zones
}

// starter is the text of the documents. They validate as they are; what must be looked at says CHANGE.
func starter(h hostView) string {
	uplink, address := h.uplink()
	zones := h.zones(uplink)
	var b strings.Builder
	write := func(format string, args ...any) { fmt.Fprintf(&b, format+"\n", args...) }
	write("# Written by shekara init from what it saw on this host. Nothing of it is in force.")
	write("# Look at every line that says CHANGE, then:")
	write("#   shekara validate DIR && shekara plan DIR && shekara apply DIR --confirm-within 5m")
	write("# Field by field: the documents reference (docs/documents.md).")
	write("\napiVersion: %s\nkind: Zone\nmetadata: {name: internet}\nspec: {contour: external, kind: internet}   # everything that no other zone claims", document.APIVersion)
	for i, view := range h.interfaces {
		if i != uplink && len(view.addresses) > 0 {
			write("---\n# The network at %s.\napiVersion: %s\nkind: Zone\nmetadata: {name: %s}", view.name, document.APIVersion, zones[i])
			write("# A tunnel from outside never ends in an internal zone (GWY-07, HID-01): where one shall end, write integration and screened-subnet.")
			write("spec:\n  contour: internal   # CHANGE: internal, external or integration")
			write("  kind: lan           # CHANGE: ets-go, lan, dedicated-segment, screened-subnet, partners or management")
			write("  prefixes: [%s]", joined(networks(view.addresses)))
		}
	}
	h.writeSite(write, uplink, address, zones)
	h.writePeer(write, uplink, address)
	b.WriteString(strings.ReplaceAll(tunnelExample, "THIS-BOX", h.peer))
	return b.String()
}

func (h hostView) writeSite(write func(string, ...any), uplink int, address netip.Prefix, zones []string) {
	write("---\n# This box.\napiVersion: %s\nkind: Site\nmetadata: {name: %s}\nspec:", document.APIVersion, h.name)
	if uplink >= 0 && address.Addr().IsPrivate() || documentation(address.Addr()) {
		write("  lab: true   # CHANGE: take it out on a real box. It lets %s be a public peer IP", address.Addr())
	}
	if uplink >= 0 {
		write("  peers: [%s]", h.peer)
	} else {
		write("  peers: []   # CHANGE: no interface has an address that could be a peer's")
	}
	if uplink >= 0 {
		write("  interfaces:   # each in exactly one zone; those that are not here pass nothing")
	} else {
		write("  interfaces: []   # CHANGE: each in exactly one zone; those that are not here pass nothing")
	}
	for i, view := range h.interfaces {
		switch {
		case len(view.addresses) == 0:
			write("  # - {name: %s, zone: }   # it has no address now", view.name)
		case i == uplink:
			write("  - name: %s\n    zone: internet\n    addresses: [%s]", view.name, joined(view.addresses))
			if len(view.gateways) > 0 {
				write("    gateways: [%s]", joined(view.gateways))
			} else {
				write("    # gateways: [192.0.2.1]   # CHANGE: the next hop to the Internet, if far peers are not on this link")
			}
		default:
			write("  - {name: %s, zone: %s}", view.name, zones[i])
		}
	}
	h.writeManagement(write, zones)
	write("  drift: repair   # or report")
}

// writeManagement keeps whoever is logged in from locking himself out.
func (h hostView) writeManagement(write func(string, ...any), zones []string) {
	for i, view := range h.interfaces {
		for _, a := range view.addresses {
			if h.admin.IsValid() && a.Addr() == h.adminAt.Unmap() {
				admin := h.admin.Unmap()
				write("  # Who may reach this box itself; nobody else can. CHANGE from: you are logged in from %s now.", admin)
				write("  management: {zone: %s, from: [%s], allow: [tcp/22]}", zones[i], netip.PrefixFrom(admin, admin.BitLen()))
				return
			}
		}
	}
	write("  # CHANGE: without this NOBODY reaches the box over the network, not by SSH either.")
	write("  # management: {zone: internet, from: [192.0.2.0/24], allow: [tcp/22]}")
}

func (h hostView) writePeer(write func(string, ...any), uplink int, address netip.Prefix) {
	if uplink < 0 {
		return
	}
	write("---\n# This box as a peer of others.\napiVersion: %s\nkind: Peer\nmetadata: {name: %s}\nspec:", document.APIVersion, h.peer)
	write("  side: owner   # CHANGE: owner (of the service) or initiator\n  publicIP: %s", address.Addr())
	write("  # behindNAT: true   # then publicIP is the translator's, and insideIP: is this box's own")
	write("  # One port and key for each far zone and environment; the key is made on the box: shekara peer export prints it.")
	write("  # wireguard: [{farZone: agencies, environment: production, port: 51820}]")
}

func networks(addresses []netip.Prefix) []netip.Prefix {
	var out []netip.Prefix
	for _, a := range addresses {
		if !slices.Contains(out, a.Masked()) {
			out = append(out, a.Masked())
		}
	}
	return out
}

// joined is a list in YAML's short form. A colon would end a key there: IPv6 stands in quotes.
func joined[T fmt.Stringer](list []T) string {
	texts := make([]string, len(list))
	for i, item := range list {
		if texts[i] = item.String(); strings.Contains(texts[i], ":") {
			texts[i] = `"` + texts[i] + `"`
		}
	}
	return strings.Join(texts, ", ")
}

// documentation reports addresses that stand for others in writing (RFC 5737, RFC 3849) and in measurements (RFC 2544).
func documentation(a netip.Addr) bool {
	for _, p := range []string{"192.0.2.0/24", "198.51.100.0/24", "203.0.113.0/24", "2001:db8::/32", "198.18.0.0/15"} {
		if netip.MustParsePrefix(p).Contains(a) {
			return true
		}
	}
	return false
}

const tunnelExample = `
# A tunnel and what may pass through it, to begin from; the other end's Peer document comes from there.
# ---
# apiVersion: shekara/v1
# kind: Zone
# metadata: {name: agencies}
# spec: {contour: external, kind: partners, prefixes: [10.64.0.0/12]}
# ---
# apiVersion: shekara/v1
# kind: Tunnel
# metadata: {name: agency-a}
# spec:
#   environment: production
#   protocol: wireguard
#   initiator: {peer: agency-a-edge, zone: agencies, prefixes: [10.64.1.0/28]}
#   owner: {peer: THIS-BOX, zone: ITS-ZONE, prefixes: [10.20.0.10/32]}
#   presharedKey: agency-a   # shekara secret new agency-a
# ---
# apiVersion: shekara/v1
# kind: Flow
# metadata: {name: agency-a-https}
# spec: {tunnel: agency-a, from: [10.64.1.5/32], to: [10.20.0.10/32], allow: [tcp/443]}
`
