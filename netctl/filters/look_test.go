package filters_test

import (
	"encoding/binary"
	"os"
	"runtime"
	"strings"
	"testing"
	"unsafe"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"shekara/netctl/filters"
	"shekara/netctl/nstest"
	"shekara/netctl/probe"
	"shekara/netctl/probe/probetest"
)

// look asks on a host about its interfaces in0 and out0.
func look(h *nstest.H) (found []filters.Found) {
	h.Do(func() { found = filters.Look([]string{"in0", "out0"}) })
	return found
}

// newHost has two interfaces that matter, and one that does not.
func newHost(t *testing.T) *nstest.H {
	t.Helper()
	h, peer := nstest.Host(t, "box"), nstest.Host(t, "peer")
	for _, name := range []string{"in0", "out0", "other0"} {
		nstest.Link(t, h, name, nil, peer, name, nil)
	}
	return h
}

// TestReadersOfQueuesAreFound: a program that reads what rules queue is named, for as long as it does.
func TestReadersOfQueuesAreFound(t *testing.T) {
	probetest.Need(t, probe.Root, probe.Namespaces)
	h := newHost(t)
	if found := look(h); len(found) > 0 {
		t.Fatalf("before anybody reads: %v", found)
	}
	const number = 21323
	h.Do(func() {
		fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_NETFILTER)
		if err != nil {
			t.Fatal(err)
		}
		defer unix.Close(fd)
		bind := make([]byte, 28) // a header, nfgenmsg, and NFQA_CFG_CMD: NFQNL_CFG_CMD_BIND (linux/netfilter/nfnetlink_queue.h)
		binary.NativeEndian.PutUint32(bind, uint32(len(bind)))
		binary.NativeEndian.PutUint16(bind[4:], unix.NFNL_SUBSYS_QUEUE<<8|2)
		binary.NativeEndian.PutUint16(bind[6:], unix.NLM_F_REQUEST|unix.NLM_F_ACK)
		binary.BigEndian.PutUint16(bind[18:], number)
		binary.NativeEndian.PutUint16(bind[20:], 8)
		binary.NativeEndian.PutUint16(bind[22:], 1)
		bind[24] = 1
		if err := unix.Sendto(fd, bind, 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
			t.Fatal(err)
		}
		answer := make([]byte, 256)
		if n, _, err := unix.Recvfrom(fd, answer, 0); err != nil || n < 20 || binary.NativeEndian.Uint32(answer[16:]) != 0 {
			t.Fatalf("bind: %x, %v", answer[:max(n, 0)], err)
		}
		if found := filters.Look(nil); len(found) != 1 || found[0].Kind != filters.Queue || !strings.Contains(found[0].String(), "queue 21323") {
			t.Errorf("while a program reads: %v", found)
		}
	})
	if found := look(h); len(found) > 0 {
		t.Errorf("when it has gone: %v", found)
	}
}

