package main

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"shekara/provisioning/document"
	"shekara/provisioning/validate"
)

func prefixes(texts ...string) []netip.Prefix {
	var out []netip.Prefix
	for _, text := range texts {
		out = append(out, netip.MustParsePrefix(text))
	}
	return out
}

func gateways(texts ...string) []netip.Addr {
	var out []netip.Addr
	for _, text := range texts {
		out = append(out, netip.MustParseAddr(text))
	}
	return out
}

// TestStarterIsValid: whatever the host looks like, what init writes validates as it is.
func TestStarterIsValid(t *testing.T) {
	for name, c := range map[string]struct {
		host hostView
		want []string
	}{
		"a usual box": {
			host: hostView{name: "owner", peer: "owner-edge", admin: netip.MustParseAddr("192.168.100.7"), adminAt: netip.MustParseAddr("192.168.100.1"), interfaces: []interfaceView{
				{"ext0", prefixes("8.8.4.10/24", "2606:4700::10/64"), gateways("8.8.4.1", "2606:4700::1")}, {"dmz0", prefixes("10.20.0.1/24"), nil}, {"adm0", prefixes("192.168.100.1/24"), nil}, {"spare0", nil, nil}}},
			want: []string{"publicIP: 8.8.4.10", "management: {zone: adm0, from: [192.168.100.7/32], allow: [tcp/22]}", "# - {name: spare0, zone: }", "prefixes: [10.20.0.0/24]",
				"    gateways: [8.8.4.1, \"2606:4700::1\"]\n"},
		},
		"a box whose default route is on its second interface": {
			host: hostView{name: "second", peer: "second-edge", interfaces: []interfaceView{{"eth0", prefixes("10.1.2.3/24"), nil}, {"eth1", prefixes("10.2.2.3/24"), gateways("10.2.2.1")}}},
			want: []string{"publicIP: 10.2.2.3", "  - name: eth1\n    zone: internet\n    addresses: [10.2.2.3/24]\n    gateways: [10.2.2.1]\n"},
		},
		"a lab box": {
			host: hostView{name: "lab", peer: "lab-edge", interfaces: []interfaceView{{"eth0", prefixes("203.0.113.10/24"), nil}}},
			want: []string{"lab: true", "NOBODY reaches the box", "# gateways: [192.0.2.1]"},
		},
		"a box with private addresses alone": {
			host: hostView{name: "inside", peer: "inside-edge", interfaces: []interfaceView{{"eth0", prefixes("10.1.2.3/24"), nil}, {"Eth0", prefixes("10.2.2.3/24"), nil}, {"internet", prefixes("10.3.2.3/24"), nil}}},
			want: []string{"lab: true", "metadata: {name: eth0}", "metadata: {name: internet-net}"},
		},
		"an IPv6 box": {
			host: hostView{name: "six", peer: "six-edge", interfaces: []interfaceView{{"eth0", prefixes("2606:4700::10/64"), nil}, {"eth1", prefixes("fd00:1::1/64"), nil}}},
			want: []string{"publicIP: 2606:4700::10", `prefixes: ["fd00:1::/64"]`},
		},
		"a box without addresses": {host: hostView{name: "bare", peer: "bare-edge", interfaces: []interfaceView{{"eth0", nil, nil}}}, want: []string{"peers: []"}},
	} {
		text := starter(c.host)
		documents, problems := document.Decode([]document.File{{Name: name, Data: []byte(text)}})
		problems = append(problems, validate.Check(document.NewSet(documents...), validate.Options{Site: c.host.name})...)
		for _, p := range problems {
			t.Errorf("%s: %v", name, p)
		}
		for _, want := range c.want {
			if !strings.Contains(text, want) {
				t.Errorf("%s: the starter lacks %q", name, want)
			}
		}
		if t.Failed() {
			t.Logf("%s", text)
		}
	}
}

// TestStarterExampleIsValid: the commented example works once it is uncommented and its names are filled in.
func TestStarterExampleIsValid(t *testing.T) {
	host := hostView{name: "owner", peer: "owner-edge", interfaces: []interfaceView{{"ext0", prefixes("203.0.113.10/24"), nil}, {"dmz0", prefixes("10.20.0.1/24"), nil}}}
	head, example, _ := strings.Cut(starter(host), "# ---\n")
	head = strings.Replace(head, "# wireguard:", "wireguard:", 1)
	head = strings.NewReplacer("contour: internal ", "contour: integration ", "kind: lan ", "kind: screened-subnet ").Replace(head)
	text := head + "---\n" + strings.NewReplacer("\n# ", "\n", "ITS-ZONE", "dmz0").Replace("\n"+example) + `
---
apiVersion: shekara/v1
kind: Peer
metadata: {name: agency-a-edge}
spec:
  side: initiator
  publicIP: 203.0.113.20
  wireguard: [{farZone: dmz0, environment: production, port: 51820, publicKey: "HIgo9xNzJMWLKASShiTqIybxZ0U3wGLiUeJ1PKf8ykw="}]
`
	documents, problems := document.Decode([]document.File{{Name: "example", Data: []byte(text)}})
	problems = append(problems, validate.Check(document.NewSet(documents...), validate.Options{Site: "owner"})...)
	for _, p := range problems {
		t.Errorf("%v", p)
	}
	if len(documents) != 8 {
		t.Errorf("%d documents, want 8\n%s", len(documents), text)
	}
}

