package filters

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strings"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// Kind is a way to decide about packets that nft does not list.
type Kind string

const (
	XTables Kind = "xtables"
	TC      Kind = "tc"
	XDP     Kind = "xdp"
	BPF     Kind = "bpf"
	Bridge  Kind = "bridge"
	XFRM    Kind = "xfrm"
	IPVS    Kind = "ipvs"
	MPLS    Kind = "mpls"
	Helper  Kind = "helper"
	Queue   Kind = "queue"
	Source  Kind = "source"
)

// Found is one thing that decides about packets, or one that could not be looked for.
type Found struct {
	Kind Kind
	What string // in words, with the command that shows more
	// Table names a legacy table, as "iptables-legacy mangle": whoever reads it knows what it decides.
	Table string
	// Unasked says that the kernel tells of such things to nobody with the rights that this process has: whoever claims that there are none says so.
	Unasked bool
}

func (f Found) String() string { return string(f.Kind) + ": " + f.What }

// Look finds what decides about packets in the network namespace of the calling thread, beside what nft lists. The interfaces are those whose
// packets matter; a name that none has is passed over. Sorted; nothing: there is nothing.
func Look(interfaces []string) []Found {
	l := &looker{}
	links, err := netlink.LinkList()
	if err != nil {
		l.unseen(TC, "interfaces", err)
	}
	names := map[int]string{}
	for _, link := range links {
		names[link.Attrs().Index] = link.Attrs().Name
	}
	l.tables()
	l.queues(names)
	for _, link := range links {
		l.link(link, links, slices.Contains(interfaces, link.Attrs().Name))
	}
	l.programs(links)
	l.policies()
	l.files()
	slices.SortFunc(l.found, func(a, b Found) int { return strings.Compare(a.String(), b.String()) })
	return slices.Compact(l.found)
}

type looker struct{ found []Found }

func (l *looker) add(k Kind, format string, values ...any) {
	l.found = append(l.found, Found{Kind: k, What: fmt.Sprintf(format, values...)})
}

func (l *looker) unseen(k Kind, what string, err error) {
	l.add(k, "%s cannot be looked for: %v", what, err)
}

// own is the folder of the calling thread's network namespace: /proc/net is that of the process.
const own = "/proc/thread-self/net/"

// tables names legacy tables. A kernel lists one as soon as it exists, be it empty.
func (l *looker) tables() {
	for _, t := range []struct{ file, tool string }{{"ip_tables_names", "iptables-legacy"}, {"ip6_tables_names", "ip6tables-legacy"}, {"arp_tables_names", "arptables-legacy"}} {
		text, err := os.ReadFile(own + t.file)
		switch {
		case errors.Is(err, fs.ErrNotExist): // the kernel has none of the kind, or has not loaded it
		case err != nil:
			l.unseen(XTables, "tables of "+t.tool, err)
		}
		for _, table := range strings.Fields(string(text)) {
			l.add(XTables, "table %s, whose rules nft does not list (%s-save -t %s does)", table, t.tool, table)
			l.found[len(l.found)-1].Table = t.tool + " " + table
		}
	}
}

// link looks at what stands at one interface. ours says whether its packets matter.
func (l *looker) link(link netlink.Link, all []netlink.Link, ours bool) {
	a := link.Attrs()
	if a.Xdp != nil && a.Xdp.Attached {
		l.add(XDP, "program %d at interface %s (ip link show %s)", a.Xdp.ProgId, a.Name, a.Name)
	}
	if ours && a.MasterIndex != 0 {
		master, kind := fmt.Sprintf("interface %d", a.MasterIndex), "another interface"
		for _, m := range all {
			if m.Attrs().Index == a.MasterIndex {
				master, kind = m.Attrs().Name, "a "+m.Type()
			}
		}
		l.add(Bridge, "interface %s is a port of %s, %s: its packets need not come by the rules for %s (ip link show %s)", a.Name, master, kind, a.Name, a.Name)
	}
	for _, which := range []string{"all", a.Name} { // either will do (IN_DEV_ACCEPT_LOCAL)
		if ours && set("ipv4/conf/"+which+"/accept_local") {
			l.add(Source, "interface %s takes packets with a source that is this box's own (sysctl net.ipv4.conf.%s.accept_local)", a.Name, strings.ReplaceAll(which, ".", "/"))
			break
		}
	}
	if set("mpls/conf/" + a.Name + "/input") {
		l.add(MPLS, "interface %s takes labelled packets, which are forwarded below IP (ip -f mpls route)", a.Name)
	}
}

// set says whether a switch of the network namespace is on. One that the kernel lacks is not.
func set(path string) bool {
	text, err := os.ReadFile("/proc/sys/net/" + path)
	return err == nil && strings.TrimSpace(string(text)) != "0"
}

// policies names those that transform or block packets; those of a socket's own concern nobody else.
func (l *looker) policies() {
	policies, err := netlink.XfrmPolicyList(netlink.FAMILY_ALL)
	switch {
	case errors.Is(err, unix.EPROTONOSUPPORT): // a kernel without
		return
	case err != nil:
		l.unseen(XFRM, "policies", err)
	}
	for _, p := range policies {
		if p.Dir > netlink.XFRM_DIR_FWD {
			continue
		}
		l.add(XFRM, "policy %s, %s to %s, %s (ip xfrm policy)", p.Dir, p.Src, p.Dst, p.Action)
	}
}

// files are what is only told by a file.
func (l *looker) files() {
	text, err := os.ReadFile(own + "ip_vs")
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		l.unseen(IPVS, "virtual services", err)
	}
	for line := range strings.Lines(string(text)) {
		if word, rest, _ := strings.Cut(line, " "); word == "TCP" || word == "UDP" || word == "SCTP" || word == "FWM" {
			l.add(IPVS, "virtual service %s %s (ipvsadm -L)", word, strings.TrimSpace(rest))
		}
	}
	if text, err = os.ReadFile(own + "netfilter/nfnetlink_queue"); err != nil && !errors.Is(err, fs.ErrNotExist) {
		l.unseen(Queue, "programs that read queues", err)
	}
	for line := range strings.Lines(string(text)) {
		if fields := strings.Fields(line); len(fields) > 1 { // seq_show, nfnetlink_queue.c
			l.add(Queue, "a program reads queue %s, port %s: what rules send there passes if it says so", fields[0], fields[1])
		}
	}
	// Until Linux 6.0.
	if set("netfilter/nf_conntrack_helper") {
		l.add(Helper, "connections get helpers without a rule (sysctl net.netfilter.nf_conntrack_helper)")
	}
}
