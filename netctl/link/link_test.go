package link_test

import (
	"errors"
	"io/fs"
	"testing"

	"shekara/netctl/link"
	"shekara/netctl/nstest"
	"shekara/netctl/probe"
	"shekara/netctl/probe/probetest"
	"shekara/netctl/tun"
)

func TestOurLinks(t *testing.T) {
	probetest.Need(t, probe.TUN)
	host := nstest.Host(t, "h")
	h, err := link.Open(host.Namespace)
	if err != nil {
		t.Fatal(err)
	}
	defer h.Close()
	host.Do(func() {
		file, err := tun.Create("sk-a")
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { file.Close() })
	})
	host.Run("ip", "link", "add", "foreign", "type", "bridge")
	if err := errors.Join(h.NoLinkLocal("sk-a"), h.SetMTU("sk-a", 1400), h.SetUp("sk-a")); err != nil {
		t.Fatal(err)
	}
	links, err := h.List()
	if err != nil || len(links) != 1 || links[0].Name != "sk-a" || links[0].Kind != link.KindTUN || links[0].MTU != 1400 || !links[0].Up {
		t.Errorf("links %+v, %v", links, err)
	}
	if out := host.Run("ip", "-6", "address", "show", "dev", "sk-a"); out != "" {
		t.Errorf("the link has an IPv6 address:\n%s", out)
	}
	if h.Delete("foreign") == nil || h.SetUp("foreign") == nil {
		t.Error("a link that is not ours is changed")
	}
	host.Run("ip", "link", "show", "foreign")
	if err := h.Delete("sk-a"); err != nil {
		t.Fatal(err)
	}
	if _, err := h.Get("sk-a"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a deleted link gives %v", err)
	}
	if err := h.Delete("sk-a"); err != nil {
		t.Errorf("deleting twice: %v", err)
	}
	h.Close()
	if _, err := h.List(); !errors.Is(err, fs.ErrClosed) {
		t.Errorf("a closed handle lists links: %v", err)
	}
}

func TestKernelWireGuardLink(t *testing.T) {
	host := nstest.Host(t, "h")
	h, err := link.Open(host.Namespace)
	if err != nil {
		t.Fatal(err)
	}
	defer h.Close()
	err = h.AddWireGuard("sk-w", 1420)
	if has := probe.Has(probe.KernelWireGuard); has != nil {
		if !errors.Is(err, errors.ErrUnsupported) {
			t.Errorf("the kernel has no WireGuard (%v), and making a link gives %v", has, err)
		}
		return
	}
	if err != nil {
		t.Fatal(err)
	}
	if l, err := h.Get("sk-w"); err != nil || l.Kind != link.KindWireGuard || l.MTU != 1420 || l.Up {
		t.Errorf("link %+v, %v", l, err)
	}
}
