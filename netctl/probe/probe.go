package probe

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"shekara/netctl/ns"
)

// Feature is something that a host may lack. Its text is the name that SHEKARA_REQUIRE and skips use.
type Feature string

const (
	Root            Feature = "root"             // user 0 with CAP_NET_ADMIN over its network namespace
	Namespaces      Feature = "namespaces"       // network and mount namespaces can be made, and veth pairs in them
	TUN             Feature = "tun"              // /dev/net/tun makes devices
	KernelWireGuard Feature = "kernel-wireguard" // links of kind wireguard
	NFTables        Feature = "nftables"         // nft(8), and a kernel that checks an inet ruleset with conntrack
	Conntrack       Feature = "conntrack"        // ctnetlink answers
	RawICMP         Feature = "raw-icmp"         // raw ICMP sockets (CAP_NET_RAW)
	Terminal        Feature = "terminal"         // pseudo-terminals can be made
	BPF             Feature = "bpf"              // programs for netfilter's hooks load, and those of interfaces (tcx) are told: Linux 6.6
	QEMU            Feature = "qemu"             // qemu-system-x86_64 runs
)

const toolPrefix = "tool:"

// Tool is the presence of a program in PATH or the system's folders.
func Tool(name string) Feature { return Feature(toolPrefix + name) }

// Missing says that the host lacks a feature.
type Missing struct {
	Feature Feature
	Reason  error
}

func (m *Missing) Error() string { return fmt.Sprintf("host lacks %s: %v", m.Feature, m.Reason) }

func (m *Missing) Unwrap() error { return m.Reason }

// Has returns nil if the host has the feature, else a *Missing. It asks anew each time, which takes milliseconds.
func Has(f Feature) error {
	if err := ask(f); err != nil {
		return &Missing{f, err}
	}
	return nil
}

func ask(f Feature) error {
	switch f {
	case Root:
		return root()
	case Namespaces:
		return linkOf(&netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: "probe0"}, PeerName: "probe1"})
	case TUN:
		return linkOf(&netlink.Tuntap{LinkAttrs: netlink.LinkAttrs{Name: "probe0"}, Mode: netlink.TUNTAP_MODE_TUN, NonPersist: true})
	case KernelWireGuard:
		return linkOf(&netlink.Wireguard{LinkAttrs: netlink.LinkAttrs{Name: "probe0"}})
	case NFTables:
		return nftables()
	case Conntrack:
		return inNamespace(func() error {
			_, err := netlink.ConntrackTableList(netlink.ConntrackTable, unix.AF_INET)
			return err
		})
	case RawICMP:
		fd, err := unix.Socket(unix.AF_INET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.IPPROTO_ICMP)
		if err != nil {
			return err
		}
		return unix.Close(fd)
	case Terminal:
		master, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
		if err != nil {
			return err
		}
		return master.Close()
	case BPF:
		return bpf()
	case QEMU:
		return exec.Command("qemu-system-x86_64", "-version").Run()
	}
	if name, ok := strings.CutPrefix(string(f), toolPrefix); ok {
		return tool(name)
	}
	return fmt.Errorf("unknown feature %q", string(f))
}

func root() error {
	if os.Geteuid() != 0 {
		return fmt.Errorf("user is %d", os.Geteuid())
	}
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData
	if err := unix.Capget(&header, &data[0]); err != nil {
		return err
	}
	if data[0].Effective&(1<<unix.CAP_NET_ADMIN) == 0 {
		return errors.New("no CAP_NET_ADMIN")
	}
	return nil
}

func inNamespace(f func() error) error {
	space, err := ns.New()
	if err != nil {
		return err
	}
	defer space.Close()
	return space.Do(f)
}

func linkOf(link netlink.Link) error {
	return inNamespace(func() error {
		if err := netlink.LinkAdd(link); err != nil {
			return fmt.Errorf("add link of kind %s: %w", link.Type(), err)
		}
		if tuntap, ok := link.(*netlink.Tuntap); ok {
			for _, f := range tuntap.Fds {
				f.Close()
			}
		}
		return nil
	})
}

// nftables checks a ruleset that uses what Shekara's own does. --check goes through the kernel and is then aborted.
func nftables() error {
	return inNamespace(func() error {
		nft := exec.Command("nft", "--check", "--file", "-")
		nft.Stdin = strings.NewReader(`table inet probe {
	set s { type ipv4_addr; flags interval; elements = { 192.0.2.0/24 } }
	chain c { type filter hook forward priority 0; policy accept; ct state established accept; ip saddr @s counter; }
}
`)
		out, err := nft.CombinedOutput()
		if err != nil && len(out) > 0 {
			return fmt.Errorf("%w: %s", err, strings.TrimSpace(string(out)))
		}
		return err
	})
}

func tool(name string) error {
	if _, err := exec.LookPath(name); err == nil {
		return nil
	}
	for _, dir := range []string{"/usr/local/sbin", "/usr/sbin", "/sbin"} { // not in an ordinary user's PATH
		if _, err := exec.LookPath(dir + "/" + name); err == nil {
			return nil
		}
	}
	return exec.ErrNotFound
}
