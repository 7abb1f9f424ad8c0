package socket_test

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"syscall"
	"testing"

	"shekara/netctl/probe"
	"shekara/netctl/probe/probetest"
	"shekara/netctl/socket"
)

const address = "SHEKARA_SOCKET_TEST_ADDRESS"

// TestMain makes the test binary a client that connects as somebody else.
func TestMain(m *testing.M) {
	if path := os.Getenv(address); path != "" {
		conn, err := net.Dial("unix", path)
		if err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
		_, _ = conn.Read(make([]byte, 1)) // until the other end has looked
		os.Exit(0)
	}
	os.Exit(m.Run())
}

func pair(t *testing.T) (a, b *net.UnixConn) {
	t.Helper()
	listener, err := net.ListenUnix("unix", &net.UnixAddr{Name: filepath.Join(t.TempDir(), "s"), Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	if a, err = net.DialUnix("unix", nil, listener.Addr().(*net.UnixAddr)); err != nil {
		t.Fatal(err)
	}
	if b, err = listener.AcceptUnix(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { a.Close(); b.Close() })
	return a, b
}

func TestPeerIsOneself(t *testing.T) {
	_, b := pair(t)
	peer, err := socket.Peer(b)
	if err != nil {
		t.Fatal(err)
	}
	groups, err := os.Getgroups()
	if err != nil {
		t.Fatal(err)
	}
	if int(peer.UID) != os.Getuid() || int(peer.GID) != os.Getgid() || int(peer.PID) != os.Getpid() || len(peer.Groups) != len(groups) {
		t.Errorf("peer is %+v, groups are %v", peer, groups)
	}
}

func TestPeerIsAnother(t *testing.T) {
	probetest.Need(t, probe.Root)
	dir, err := os.MkdirTemp("", "shekara") // TempDir of testing is closed to others
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "s")
	listener, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	if err := os.Chmod(path, 0o666); err != nil {
		t.Fatal(err)
	}
	var groups []uint32
	for i := range 100 { // more than the first buffer of peerGroups holds
		groups = append(groups, uint32(70000+i))
	}
	binary, err := os.ReadFile("/proc/self/exe") // the build folder may be closed to others
	if err != nil {
		t.Fatal(err)
	}
	program := filepath.Join(dir, "client")
	if err := os.WriteFile(program, binary, 0o755); err != nil {
		t.Fatal(err)
	}
	client := exec.Command(program)
	client.Dir = "/"
	client.Env = []string{address + "=" + path}
	client.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 60001, Gid: 60002, Groups: groups}}
	if err := client.Start(); err != nil {
		t.Fatal(err)
	}
	conn, err := listener.AcceptUnix()
	if err != nil {
		t.Fatal(err)
	}
	peer, err := socket.Peer(conn)
	if err != nil {
		t.Fatal(err)
	}
	slices.Sort(peer.Groups)
	if peer.UID != 60001 || peer.GID != 60002 || int(peer.PID) != client.Process.Pid || !slices.Equal(peer.Groups, groups) {
		t.Errorf("peer is %+v", peer)
	}
	if !peer.In(60002) || !peer.In(70099) || peer.In(0) {
		t.Error("In is wrong")
	}
	conn.Close()
	if err := client.Wait(); err != nil {
		t.Error(err)
	}
}

func TestPassFiles(t *testing.T) {
	a, b := pair(t)
	path := filepath.Join(t.TempDir(), "f")
	if err := os.WriteFile(path, []byte("content"), 0o600); err != nil {
		t.Fatal(err)
	}
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := socket.SendFiles(a, []byte("here"), f); err != nil {
		t.Fatal(err)
	}
	f.Close()
	buffer := make([]byte, 10)
	n, files, err := socket.ReceiveFiles(b, buffer)
	if err != nil || string(buffer[:n]) != "here" || len(files) != 1 {
		t.Fatalf("%q, %d files, %v", buffer[:n], len(files), err)
	}
	if got, err := io.ReadAll(files[0]); err != nil || string(got) != "content" {
		t.Errorf("file holds %q, %v", got, err)
	}
	files[0].Close()

	if _, err := a.Write([]byte("plain")); err != nil {
		t.Fatal(err)
	}
	if n, files, err := socket.ReceiveFiles(b, buffer); err != nil || n != 5 || len(files) != 0 {
		t.Errorf("without files: %d, %d, %v", n, len(files), err)
	}
	if socket.SendFiles(a, nil) == nil || socket.SendFiles(a, []byte("x"), make([]*os.File, 17)...) == nil {
		t.Error("a message without a byte, or with too many files, was sent")
	}
	many := make([]int, 40)
	for i := range many {
		many[i] = int(os.Stdin.Fd())
	}
	before := openFiles(t)
	if _, _, err := a.WriteMsgUnix([]byte("x"), syscall.UnixRights(many...), nil); err != nil {
		t.Fatal(err)
	}
	if _, _, err := socket.ReceiveFiles(b, buffer); err == nil {
		t.Error("40 files were received")
	}
	if after := openFiles(t); after != before {
		t.Errorf("%d files open, %d before", after, before)
	}
	a.Close()
	if _, _, err := socket.ReceiveFiles(b, buffer); !errors.Is(err, io.EOF) {
		t.Errorf("at the end: %v", err)
	}
}

func openFiles(t *testing.T) int {
	t.Helper()
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(entries)
}
