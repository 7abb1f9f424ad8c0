package dataplane

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"time"

	"shekara/netctl/socket"
)

// Order is what a process is told with its TUN: all that it needs to open its port rightly. It holds no key.
type Order struct {
	Name string `json:"name"` // of the link
	MTU  int    `json:"mtu"`
	Port uint16 `json:"port"`
	Mark uint32 `json:"mark"`
}

// answer is the process's one word back: an empty Error is "ready".
type answer struct {
	Error string `json:"error"`
}

const (
	comeWithin  = 30 * time.Second // a process that was started connects and answers; a loaded machine may take seconds
	maxMessage  = 4096
	maxAnswer   = 64 << 10
	socketLabel = ".sock"

	maxSocketPath = 107 // unix(7): sun_path less its final zero
)

// Give starts a process by start and hands it the TUN; on return without error the device is up and serves its UAPI socket.
// The caller closes its descriptor afterwards in any case. Folder is made if need be and belongs to root alone: who can listen or
// connect there could give or take a TUN.
func Give(ctx context.Context, folder string, order Order, tun *os.File, start func() error) error {
	if err := os.MkdirAll(folder, 0o700); err != nil {
		return err
	}
	path := filepath.Join(folder, order.Name+socketLabel)
	if len(path) > maxSocketPath {
		return fmt.Errorf("socket path %s is longer than %d bytes: choose a shorter run folder", path, maxSocketPath)
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) { // of a daemon that was killed
		return err
	}
	listener, err := net.ListenUnix("unix", &net.UnixAddr{Net: "unix", Name: path})
	if err != nil {
		return err
	}
	defer listener.Close() // removes the socket
	if err := os.Chmod(path, 0o600); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, comeWithin)
	defer cancel()
	defer context.AfterFunc(ctx, func() { _ = listener.SetDeadline(time.Unix(1, 0)) })()
	if err := start(); err != nil {
		return err
	}
	connection, err := listener.AcceptUnix()
	if err != nil {
		return fmt.Errorf("wait for the process of %s: %w", order.Name, errors.Join(ctx.Err(), err))
	}
	defer connection.Close()
	defer context.AfterFunc(ctx, func() { _ = connection.SetDeadline(time.Unix(1, 0)) })()
	return converse(connection, order, tun)
}

func converse(connection *net.UnixConn, order Order, tun *os.File) error {
	peer, err := socket.Peer(connection)
	if err != nil {
		return err
	}
	if uid := uint32(os.Geteuid()); peer.UID != uid && peer.UID != 0 {
		return fmt.Errorf("process of user %d asks for %s: not ours", peer.UID, order.Name)
	}
	text, err := json.Marshal(order)
	if err != nil {
		return err
	}
	if err := socket.SendFiles(connection, text, tun); err != nil {
		return err
	}
	reply, err := io.ReadAll(io.LimitReader(connection, maxAnswer))
	if err != nil {
		return fmt.Errorf("wait for the process of %s to be ready: %w", order.Name, err)
	}
	var a answer
	if err := json.Unmarshal(reply, &a); err != nil {
		return fmt.Errorf("the process of %s ended before it was ready: see its log", order.Name)
	}
	if a.Error != "" {
		return errors.New(a.Error)
	}
	return nil
}

// handover is the process's end.
type handover struct {
	order      Order
	tun        *os.File
	connection *net.UnixConn
}

func take(ctx context.Context, runDir, name string) (*handover, error) {
	var d net.Dialer
	c, err := d.DialContext(ctx, "unix", filepath.Join(runDir, "dataplane", name+socketLabel))
	if err != nil {
		return nil, fmt.Errorf("no daemon offers a TUN (it starts this process by itself): %w", err)
	}
	h := &handover{connection: c.(*net.UnixConn)} // "unix" gives no other
	fail := func(err error) (*handover, error) {
		c.Close()
		if h.tun != nil {
			h.tun.Close()
		}
		return nil, err
	}
	if err := c.SetDeadline(time.Now().Add(comeWithin)); err != nil {
		return fail(err)
	}
	buffer := make([]byte, maxMessage)
	// The order is far smaller than what one message on a unix socket carries, so it is here whole.
	n, files, err := socket.ReceiveFiles(h.connection, buffer)
	if err != nil {
		return fail(err)
	}
	for i, f := range files {
		if i == 0 {
			h.tun = f
			continue
		}
		f.Close()
	}
	if h.tun == nil {
		return fail(errors.New("no descriptor came with the order"))
	}
	if err := json.Unmarshal(buffer[:n], &h.order); err != nil {
		return fail(fmt.Errorf("read order: %w", err))
	}
	if h.order.Name != name {
		return fail(fmt.Errorf("order is for %q", h.order.Name))
	}
	return h, nil
}

func (h *handover) answer(result error) error {
	defer h.connection.Close()
	var a answer
	if result != nil {
		a.Error = result.Error()
	}
	text, err := json.Marshal(a)
	if err != nil {
		return err
	}
	_, err = h.connection.Write(text)
	return err
}
