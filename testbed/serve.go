package testbed

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// serve is a host's servers: HTTP, echoes over TCP and UDP, and the time (NTP), wrong by an offset, each on a list of addresses. It says READY=1 once all listen.
func serve(ctx context.Context, args []string) error {
	flags := flag.NewFlagSet("serve", flag.ContinueOnError)
	flags.SetOutput(io.Discard)
	web := flags.String("http", "", "")
	tcp := flags.String("tcp", "", "")
	udp := flags.String("udp", "", "")
	clock := flags.String("time", "", "")
	offset := flags.Duration("offset", 0, "")
	name := flags.String("name", "the service", "")
	if err := flags.Parse(args); err != nil || flags.NArg() > 0 {
		return flag.ErrHelp
	}
	var closers []io.Closer
	var running sync.WaitGroup
	defer running.Wait()
	defer func() {
		for _, c := range closers {
			c.Close()
		}
	}()
	for _, address := range split(*web) {
		listener, err := net.Listen("tcp", address)
		if err != nil {
			return err
		}
		server := &http.Server{Handler: page(*name), ReadHeaderTimeout: 10 * time.Second}
		closers = append(closers, server)
		running.Go(func() { _ = server.Serve(listener) })
	}
	for _, address := range split(*tcp) {
		listener, err := net.Listen("tcp", address)
		if err != nil {
			return err
		}
		closers = append(closers, listener)
		running.Go(func() { echoTCP(listener) })
	}
	for _, address := range split(*udp) {
		socket, err := roomy.ListenPacket(ctx, "udp", address)
		if err != nil {
			return err
		}
		closers = append(closers, socket)
		running.Go(func() { answerUDP(socket, func(request []byte) []byte { return request }) })
	}
	for _, address := range split(*clock) {
		socket, err := roomy.ListenPacket(ctx, "udp", address)
		if err != nil {
			return err
		}
		closers = append(closers, socket)
		running.Go(func() { answerUDP(socket, func(request []byte) []byte { return tell(request, *offset) }) })
	}
	if err := notifyReady(); err != nil {
		return err
	}
	<-ctx.Done()
	return nil
}

// roomy sockets hold what arrives while the server waits for a processor. With the kernel's 208 KiB three datagrams of 60,000 bytes
// fill the one socket that all peers ask, and what it then drops looks like a loss on the way.
var roomy = net.ListenConfig{Control: func(_, _ string, raw syscall.RawConn) error {
	var refused error
	if err := raw.Control(func(fd uintptr) {
		refused = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, 32<<20)
	}); err != nil {
		return err
	}
	return refused
}}

func split(list string) []string {
	return strings.FieldsFunc(list, func(r rune) bool { return r == ',' })
}

// page answers with who asked, so that a reader of the report sees where the packet came from.
func page(name string) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintf(w, "%s answers %s\n", name, r.RemoteAddr)
	})
}

func echoTCP(listener net.Listener) {
	for {
		conn, err := listener.Accept()
		if err != nil {
			return
		}
		go func() {
			_, _ = io.Copy(conn, conn) // ends with the connection, or with the process
			conn.Close()
		}()
	}
}

// answerUDP sends what answer makes of each request; nil is nothing.
func answerUDP(socket net.PacketConn, answer func(request []byte) []byte) {
	buffer := make([]byte, 64<<10)
	for {
		n, from, err := socket.ReadFrom(buffer)
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			continue
		}
		if reply := answer(buffer[:n]); reply != nil {
			_, _ = socket.WriteTo(reply, from)
		}
	}
}

// notifyReady says READY=1 as sd_notify(3) does.
func notifyReady() error {
	path := os.Getenv("NOTIFY_SOCKET")
	if path == "" {
		return nil
	}
	conn, err := net.Dial("unixgram", path)
	if err != nil {
		return err
	}
	defer conn.Close()
	_, err = conn.Write([]byte("READY=1"))
	return err
}
