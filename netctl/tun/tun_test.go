package tun_test

import (
	"errors"
	"testing"

	"golang.org/x/sys/unix"
	wireguard "golang.zx2c4.com/wireguard/tun"

	"shekara/netctl/nstest"
	"shekara/netctl/probe"
	"shekara/netctl/probe/probetest"
	"shekara/netctl/tun"
)

func TestCreate(t *testing.T) {
	probetest.Need(t, probe.TUN)
	h := nstest.Host(t, "h")
	h.Do(func() {
		file, err := tun.Create("sk-test")
		if err != nil {
			t.Fatal(err)
		}
		if name, err := tun.Name(file); err != nil || name != "sk-test" {
			t.Errorf("name is %q, %v", name, err)
		}
		if _, err := tun.Create("sk-test"); !errors.Is(err, unix.EBUSY) {
			t.Errorf("made twice: %v", err)
		}
		for _, name := range []string{"", "sk-%d", "lo", "a-name-that-is-too-long"} {
			if _, err := tun.Create(name); err == nil {
				t.Errorf("%q was made", name)
			}
		}
		// What it is for.
		device, err := wireguard.CreateTUNFromFile(file, 1420)
		if err != nil {
			t.Fatal(err)
		}
		if device.BatchSize() <= 1 {
			t.Errorf("batch size is %d: no virtio headers", device.BatchSize())
		}
		if link, err := h.Netlink.LinkByName("sk-test"); err != nil || link.Attrs().MTU != 1420 {
			t.Errorf("link is %v, %v", link, err)
		}
		if err := device.Close(); err != nil {
			t.Error(err)
		}
		if _, err := h.Netlink.LinkByName("sk-test"); err == nil {
			t.Error("the device outlives its descriptor")
		}
	})
}
