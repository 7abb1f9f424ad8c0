package dataplane

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"os"
	"strconv"
	"sync"

	"golang.zx2c4.com/wireguard/conn"
	"golang.zx2c4.com/wireguard/device"
	"golang.zx2c4.com/wireguard/ipc"
	"golang.zx2c4.com/wireguard/tun"
)

// Options of Run. The zero RunDir means /run/shekara.
type Options struct {
	RunDir string
	Log    *slog.Logger
}

// Run takes a TUN from the daemon and is its WireGuard device until ctx ends (the caller ends it on SIGTERM), the link goes, or its UAPI
// socket is removed; that is nil. An error is a device that never came to be; the daemon has been told the same.
func Run(ctx context.Context, name string, options Options) error {
	if options.Log == nil {
		options.Log = slog.New(slog.DiscardHandler)
	}
	log := options.Log.With("device", name)
	h, err := take(ctx, options.RunDir, name)
	if err != nil {
		return fmt.Errorf("take over %s: %w", name, err)
	}
	s, err := serve(h.order, h.tun, log)
	if answerErr := h.answer(err); err == nil && answerErr != nil {
		s.close()
		return fmt.Errorf("answer for %s: %w", name, answerErr) // the daemon is gone, and with it the one who would configure us
	}
	if err != nil {
		return fmt.Errorf("serve %s: %w", name, err)
	}
	log.Info("userspace device is up", "port", h.order.Port, "mark", h.order.Mark)
	log.Info("userspace device ends", "why", s.wait(ctx))
	return nil
}

// server is a device and its UAPI socket.
type server struct {
	device      *device.Device
	uapi        net.Listener
	accepting   chan error
	mu          sync.Mutex
	connections map[net.Conn]struct{}
	handlers    sync.WaitGroup
}

func serve(order Order, file *os.File, log *slog.Logger) (*server, error) {
	t, err := tun.CreateTUNFromFile(file, order.MTU)
	if err != nil {
		file.Close()
		return nil, fmt.Errorf("take TUN: %w", err)
	}
	// The library's own Bind: it brings UDP segmentation offload (2.8 Gbit/s against 0.7). Its two defects do not reach us: a device serves
	// one address family, and what leaves gets its source from the route of the mark (package wireguard, outer_test.go).
	d := device.NewDevice(t, conn.NewDefaultBind(), logger(log))
	fail := func(err error) (*server, error) {
		d.Close()
		return nil, err
	}
	// Before the port opens, so that no packet ever leaves without the mark.
	if err := d.IpcSet("fwmark=" + strconv.FormatUint(uint64(order.Mark), 10) + "\nlisten_port=" + strconv.Itoa(int(order.Port)) + "\n"); err != nil {
		return fail(err)
	}
	if err := d.Up(); err != nil {
		return fail(fmt.Errorf("listen on UDP port %d: %w", order.Port, err))
	}
	socket, err := ipc.UAPIOpen(order.Name)
	if err != nil {
		return fail(fmt.Errorf("open UAPI socket: %w", err))
	}
	uapi, err := ipc.UAPIListen(order.Name, socket)
	socket.Close() // the listener has a copy
	if err != nil {
		return fail(fmt.Errorf("serve UAPI socket: %w", err))
	}
	s := &server{device: d, uapi: uapi, accepting: make(chan error, 1), connections: map[net.Conn]struct{}{}}
	go func() { s.accepting <- s.accept() }()
	return s, nil
}

func (s *server) accept() error {
	for {
		connection, err := s.uapi.Accept()
		if err != nil {
			return err
		}
		s.mu.Lock()
		s.connections[connection] = struct{}{}
		s.mu.Unlock()
		s.handlers.Go(func() {
			s.device.IpcHandle(connection) // closes it
			s.mu.Lock()
			delete(s.connections, connection)
			s.mu.Unlock()
		})
	}
}

// wait returns when the device ends, with the reason.
func (s *server) wait(ctx context.Context) string {
	var why string
	select {
	case <-ctx.Done():
		why = "told to end"
	case <-s.device.Wait():
		why = "link is gone"
	case err := <-s.accepting:
		s.accepting <- err
		why = "UAPI socket is gone: " + err.Error()
	}
	s.close()
	return why
}

func (s *server) close() {
	_ = s.uapi.Close() // also removes the socket
	s.device.Close()   // closes the TUN, and so removes the link
	<-s.accepting
	s.mu.Lock()
	for connection := range s.connections {
		connection.Close()
	}
	s.mu.Unlock()
	s.handlers.Wait()
}
