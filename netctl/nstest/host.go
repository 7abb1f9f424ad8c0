package nstest

import (
	"bytes"
	"context"
	"net/netip"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"

	"shekara/netctl/ns"
	"shekara/netctl/probe"
	"shekara/netctl/probe/probetest"
)

// patience bounds the wait for what the kernel does by itself and for tools; it fails a test that hangs and measures nothing.
const patience = 20 * time.Second

// H is a host: a network namespace with loopback up and without duplicate address detection.
type H struct {
	Name      string
	Namespace *ns.Namespace
	Netlink   *netlink.Handle // works inside the namespace from any goroutine
	t         testing.TB
	links     int // made so far by Link, from this end
}

// Host makes a host. It needs, and so may skip for, root and namespaces.
func Host(t testing.TB, name string) *H {
	t.Helper()
	probetest.Need(t, probe.Root, probe.Namespaces)
	space, err := ns.New()
	if err != nil {
		t.Fatalf("make host %s: %v", name, err)
	}
	t.Cleanup(func() { space.Close() })
	if initial, err := space.Initial(); err != nil || initial {
		t.Fatalf("make host %s: namespace is the initial one (%v, %v)", name, initial, err)
	}
	handle, err := netlink.NewHandleAt(netns.NsHandle(space.FD()))
	if err != nil {
		t.Fatalf("make host %s: %v", name, err)
	}
	t.Cleanup(handle.Close)
	h := &H{Name: name, Namespace: space, Netlink: handle, t: t}
	for _, scope := range []string{"all", "default"} {
		h.Sysctl("net.ipv6.conf."+scope+".accept_dad", "0")
		h.Sysctl("net.ipv6.conf."+scope+".accept_ra", "0")
	}
	h.up("lo")
	return h
}

// Do runs f inside the host. t.Fatal may be called in f. See ns.Namespace.Do for what belongs to the host afterwards.
func (h *H) Do(f func()) {
	h.t.Helper()
	if err := h.Namespace.Do(func() error { f(); return nil }); err != nil {
		h.t.Fatalf("on %s: %v", h.Name, err)
	}
}

// Command is a program that will run inside the host, started from anywhere. Its process ID is the program's own.
func (h *H) Command(ctx context.Context, argv ...string) *exec.Cmd {
	return exec.CommandContext(ctx, "nsenter", append([]string{"--net=" + h.Namespace.Path(), "--"}, argv...)...)
}

// Run runs a program inside the host to its end and returns its standard output; the test fails if the program does.
func (h *H) Run(argv ...string) string {
	h.t.Helper()
	out, err := h.Try(argv...)
	if err != nil {
		h.t.Fatalf("on %s: %s: %v\n%s", h.Name, strings.Join(argv, " "), err, out)
	}
	return out
}

// Try runs a program inside the host and returns its standard output, or, if it fails, its standard error too.
func (h *H) Try(argv ...string) (string, error) {
	return h.TryInput("", argv...)
}

// RunInput is Run with standard input.
func (h *H) RunInput(stdin string, argv ...string) string {
	h.t.Helper()
	out, err := h.TryInput(stdin, argv...)
	if err != nil {
		h.t.Fatalf("on %s: %s: %v\n%s", h.Name, strings.Join(argv, " "), err, out)
	}
	return out
}

// TryInput is Try with standard input.
func (h *H) TryInput(stdin string, argv ...string) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	command := h.Command(ctx, argv...)
	var stdout, stderr bytes.Buffer
	command.Stdin, command.Stdout, command.Stderr = strings.NewReader(stdin), &stdout, &stderr
	command.WaitDelay = time.Second
	if err := command.Run(); err != nil {
		return stdout.String() + stderr.String(), err
	}
	return stdout.String(), nil
}

// Start starts a program that runs until the test ends, or until it ends by itself.
func (h *H) Start(argv ...string) *exec.Cmd {
	h.t.Helper()
	command := h.Command(context.Background(), argv...)
	command.Stdout, command.Stderr = h.t.Output(), h.t.Output()
	command.WaitDelay = time.Second
	if err := command.Start(); err != nil {
		h.t.Fatalf("on %s: start %s: %v", h.Name, argv[0], err)
	}
	h.t.Cleanup(func() {
		_ = command.Process.Kill() // it may have ended
		_ = command.Wait()
	})
	return command
}

// Sysctl sets a kernel parameter of the host, named with dots; a dot in an interface's name is written as a slash (sysctl(8)).
func (h *H) Sysctl(key, value string) {
	h.t.Helper()
	path := "/proc/sys/" + strings.NewReplacer(".", "/", "/", ".").Replace(key)
	h.Do(func() {
		if err := os.WriteFile(path, []byte(value), 0o644); err != nil {
			h.t.Fatalf("on %s: set %s: %v", h.Name, key, err)
		}
	})
}

// Forwarding makes the host a router.
func (h *H) Forwarding() {
	h.t.Helper()
	h.Sysctl("net.ipv4.ip_forward", "1")
	h.Sysctl("net.ipv6.conf.all.forwarding", "1")
}

// Route adds a route by a gateway. to is a prefix, or "default" for all of the gateway's family.
func (h *H) Route(to, gateway string) {
	h.t.Helper()
	via := netip.MustParseAddr(gateway)
	if to == "default" {
		to = map[bool]string{true: "0.0.0.0/0", false: "::/0"}[via.Is4()]
	}
	destination, err := netlink.ParseIPNet(to)
	if err != nil {
		h.t.Fatalf("on %s: route %s: %v", h.Name, to, err)
	}
	if err := h.Netlink.RouteAdd(&netlink.Route{Dst: destination, Gw: via.AsSlice()}); err != nil {
		h.t.Fatalf("on %s: route %s via %s: %v", h.Name, to, gateway, err)
	}
}

// Address adds an address with its prefix length to an interface that is up. It can be used on return.
func (h *H) Address(iface string, addresses ...string) {
	h.t.Helper()
	link, err := h.Netlink.LinkByName(iface)
	if err != nil {
		h.t.Fatalf("on %s: %v", h.Name, err)
	}
	for _, text := range addresses {
		prefix := netip.MustParsePrefix(text)
		address := &netlink.Addr{IPNet: netlink.NewIPNet(prefix.Addr().AsSlice())}
		address.Mask = maskOf(prefix)
		if prefix.Addr().Is6() {
			address.Flags = ifaNoDAD
		}
		if err := h.Netlink.AddrAdd(link, address); err != nil {
			h.t.Fatalf("on %s: add address %s to %s: %v", h.Name, text, iface, err)
		}
	}
}

func (h *H) up(iface string) {
	h.t.Helper()
	link, err := h.Netlink.LinkByName(iface)
	if err == nil {
		err = h.Netlink.LinkSetUp(link)
	}
	if err != nil {
		h.t.Fatalf("on %s: set %s up: %v", h.Name, iface, err)
	}
}