func TestLabel(t *testing.T) {
	for name, want := range map[string]string{"Edge-1.example.org": "edge-1", "a_b": "a-b", "--": "", strings.Repeat("x", 70): strings.Repeat("x", 63), "ящик7": "7"} {
		if got := label(name); got != want {
			t.Errorf("label(%q) = %q, want %q", name, got, want)
		}
	}
}

func TestNames(t *testing.T) {
	long := strings.Repeat("x", 63)
	for _, c := range []struct{ host, site, wantSite, wantPeer string }{
		{"owner-edge", "", "owner", "owner-edge"},
		{"owner", "", "owner", "owner-edge"},
		{"box", "owner", "owner", "owner-edge"},
		{"box", "owner-edge", "owner-edge", "owner-edge"},
		{"box", long, long, strings.Repeat("x", 58) + "-edge"},
	} {
		if site, peer := names(c.host, c.site); site != c.wantSite || peer != c.wantPeer {
			t.Errorf("names(%q, %q) = %q, %q", c.host, c.site, site, peer)
		}
	}
}

// TestSSHConnectionOfAnAncestor: sudo drops the variable, the login shell above it has it.
func TestSSHConnectionOfAnAncestor(t *testing.T) {
	proc := t.TempDir()
	process := func(pid, parent int, name, environment string) {
		dir := filepath.Join(proc, strconv.Itoa(pid))
		stat := fmt.Sprintf("%d (%s) S %d %d", pid, name, parent, pid)
		if err := errors.Join(os.Mkdir(dir, 0o755), os.WriteFile(filepath.Join(dir, "stat"), []byte(stat), 0o644),
			os.WriteFile(filepath.Join(dir, "environ"), []byte(environment), 0o644)); err != nil {
			t.Fatal(err)
		}
	}
	process(30, 20, "shekara", "HOME=/root\x00PATH=/bin\x00")
	process(20, 10, "su) S 1 (do", "HOME=/root\x00")
	process(10, 1, "bash", "HOME=/home/anna\x00SSH_CONNECTION=192.0.2.7 50000 203.0.113.10 22\x00")
	process(40, 1, "cron", "")
	process(1, 0, "init", "")
	for pid, want := range map[int]string{30: "192.0.2.7 50000 203.0.113.10 22", 40: "", 99: ""} {
		if got := sshConnection(proc, pid); got != want {
			t.Errorf("of process %d: %q, want %q", pid, got, want)
		}
	}
}

// TestInitWritesAllOrNothing: with either file in the way neither is written, and nothing that is there changes, unless with --force.
func TestInitWritesAllOrNothing(t *testing.T) {
	for _, inTheWay := range []string{"owner.yaml", "site"} {
		dir := t.TempDir()
		if err := os.WriteFile(filepath.Join(dir, inTheWay), []byte("precious"), 0o600); err != nil {
			t.Fatal(err)
		}
		var out, problems strings.Builder
		if code := run(t.Context(), []string{"init", dir, "--site", "owner"}, strings.NewReader(""), &out, &problems); code != 1 || out.Len() > 0 ||
			!strings.Contains(problems.String(), inTheWay+" is there already, and nothing was written") {
			t.Errorf("init beside %s = %d %s%s", inTheWay, code, &out, &problems)
		}
		entries, err := os.ReadDir(dir)
		if text, _ := os.ReadFile(filepath.Join(dir, inTheWay)); err != nil || len(entries) != 1 || string(text) != "precious" {
			t.Errorf("beside %s it left %v, %v; that holds %q", inTheWay, entries, err, text)
		}
		if code := run(t.Context(), []string{"init", dir, "--site", "owner", "--force"}, strings.NewReader(""), &out, &problems); code != 0 {
			t.Errorf("init --force = %d %s", code, &problems)
		}
		if text, _ := os.ReadFile(filepath.Join(dir, "site")); string(text) != "owner\n" {
			t.Errorf("site holds %q", text)
		}
	}
	// A first file goes again if the second cannot be written.
	dir := t.TempDir()
	if err := os.Mkdir(filepath.Join(dir, "site"), 0o755); err != nil {
		t.Fatal(err)
	}
	if code := run(t.Context(), []string{"init", dir, "--site", "owner"}, strings.NewReader(""), io.Discard, io.Discard); code != 1 {
		t.Errorf("init with a folder in place of a file = %d", code)
	}
	if _, err := os.Stat(filepath.Join(dir, "owner.yaml")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("half of init was done: %v", err)
	}
}
