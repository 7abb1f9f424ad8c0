package testbed

import (
	"context"
	"errors"
	"fmt"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
	"golang.zx2c4.com/wireguard/conn"
	"golang.zx2c4.com/wireguard/device"
	"golang.zx2c4.com/wireguard/ipc"
	"golang.zx2c4.com/wireguard/tun"
)

// foreignMTU is wireguard-go's own.
const foreignMTU = device.DefaultMTU

// foreignWireGuard is somebody else's WireGuard device, to be set up by wg(8) and ip(8) alone: the kernel's where there is one,
// else what wireguard-go's own program does with the same library. No line of Shekara's driver is in it.
func foreignWireGuard(ctx context.Context, name string) error {
	link := &netlink.Wireguard{LinkAttrs: netlink.NewLinkAttrs()}
	link.Name = name
	switch err := netlink.LinkAdd(link); {
	case err == nil:
		if err := notifyReady(); err != nil {
			return err
		}
		<-ctx.Done()
		return netlink.LinkDel(link)
	case !errors.Is(err, unix.EOPNOTSUPP):
		return fmt.Errorf("add link %q: %w", name, err)
	}
	t, err := tun.CreateTUN(name, foreignMTU)
	if err != nil {
		return fmt.Errorf("make TUN %q: %w", name, err)
	}
	d := device.NewDevice(t, conn.NewDefaultBind(), device.NewLogger(device.LogLevelError, name+": "))
	defer d.Close()
	socket, err := ipc.UAPIOpen(name)
	if err != nil {
		return fmt.Errorf("open UAPI socket: %w", err)
	}
	listener, err := ipc.UAPIListen(name, socket)
	if err != nil {
		return fmt.Errorf("serve UAPI socket: %w", err)
	}
	defer listener.Close()
	go func() { // ends with the listener
		for {
			c, err := listener.Accept()
			if err != nil {
				return
			}
			go d.IpcHandle(c)
		}
	}()
	if err := notifyReady(); err != nil {
		return err
	}
	select {
	case <-ctx.Done():
	case <-d.Wait():
	}
	return nil
}