// TestEachKindIsFound: what decides about packets beside nft is planted for real, found by its kind and named, and gone again when it is
// taken away.
func TestEachKindIsFound(t *testing.T) {
	for name, c := range map[string]struct {
		needs  []probe.Feature
		plant  string // lines of a shell
		uproot string
		kind   filters.Kind
		names  string // is in what is said
	}{
		"legacy table of IPv4": {[]probe.Feature{probe.Tool("iptables-legacy")}, "iptables-legacy -w -A FORWARD -s 192.0.2.1 -j DROP", "", filters.XTables, "iptables-legacy-save -t filter"},
		"legacy table of IPv6": {[]probe.Feature{probe.Tool("ip6tables-legacy")}, "ip6tables-legacy -w -t raw -A PREROUTING -j DROP", "", filters.XTables, "ip6tables-legacy-save -t raw"},
		"tc at ingress": {[]probe.Feature{probe.Tool("tc")}, "tc qdisc add dev in0 clsact\ntc filter add dev in0 ingress protocol ip u32 match ip src 192.0.2.1/32 action mirred egress redirect dev out0",
			"tc qdisc del dev in0 clsact", filters.TC, "kind u32, ingress at clsact of interface in0"},
		"tc at egress of another interface": {[]probe.Feature{probe.Tool("tc")}, "tc qdisc add dev other0 clsact\ntc filter add dev other0 egress protocol all u32 match u32 0 0 action mirred egress redirect dev in0",
			"tc filter del dev other0 egress", filters.TC, "egress at clsact of interface other0"},
		"tc of the old ingress": {[]probe.Feature{probe.Tool("tc")}, "tc qdisc add dev in0 ingress\ntc filter add dev in0 parent ffff: protocol ip u32 match u32 0 0 action mirred egress redirect dev out0",
			"tc qdisc del dev in0 ingress", filters.TC, "ingress at ingress of interface in0"},
		"tc at a shaper": {[]probe.Feature{probe.Tool("tc")}, "tc qdisc add dev in0 root handle 1: htb\ntc filter add dev in0 parent 1: protocol ip u32 match u32 0 0 action mirred egress redirect dev out0",
			"tc qdisc del dev in0 root", filters.TC, "parent 1: at htb of interface in0"},
		"bridge port":                  {nil, "ip link add br0 type bridge\nip link set in0 master br0", "ip link set in0 nomaster", filters.Bridge, "interface in0 is a port of br0, a bridge"},
		"own sources at one interface": {nil, "echo 1 >/proc/sys/net/ipv4/conf/in0/accept_local", "echo 0 >/proc/sys/net/ipv4/conf/in0/accept_local", filters.Source, "net.ipv4.conf.in0.accept_local"},
		"policy that transforms":       {nil, "ip xfrm policy add src 10.64.0.0/12 dst 10.20.0.0/24 dir fwd action block", "ip xfrm policy flush", filters.XFRM, "10.64.0.0/12 to 10.20.0.0/24"},
	} {
		t.Run(name, func(t *testing.T) {
			probetest.Need(t, append([]probe.Feature{probe.Root, probe.Namespaces}, c.needs...)...)
			h := newHost(t)
			if found := look(h); len(found) > 0 {
				t.Fatalf("before anything is planted: %v", found)
			}
			h.RunInput("set -e\n"+c.plant+"\n", "sh")
			found := look(h)
			if len(found) != 1 || found[0].Kind != c.kind || !strings.Contains(found[0].String(), c.names) {
				t.Fatalf("found %v, want one of %s with %q", found, c.kind, c.names)
			}
			if c.uproot == "" {
				return // a legacy table stays until its module goes
			}
			h.RunInput("set -e\n"+c.uproot+"\n", "sh")
			if found := look(h); len(found) > 0 {
				t.Errorf("after it was taken away: %v", found)
			}
		})
	}
}

// TestHarmlessIsNotFound: what decides nothing is no finding.
func TestHarmlessIsNotFound(t *testing.T) {
	probetest.Need(t, probe.Root, probe.Namespaces, probe.Tool("tc"))
	h := newHost(t)
	h.RunInput("set -e\ntc qdisc add dev in0 clsact\ntc qdisc add dev out0 root handle 1: htb\nip link add br0 type bridge\nip link set other0 master br0\necho 1 >/proc/sys/net/ipv4/conf/other0/accept_local\n", "sh")
	if found := look(h); len(found) > 0 {
		t.Errorf("a discipline without filters, a bridge and own sources of others: %v", found)
	}
}

// TestOwnSourcesEverywhere: the switch for all interfaces is one for each of ours.
func TestOwnSourcesEverywhere(t *testing.T) {
	probetest.Need(t, probe.Root, probe.Namespaces)
	h := newHost(t)
	h.RunInput("echo 1 >/proc/sys/net/ipv4/conf/all/accept_local", "sh")
	found := look(h)
	if len(found) != 2 || found[0].Kind != filters.Source || !strings.Contains(found[0].String(), "interface in0") || !strings.Contains(found[1].String(), "interface out0") {
		t.Errorf("found %v, want in0 and out0", found)
	}
}

// bpf calls bpf(2) with the words of an attribute.
func bpf(command uintptr, words ...uint64) (int, error) {
	attribute := make([]byte, 128)
	for i, w := range words {
		binary.NativeEndian.PutUint64(attribute[8*i:], w)
	}
	fd, _, errno := unix.Syscall(unix.SYS_BPF, command, uintptr(unsafe.Pointer(&attribute[0])), uintptr(len(attribute)))
	if errno != 0 {
		return -1, errno
	}
	return int(fd), nil
}

