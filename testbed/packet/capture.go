package packet

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"time"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"
	"github.com/gopacket/gopacket/pcapgo"
	"golang.org/x/sys/unix"
)

// mostHeld bounds the reading of what a packet socket holds when a capture ends: its buffer has no room for more.
const mostHeld = 1 << 16

// Capture writes what passes an interface, both ways, as pcap until ctx ends, and returns how many packets that were.
// began is called once nothing can be missed any more.
func Capture(ctx context.Context, place Place, iface string, out io.Writer, began func()) (int, error) {
	seen, _, err := capture(ctx, place, iface, out, began, func(data []byte, link layers.LinkType, outgoing bool) bool { return true })
	return seen, err
}

// capture writes what keep wants to keep.
func capture(ctx context.Context, place Place, iface string, out io.Writer, began func(), keep func(data []byte, link layers.LinkType, outgoing bool) bool) (seen, kept int, err error) {
	index, link := 0, layers.LinkTypeEthernet
	err = place.Do(func() error {
		i, err := net.InterfaceByName(iface)
		if err != nil {
			return fmt.Errorf("capture %s: %w", iface, err)
		}
		index = i.Index
		if len(i.HardwareAddr) == 0 && i.Flags&net.FlagLoopback == 0 {
			link = layers.LinkTypeRaw // a TUN device: packets begin with their IP header
		}
		return nil
	})
	if err != nil {
		return 0, 0, err
	}
	socket, err := openPacketSocket(place, index, unix.SOCK_RAW)
	if err != nil {
		return 0, 0, err
	}
	const longest = 64 << 10
	writer := pcapgo.NewWriter(out)
	if err := writer.WriteFileHeader(longest, link); err != nil {
		socket.Close()
		return 0, 0, fmt.Errorf("write pcap: %w", err)
	}
	began()
	defer socket.Close()
	// What came before the end is in the socket and is still written; what goes on coming is not waited for.
	stop := context.AfterFunc(ctx, func() { _ = socket.SetReadDeadline(time.Now()) })
	defer stop()
	var failed error
	each := func(data []byte, from *unix.SockaddrLinklayer, length int) (on bool) {
		seen++
		if !keep(data, link, from.Pkttype == unix.PACKET_OUTGOING) {
			return true
		}
		info := gopacket.CaptureInfo{Timestamp: time.Now(), CaptureLength: len(data), Length: length}
		if err := writer.WritePacket(info, data); err != nil {
			failed = fmt.Errorf("write pcap: %w", err)
			return false
		}
		kept++
		return true
	}
	if err = readPackets(socket, each); err == nil && failed == nil {
		err = drainPackets(socket, each)
	}
	if failed == nil && err == nil {
		err = overrun(socket)
	}
	if failed != nil {
		err = failed
	}
	return seen, kept, err
}

// overrun says how many packets the kernel did not keep for a capture that was too slow: what was not seen proves nothing.
func overrun(socket *os.File) error {
	raw, err := socket.SyscallConn()
	if err != nil {
		return err
	}
	var lost uint32
	var failed error
	if err := raw.Control(func(fd uintptr) {
		statistics, err := unix.GetsockoptTpacketStats(int(fd), unix.SOL_PACKET, unix.PACKET_STATISTICS)
		if failed = err; err == nil {
			lost = statistics.Drops
		}
	}); err != nil {
		return err
	}
	if failed == nil && lost > 0 {
		failed = fmt.Errorf("the capture lost %d packets: the machine is too busy", lost)
	}
	return failed
}

// Print writes a line for each packet that passes an interface, until ctx ends.
func Print(ctx context.Context, place Place, iface string, out io.Writer) error {
	read, write := io.Pipe()
	go func() { // ends with the capture
		_, err := Capture(ctx, place, iface, write, func() {})
		write.CloseWithError(err)
	}()
	defer read.Close()
	reader, err := pcapgo.NewReader(read)
	if err != nil {
		return err
	}
	for {
		err := printNext(reader, out)
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

// PrintFirst writes a line for the first packet of a pcap.
func PrintFirst(pcap io.Reader, out io.Writer) error {
	reader, err := pcapgo.NewReader(pcap)
	if err != nil {
		return err
	}
	return printNext(reader, out)
}

func printNext(reader *pcapgo.Reader, out io.Writer) error {
	data, info, err := reader.ReadPacketData()
	if err != nil {
		return err
	}
	p := gopacket.NewPacket(data, reader.LinkType(), gopacket.Lazy)
	var names []string
	for _, layer := range p.Layers() {
		names = append(names, layer.LayerType().String())
	}
	from, to := "", ""
	if n := p.NetworkLayer(); n != nil {
		from, to = n.NetworkFlow().Src().String(), n.NetworkFlow().Dst().String()
	}
	if t := p.TransportLayer(); t != nil {
		from, to = from+" "+t.TransportFlow().Src().String(), to+" "+t.TransportFlow().Dst().String()
	}
	fmt.Fprintf(out, "%s %s > %s %s %d bytes\n", info.Timestamp.Format("15:04:05.000000"), from, to, strings.Join(names, "/"), info.Length)
	return nil
}
