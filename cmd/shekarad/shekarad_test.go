package main

import (
	"io/fs"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"shekara/provisioning/api"
)

func TestMistakesSayTheNextStep(t *testing.T) {
	dir := t.TempDir()
	busy := settings{runDir: dir}
	lock, err := busy.alone()
	if err != nil {
		t.Fatal(err)
	}
	defer lock.Release()
	for _, c := range []struct {
		args []string
		want string
	}{
		{[]string{"--log-level", "loud"}, "shekarad: --log-level \"loud\": there is no such level\nhint: it is debug, info, warn or error\n"},
		{[]string{"--log-format", "xml"}, "shekarad: --log-format \"xml\": there is no such format\nhint: it is text or json\n"},
		{[]string{"--run-dir", dir, "--state-dir", dir, "cleanup"}, "hint: systemctl stop shekarad ends it"},
		{[]string{"--run-dir", dir, "--state-dir", dir}, "another shekarad runs: lock " + dir + "/shekarad.lock: held by process "},
		{[]string{"frob"}, "unknown command"},
	} {
		var out, problems strings.Builder
		if code := run(t.Context(), c.args, &out, &problems); code != 1 || !strings.Contains(problems.String(), c.want) || out.Len() > 0 {
			t.Errorf("shekarad %v = %d\n%s%swant %s", c.args, code, &out, &problems, c.want)
		}
	}
}

func TestVersion(t *testing.T) {
	var out strings.Builder
	if code := run(t.Context(), []string{"version"}, &out, &out); code != 0 || out.String() != "shekarad unknown\n" {
		t.Errorf("version = %d %q", code, &out)
	}
}

func TestSite(t *testing.T) {
	for text, want := range map[string]string{"owner": "owner", "  owner\n": "owner", "": "error", "two words": "error", "owner\nother\n": "error"} {
		s := settings{etcDir: t.TempDir()}
		if err := os.WriteFile(filepath.Join(s.etcDir, "site"), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		got, err := s.site()
		if err != nil {
			got = "error"
		}
		if got != want {
			t.Errorf("site of %q is %q, %v; want %q", text, got, err, want)
		}
	}
	if name, err := (settings{etcDir: t.TempDir()}).site(); name != "" || err != nil {
		t.Errorf("without the file the site is %q, %v", name, err)
	}
}

func TestDoors(t *testing.T) {
	dir, err := os.MkdirTemp("", "sk") // a unix socket's path holds 107 bytes
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	// What a killed daemon left is taken over.
	stale, err := net.ListenUnix("unix", &net.UnixAddr{Net: "unix", Name: filepath.Join(dir, "shekarad.sock")})
	if err != nil {
		t.Fatal(err)
	}
	stale.SetUnlinkOnClose(false)
	stale.Close()
	group := uint32(os.Getgid())
	doors, err := openDoors(dir, api.Groups{Act: &group})
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]fs.FileMode{"shekarad.sock": 0o660, "shekarad-view.sock": 0o600} {
		info, err := os.Stat(filepath.Join(dir, name))
		if err != nil || info.Mode().Perm() != want {
			t.Errorf("%s: %v, %v; want %o", name, info.Mode(), err, want)
		}
	}
	if doors[0].Most != api.Acts || doors[1].Most != api.Looks {
		t.Errorf("doors allow %v and %v", doors[0].Most, doors[1].Most)
	}
	for _, door := range doors {
		door.Listener.Close()
	}
	// What is not a socket is not ours to remove.
	precious := filepath.Join(dir, "shekarad.sock")
	if err := os.WriteFile(precious, []byte("precious"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := openDoors(dir, api.Groups{}); err == nil {
		t.Error("a file in place of the socket was taken over")
	}
	if text, err := os.ReadFile(precious); err != nil || string(text) != "precious" {
		t.Errorf("the file is now %q, %v", text, err)
	}
}

func TestIdentifyAsksTheKernel(t *testing.T) {
	dir, err := os.MkdirTemp("", "sk")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	listener, err := net.Listen("unix", filepath.Join(dir, "s"))
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	go func() {
		if conn, err := net.Dial("unix", filepath.Join(dir, "s")); err == nil {
			defer conn.Close()
			buffer := make([]byte, 1)
			_, _ = conn.Read(buffer)
		}
	}()
	conn, err := listener.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	credentials, err := identify(conn)
	if err != nil || credentials.Actor.UID != uint32(os.Getuid()) || credentials.Actor.PID != int32(os.Getpid()) || credentials.Groups[0] != uint32(os.Getgid()) {
		t.Errorf("identify = %+v, %v; want this process", credentials, err)
	}
	pipe, _ := net.Pipe()
	if _, err := identify(pipe); err == nil {
		t.Error("a pipe has credentials")
	}
}

func TestGroupsThatTheBoxLacks(t *testing.T) {
	if _, err := groups(slog.New(slog.DiscardHandler)); err != nil {
		t.Errorf("groups: %v", err)
	}
}
