package shekara

import (
	"bytes"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

const (
	maxFileLines        = 600
	maxFunctionLines    = 80
	maxInterfaceMethods = 5
)

// exceptions are places that are allowed to break one rule, each with its reason and the day it was granted.
var exceptions = map[string]string{}

// mayImport says, for each top folder, which other top folders its code may import. Tests may import more: see testMayImport.
var mayImport = map[string][]string{
	"netctl":       {"netctl"},
	"systemd":      {"netctl"},
	"tunnels":      {"tunnels", "netctl"},
	"firewall":     {"firewall", "netctl"},
	"timesync":     {"timesync", "netctl"},
	"journal":      {"journal", "netctl"},
	"drawing":      {},
	"provisioning": {"provisioning", "tunnels", "firewall", "timesync", "netctl", "journal", "systemd"},
	"testbed":      {"testbed", "netctl", "tunnels", "timesync", "drawing"},
	"bench":        {"bench", "testbed", "netctl", "tunnels", "firewall", "timesync", "provisioning", "journal"},
	"cmd":          {"provisioning", "tunnels", "firewall", "timesync", "netctl", "journal", "systemd", "testbed", "drawing"},
}

// hostDoors are imports that reach the host. Only netctl, and what is named here with its reason, may have them.
var hostDoors = map[string][]string{
	"os/exec":                                {"netctl", "testbed", "bench"},
	"golang.org/x/sys/unix":                  {"netctl", "testbed", "bench"},
	"syscall":                                {"netctl", "testbed", "bench", "cmd"}, // cmd: signal numbers
	"github.com/vishvananda/netlink":         {"netctl", "testbed", "bench"},
	"github.com/vishvananda/netns":           {"netctl", "testbed"},
	"golang.zx2c4.com/wireguard/wgctrl":      {"tunnels/wireguard"},
	"golang.zx2c4.com/wireguard/device":      {"tunnels/wireguard", "testbed", "bench"},
	"golang.zx2c4.com/wireguard/tun":         {"tunnels/wireguard", "testbed", "bench"},
	"github.com/gopacket/gopacket":           {"testbed"},
	"github.com/ti-mo/conntrack":             {"netctl"},
	"github.com/coreos/go-iptables/iptables": {"netctl"},
	"github.com/florianl/go-nflog":           {"netctl"},
	"github.com/prometheus/client_golang/":   {"provisioning/api"},
}

// ownDirection names packages whose rule differs from their top folder's.
var ownDirection = map[string][]string{
	// The documents speak in the words of the domains, and the client in those of the engine; neither may reach the host.
	"provisioning/document": {"tunnels", "firewall", "netctl", "provisioning"},
}

type source struct {
	path    string // slash-separated, from the root
	test    bool
	file    *ast.File
	lines   int
	imports []string
}

func TestImportsPointOneWay(t *testing.T) {
	for _, s := range sources(t) {
		folder := path.Dir(s.path)
		top, _, _ := strings.Cut(folder, "/")
		if top == "." || s.test {
			continue
		}
		allowed, known := mayImport[top]
		if own, ok := ownDirection[folder]; ok {
			allowed = own
		}
		if !known {
			t.Errorf("%s: folder %q is not in the import table: say what it may import", s.path, top)
			continue
		}
		for _, imported := range s.imports {
			if target, ours := strings.CutPrefix(imported, "shekara/"); ours {
				targetTop, _, _ := strings.Cut(target, "/")
				if !slices.Contains(allowed, targetTop) {
					t.Errorf("%s imports %s: %s may import only %v", s.path, imported, top, allowed)
				}
				if strings.HasSuffix(target, "test") {
					t.Errorf("%s imports %s: only tests import test helpers", s.path, imported)
				}
			}
			for door, holders := range hostDoors {
				if imported != door && !(strings.HasSuffix(door, "/") && strings.HasPrefix(imported, door)) {
					continue
				}
				if !slices.ContainsFunc(holders, func(h string) bool { return folder == h || strings.HasPrefix(folder, h+"/") }) {
					t.Errorf("%s imports %s: only %v may reach the host so", s.path, imported, holders)
				}
			}
		}
	}
}

func TestEveryPackageIsDocumented(t *testing.T) {
	documented := map[string]string{}
	folders := map[string]bool{}
	for _, s := range sources(t) {
		if s.test {
			continue
		}
		folder := path.Dir(s.path)
		folders[folder] = true
		if path.Base(s.path) == "doc.go" && s.file.Doc != nil {
			documented[folder] = s.file.Doc.Text()
		}
	}
	for folder := range folders {
		doc, ok := documented[folder]
		if !ok {
			t.Errorf("%s has no doc.go", folder)
			continue
		}
		for _, answer := range []string{"Owns:", "Never:", "Imports:", "Test:"} {
			if !strings.Contains(doc, "\n"+answer) {
				t.Errorf("%s/doc.go does not say %q", folder, answer)
			}
		}
	}
}

func TestNothingIsTooLarge(t *testing.T) {
	used := map[string]bool{}
	report := func(place, what string) {
		if exceptions[place] != "" {
			used[place] = true
			return
		}
		t.Errorf("%s: %s", place, what)
	}
	for _, s := range sources(t) {
		if s.lines > maxFileLines {
			report(s.path, fmt.Sprintf("%d lines, at most %d", s.lines, maxFileLines))
		}
		ast.Inspect(s.file, func(n ast.Node) bool {
			switch n := n.(type) {
			case *ast.FuncDecl:
				if n.Body == nil {
					return true
				}
				if lines := lineCount(n.Body); lines > maxFunctionLines {
					report(s.path+":"+n.Name.Name, fmt.Sprintf("%d lines, at most %d", lines, maxFunctionLines))
				}
			case *ast.TypeSpec:
				if i, ok := n.Type.(*ast.InterfaceType); ok && i.Methods.NumFields() > maxInterfaceMethods {
					report(s.path+":"+n.Name.Name, fmt.Sprintf("%d methods, at most %d", i.Methods.NumFields(), maxInterfaceMethods))
				}
			}
			return true
		})
	}
	for place := range exceptions {
		if !used[place] {
			t.Errorf("exception for %s is no longer needed: delete it", place)
		}
	}
}

func TestNoInitAndNoTestify(t *testing.T) {
	for _, s := range sources(t) {
		for _, imported := range s.imports {
			if strings.HasPrefix(imported, "github.com/stretchr/") {
				t.Errorf("%s imports %s: the standard library and go-cmp do", s.path, imported)
			}
		}
		for _, declaration := range s.file.Decls {
			if f, ok := declaration.(*ast.FuncDecl); ok && f.Recv == nil && f.Name.Name == "init" {
				t.Errorf("%s has an init function: order and tests stay explicit", s.path)
			}
		}
	}
}

var fileSet = token.NewFileSet()

// lineCount is how long a body is, without the tables in it: a table is data, and reads as easily when it is long.
func lineCount(body ast.Node) int {
	span := func(n ast.Node) int { return fileSet.Position(n.End()).Line - fileSet.Position(n.Pos()).Line - 1 }
	lines := span(body)
	ast.Inspect(body, func(n ast.Node) bool {
		table, ok := n.(*ast.CompositeLit)
		if ok {
			lines -= max(span(table), 0)
		}
		return !ok
	})
	return lines
}

func sources(t *testing.T) []source {
	t.Helper()
	var found []source
	err := filepath.WalkDir(".", func(name string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if entry.IsDir() && (name == ".git" || name == "build" || name == "bin" || entry.Name() == "testdata") {
			return filepath.SkipDir
		}
		if entry.IsDir() || filepath.Ext(name) != ".go" {
			return nil
		}
		text, err := os.ReadFile(name)
		if err != nil {
			return err
		}
		file, err := parser.ParseFile(fileSet, name, text, parser.ParseComments)
		if err != nil {
			return err
		}
		s := source{path: filepath.ToSlash(name), test: strings.HasSuffix(name, "_test.go"), file: file, lines: bytes.Count(text, []byte("\n"))}
		// A package that only tests import (…test) obeys the rules of tests.
		s.test = s.test || strings.HasSuffix(path.Dir(s.path), "test")
		for _, i := range file.Imports {
			s.imports = append(s.imports, strings.Trim(i.Path.Value, `"`))
		}
		found = append(found, s)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(found) == 0 {
		t.Fatal("no Go files found: the test must run in the root folder")
	}
	return found
}
