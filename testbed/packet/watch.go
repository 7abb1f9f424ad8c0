package packet

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"os"
	"slices"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// Sighting is a crafted packet that came in somewhere.
type Sighting struct {
	Place     string
	Interface string
	At        time.Time
}

func (s Sighting) String() string { return s.Place + "/" + s.Interface }

// Watch sees crafted packets come in at many places. It sees what a cable brings, before any filter of that place; what a place
// sends out itself is not seen there, nor are answers and ICMP errors, which carry a packet's marker back.
type Watch struct {
	mu        sync.Mutex // guards below
	sightings map[Marker][]Sighting
	changed   chan struct{} // closed and replaced at each sighting

	sockets []*os.File
	readers sync.WaitGroup
}

// NewWatch begins to watch at places, each under its name, on all their interfaces. Close ends it.
func NewWatch(places map[string]Place) (*Watch, error) {
	w := &Watch{sightings: map[Marker][]Sighting{}, changed: make(chan struct{})}
	for name, place := range places {
		socket, err := openPacketSocket(place, 0, unix.SOCK_DGRAM)
		if err != nil {
			w.Close()
			return nil, fmt.Errorf("watch %s: %w", name, err)
		}
		w.sockets = append(w.sockets, socket)
		w.readers.Go(func() { w.read(name, place, socket) })
	}
	return w, nil
}

// Close ends the watch.
func (w *Watch) Close() {
	for _, s := range w.sockets {
		s.Close()
	}
	w.readers.Wait()
}

// openPacketSocket listens on one interface, or on all for index 0.
func openPacketSocket(place Place, index, kind int) (*os.File, error) {
	var file *os.File
	err := place.Do(func() error {
		all := binary.NativeEndian.Uint16(binary.BigEndian.AppendUint16(nil, unix.ETH_P_ALL))
		fd, err := unix.Socket(unix.AF_PACKET, kind|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, int(all))
		if err != nil {
			return fmt.Errorf("open packet socket: %w", err)
		}
		// Room for a burst; without the right to force it the default stays.
		_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, 8<<20)
		if index != 0 {
			if err := unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: all, Ifindex: index}); err != nil {
				unix.Close(fd)
				return fmt.Errorf("bind packet socket: %w", err)
			}
		}
		file = os.NewFile(uintptr(fd), "packet socket")
		return nil
	})
	return file, err
}

// readPackets calls f with each packet until the socket is closed, or f says that it is enough.
func readPackets(socket *os.File, f func(data []byte, from *unix.SockaddrLinklayer, length int) (on bool)) error {
	conn, err := socket.SyscallConn()
	if err != nil {
		return err
	}
	buffer := make([]byte, 64<<10)
	for {
		var n int
		var from unix.Sockaddr
		var failed error
		err := conn.Read(func(fd uintptr) bool {
			n, from, failed = unix.Recvfrom(int(fd), buffer, unix.MSG_TRUNC)
			return !errors.Is(failed, unix.EAGAIN)
		})
		if err != nil {
			return nil // closed
		}
		if errors.Is(failed, unix.ENETDOWN) || errors.Is(failed, unix.EINTR) {
			continue // an interface went down; others go on
		}
		if failed != nil {
			return failed
		}
		if link, ok := from.(*unix.SockaddrLinklayer); ok && !f(buffer[:min(n, len(buffer))], link, n) {
			return nil
		}
	}
}

// drainPackets calls f with each packet that the socket holds, and waits for none. f must not close the socket.
func drainPackets(socket *os.File, f func(data []byte, from *unix.SockaddrLinklayer, length int) (on bool)) error {
	conn, err := socket.SyscallConn()
	if err != nil {
		return err
	}
	buffer := make([]byte, 64<<10)
	return conn.Control(func(fd uintptr) {
		for range mostHeld {
			n, from, err := unix.Recvfrom(int(fd), buffer, unix.MSG_TRUNC|unix.MSG_DONTWAIT)
			if errors.Is(err, unix.EINTR) || errors.Is(err, unix.ENETDOWN) {
				continue
			}
			if err != nil {
				return // nothing is left
			}
			if link, ok := from.(*unix.SockaddrLinklayer); ok && !f(buffer[:min(n, len(buffer))], link, n) {
				return
			}
		}
	})
}

func (w *Watch) read(name string, place Place, socket *os.File) {
	interfaces := map[int]string{}
	// An error here shows as packets that arrive nowhere: the control of each such step fails.
	_ = readPackets(socket, func(data []byte, from *unix.SockaddrLinklayer, _ int) (on bool) {
		if from.Pkttype == unix.PACKET_OUTGOING || isAnswer(data) {
			return true
		}
		marker, found := findMarker(data)
		if !found {
			return true
		}
		if interfaces[from.Ifindex] == "" {
			interfaces[from.Ifindex] = interfaceName(place, from.Ifindex)
		}
		w.mu.Lock()
		w.sightings[marker] = append(w.sightings[marker], Sighting{name, interfaces[from.Ifindex], time.Now()})
		close(w.changed)
		w.changed = make(chan struct{})
		w.mu.Unlock()
		return true
	})
}

func interfaceName(place Place, index int) string {
	name := fmt.Sprintf("interface %d", index)
	_ = place.Do(func() error {
		if i, err := net.InterfaceByIndex(index); err == nil {
			name = i.Name
		}
		return nil
	})
	return name
}

// isAnswer tells echo replies and ICMP errors, which quote what they answer.
func isAnswer(data []byte) bool {
	switch {
	case len(data) > 20 && data[0]>>4 == 4 && data[9] == unix.IPPROTO_ICMP:
		header := int(data[0]&15) * 4
		return len(data) > header && data[header] != 8
	case len(data) > 40 && data[0]>>4 == 6 && data[6] == unix.IPPROTO_ICMPV6:
		return data[40] != 128
	}
	return false
}

// Seen is where a packet came in so far.
func (w *Watch) Seen(marker Marker) []Sighting {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Clone(w.sightings[marker])
}

// Wait waits until the packet came in at all the places named ("host" or "host/interface"), and returns those that are missing
// when ctx ends.
func (w *Watch) Wait(ctx context.Context, marker Marker, places []string) (missing []string) {
	for {
		w.mu.Lock()
		seen, changed := w.sightings[marker], w.changed
		missing = slices.DeleteFunc(slices.Clone(places), func(place string) bool {
			return slices.ContainsFunc(seen, func(s Sighting) bool { return s.Is(place) })
		})
		w.mu.Unlock()
		if len(missing) == 0 {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return missing
		}
	}
}

// Is reports whether the sighting was at the place: "host" or "host/interface".
func (s Sighting) Is(place string) bool { return s.Place == place || s.String() == place }