// passAll loads a program of the type that lets every packet pass; the file keeps it.
func passAll(t *testing.T, kind, attach uint64, verdict byte) *os.File {
	t.Helper()
	program := []byte{0xb7, 0, 0, 0, verdict, 0, 0, 0, 0x95, 0, 0, 0, 0, 0, 0, 0} // r0 = verdict; exit
	license := []byte("GPL\x00")
	fd, err := bpf(5, // BPF_PROG_LOAD: type and instructions; their address; the licence's; log level and size; log; version and flags; name; ifindex and attach type
		2<<32|kind, uint64(uintptr(unsafe.Pointer(&program[0]))), uint64(uintptr(unsafe.Pointer(&license[0]))), 0, 0, 0, 0, 0, attach<<32)
	runtime.KeepAlive(program)
	runtime.KeepAlive(license)
	if err != nil {
		t.Fatalf("load a program of type %d: %v", kind, err)
	}
	file := os.NewFile(uintptr(fd), "program")
	t.Cleanup(func() { file.Close() })
	return file
}

// TestProgramsThatAreNotTold: whoever may not ask for links to netfilter's hooks says so, and of nothing else.
func TestProgramsThatAreNotTold(t *testing.T) {
	probetest.Need(t, probe.Root, probe.Namespaces, probe.BPF)
	newHost(t).Do(func() {
		header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
		var all [2]unix.CapUserData
		if err := unix.Capget(&header, &all[0]); err != nil {
			t.Fatal(err)
		}
		less := all
		less[0].Effective &^= 1 << unix.CAP_SYS_ADMIN
		if err := unix.Capset(&header, &less[0]); err != nil {
			t.Fatal(err)
		}
		found := filters.Look([]string{"in0", "out0"})
		if err := unix.Capset(&header, &all[0]); err != nil {
			t.Fatal(err)
		}
		if len(found) != 1 || !found[0].Unasked || found[0].Kind != filters.BPF || !strings.Contains(found[0].What, "CAP_SYS_ADMIN") {
			t.Errorf("without CAP_SYS_ADMIN: %v", found)
		}
		if found := filters.Look([]string{"in0", "out0"}); len(found) > 0 {
			t.Errorf("with it: %v", found)
		}
	})
}

func TestProgramsAreFound(t *testing.T) {
	probetest.Need(t, probe.Root, probe.Namespaces, probe.BPF)
	const createLink = 28 // BPF_LINK_CREATE: program and target; attach type and flags
	for name, c := range map[string]struct {
		kind, attach uint64
		verdict      byte
		plant        func(h *nstest.H, program *os.File) (*os.File, error)
		want         filters.Kind
		names        string
	}{
		"XDP": {6, 37, 2, func(h *nstest.H, program *os.File) (*os.File, error) {
			link, err := h.Netlink.LinkByName("in0")
			if err == nil {
				h.Do(func() { err = netlink.LinkSetXdpFd(link, int(program.Fd())) })
			}
			return nil, err
		}, filters.XDP, "at interface in0"},
		"tcx": {3, 46, 0, func(h *nstest.H, program *os.File) (*os.File, error) {
			link, err := h.Netlink.LinkByName("out0")
			if err != nil {
				return nil, err
			}
			var fd int
			h.Do(func() { fd, err = bpf(createLink, uint64(link.Attrs().Index)<<32|uint64(program.Fd()), 46) })
			return os.NewFile(uintptr(fd), "link"), err
		}, filters.BPF, "ingress of interface out0"},
		"netfilter": {32, 45, 1, func(h *nstest.H, program *os.File) (file *os.File, err error) {
			// Then, instead of a target: family and hook, priority and flags.
			const ipv4, forward = 2, 2
			var fd int
			h.Do(func() { fd, err = bpf(createLink, uint64(program.Fd()), 45, forward<<32|ipv4, 7) })
			return os.NewFile(uintptr(fd), "link"), err
		}, filters.BPF, "hook 2 of family 2"},
	} {
		t.Run(name, func(t *testing.T) {
			h := newHost(t)
			program := passAll(t, c.kind, c.attach, c.verdict)
			before := look(h)
			if len(before) > 0 {
				t.Fatalf("before anything is planted: %v", before)
			}
			link, err := c.plant(h, program)
			if err != nil {
				t.Fatal(err)
			}
			found := look(h)
			if len(found) != 1 || found[0].Kind != c.want || !strings.Contains(found[0].String(), c.names) {
				t.Errorf("found %v, want one of %s with %q", found, c.want, c.names)
			}
			if link == nil {
				return
			}
			link.Close()
			if found := look(h); len(found) > 0 {
				t.Errorf("after it was taken away: %v", found)
			}
		})
	}
}
