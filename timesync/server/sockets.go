package server

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"slices"
	"sync"

	"shekara/netctl/datagram"
)

// running are the sockets of a Run, and their goroutines.
type running struct {
	server  *Server
	open    map[netip.AddrPort][]*datagram.Conn
	adopted map[netip.AddrPort]*datagram.Conn // of Options.Files
	all     sync.WaitGroup
	ended   chan ending
}

// ending is a socket that failed.
type ending struct {
	conn *datagram.Conn
	err  error
}

// adopt serves on the sockets that were handed over.
func (r *running) adopt(ctx context.Context) {
	for _, file := range r.server.options.Files {
		c, err := datagram.FromFile(file)
		if err != nil {
			r.server.options.Logger.Error("a socket that was handed over is not used", "error", err)
			continue
		}
		r.adopted[c.Local()] = c
		r.serve(ctx, c)
	}
}

// covered says whether a socket that was handed over serves an address.
func (r *running) covered(at netip.AddrPort) bool {
	for _, c := range r.adopted {
		if c.Serves(at) {
			return true
		}
	}
	return false
}

// reconcile opens and closes until the sockets are those that are wanted, and says which could not be opened.
func (r *running) reconcile(ctx context.Context, addresses []netip.Addr) (failures []Failure) {
	var want []netip.AddrPort
	for _, address := range addresses {
		if at := netip.AddrPortFrom(address, r.server.options.Port); !r.covered(at) {
			want = append(want, at)
		}
	}
	for at := range r.open {
		if !slices.Contains(want, at) {
			r.closeAt(at)
		}
	}
	defer func() { r.server.open.Store(int32(len(r.open))) }()
	for _, at := range want {
		if r.open[at] != nil {
			continue
		}
		for range r.server.options.Sockets {
			c, err := datagram.Listen(at)
			if err != nil {
				r.closeAt(at)
				failures = append(failures, Failure{at, err})
				break
			}
			r.open[at] = append(r.open[at], c)
			r.serve(ctx, c)
		}
	}
	return failures
}

func (r *running) closeAt(at netip.AddrPort) {
	for _, c := range r.open[at] {
		_ = c.Close() // nothing is in it that could be lost
	}
	delete(r.open, at)
	if c := r.adopted[at]; c != nil {
		_ = c.Close() // as above
		delete(r.adopted, at)
	}
}

// serve answers at a socket until it is closed, or fails.
func (r *running) serve(ctx context.Context, c *datagram.Conn) {
	r.all.Go(func() {
		err := newWorker(r.server, c).run()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		select {
		case r.ended <- ending{c, err}:
		case <-ctx.Done():
		}
	})
}

func (r *running) stop() {
	for at := range r.open {
		r.closeAt(at)
	}
	for at := range r.adopted {
		r.closeAt(at)
	}
	r.all.Wait()
}
