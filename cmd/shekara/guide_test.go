package main

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"shekara/netctl/probe"
	"shekara/netctl/probe/probetest"
	"shekara/testbed/lab"
)

// TestGuide does what docs/getting-started.md says, on two boxes of its own, and finds what it shows. Blocks of the guide:
//
//	```yaml HOST[,HOST]:PATH     a file on these hosts
//	```console [exit=N]          HOST# COMMAND, and what it prints; "..." stands for lines that are left out. N is of the last command.
//	```sh                        for the reader alone; what it names of this repository must be there
//
// Times, keys, sizes and the like are compared as such, not by value. Looks are repeated until they show what they should, as a
// person repeats them.
func TestGuide(t *testing.T) {
	probetest.NeedTime(t, "it takes half a minute")
	probetest.Need(t, probe.Root, probe.Namespaces, probe.NFTables, probe.TUN, probe.Tool("ping"), probe.Tool("wg"))
	text, err := os.ReadFile("../../docs/getting-started.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, state := range states() {
		if !strings.Contains(string(text), "\n| `"+state+"` | ") {
			t.Errorf("the guide does not say what the state %s means", state)
		}
	}
	g := newGuide(t)
	blocks := 0
	for _, block := range fencedBlocks(string(text)) {
		switch block.language {
		case "yaml":
			g.file(block)
		case "console":
			g.console(block)
		case "sh":
			g.repository(block)
		}
		if blocks++; t.Failed() {
			t.Fatalf("docs/getting-started.md:%d: what follows is not tried", block.line)
		}
	}
	if blocks < 25 {
		t.Errorf("%d blocks in the guide: are they marked?", blocks)
	}
}

type fencedBlock struct {
	language, argument string
	lines              []string
	line               int // of its fence
}

func fencedBlocks(text string) (blocks []fencedBlock) {
	var now *fencedBlock
	for i, line := range strings.Split(text, "\n") {
		words, fence := strings.CutPrefix(line, "```")
		switch {
		case fence && now == nil:
			language, argument, _ := strings.Cut(words, " ")
			now = &fencedBlock{language: language, argument: argument, line: i + 1}
		case fence:
			blocks, now = append(blocks, *now), nil
		case now != nil:
			now.lines = append(now.lines, line)
		}
	}
	return blocks
}

// guide is the network that the guide speaks of: office - agency-edge - internet - owner-edge - gateway.
type guide struct {
	t       *testing.T
	network *lab.Network
	daemons map[string]*lab.Process
}

func newGuide(t *testing.T) *guide {
	t.Helper()
	bin := t.TempDir()
	if out, err := exec.Command("go", "build", "-o", bin, "shekara/cmd/shekarad", "shekara/cmd/shekara").CombinedOutput(); err != nil {
		t.Fatalf("build: %v\n%s", err, out)
	}
	g := &guide{t: t, daemons: map[string]*lab.Process{}}
	g.network = lab.Open([]string{filepath.Join(bin, "shekara"), "testbed", "agent"}, []string{"PATH=" + bin + ":/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"})
	t.Cleanup(g.network.Close)
	for _, name := range []string{"office", "agency-edge", "internet", "owner-edge", "gateway"} {
		if _, err := g.network.AddHost(name, name == "internet"); err != nil {
			t.Fatal(err)
		}
	}
	for _, link := range [][]string{
		{"office", "eth0", "10.64.1.5/28", "agency-edge", "lan0", "10.64.1.1/28"},
		{"agency-edge", "ext0", "198.51.100.20/24", "internet", "a0", "198.51.100.1/24"},
		{"owner-edge", "ext0", "203.0.113.10/24", "internet", "o0", "203.0.113.1/24"},
		{"owner-edge", "dmz0", "10.20.0.1/24", "gateway", "eth0", "10.20.0.10/24"},
	} {
		ends := []lab.End{{Host: link[0], Interface: link[1], Addresses: prefixes(link[2])}, {Host: link[3], Interface: link[4], Addresses: prefixes(link[5])}}
		if _, err := g.network.AddLink(lab.LinkSpec{Name: link[0] + link[1], Ends: ends}); err != nil {
			t.Fatal(err)
		}
	}
	for host, via := range map[string]string{"office": "10.64.1.1", "agency-edge": "198.51.100.1", "owner-edge": "203.0.113.1", "gateway": "10.20.0.1"} {
		if err := g.network.Host(host).AddRoute(lab.Route{To: netip.MustParsePrefix("0.0.0.0/0"), Via: netip.MustParseAddr(via)}); err != nil {
			t.Fatal(err)
		}
	}
	return g
}

// file puts a file on its hosts.
func (g *guide) file(block fencedBlock) {
	hosts, path, found := strings.Cut(block.argument, ":")
	if !found {
		return // an example to read
	}
	for host := range strings.SplitSeq(hosts, ",") {
		if err := g.network.Host(host).WriteFile(path, []byte(strings.Join(block.lines, "\n")+"\n"), 0o644); err != nil {
			g.t.Errorf("line %d: %v", block.line, err)
		}
	}
}

var prompt = regexp.MustCompile(`^([a-z-]+)# (.*)$`)

// console types what stands behind the prompts.
func (g *guide) console(block fencedBlock) {
	type command struct {
		host, text string
		shown      []string
		line, exit int
	}
	var commands []command
	for i, line := range block.lines {
		if parts := prompt.FindStringSubmatch(line); parts != nil {
			commands = append(commands, command{host: parts[1], text: parts[2], line: block.line + i + 1})
		} else if len(commands) > 0 {
			last := &commands[len(commands)-1]
			last.shown = append(last.shown, line)
		}
	}
	if text, found := strings.CutPrefix(block.argument, "exit="); found && len(commands) > 0 {
		if _, err := fmt.Sscan(text, &commands[len(commands)-1].exit); err != nil {
			g.t.Errorf("line %d: exit code %q", block.line, text)
		}
	}
	for _, c := range commands {
		deadline := time.Now().Add(30 * time.Second)
		for {
			out, exit := g.run(c.host, c.text)
			if exit == c.exit && shows(c.shown, out) {
				break
			}
			if !looks(c.text) || time.Now().After(deadline) {
				g.t.Errorf("docs/getting-started.md:%d: %s# %s\nexit code %d, want %d; it printed\n%s\nthe guide shows\n%s", c.line, c.host, c.text, exit, c.exit,
					out, strings.Join(c.shown, "\n"))
				return
			}
			time.Sleep(100 * time.Millisecond)
		}
	}
}

// looks reports whether a command changes nothing, so that it may be repeated.
func looks(command string) bool {
	return slices.ContainsFunc([]string{"shekara status", "shekara tunnel", "shekara journal", "shekara history", "ping ", "ip route show", "wg show"},
		func(prefix string) bool { return strings.HasPrefix(command, prefix) })
}

// run runs a command as a shell would. In a namespace there is no systemd and no SSH between the boxes: what they do is done here.
func (g *guide) run(host, text string) (output string, exit int) {
	words := strings.Fields(text)
	switch {
	case words[0] == "systemctl":
		return g.systemctl(host, words[1:])
	case words[0] == "scp":
		return g.copy(host, words[1], words[2])
	}
	ctx, cancel := context.WithTimeout(g.t.Context(), time.Minute)
	defer cancel()
	result, err := g.network.Host(host).Run(ctx, lab.Command{Args: []string{"sh", "-c", "cd /etc/shekara; exec 2>&1; " + text}})
	if err != nil {
		g.t.Fatalf("%s# %s: %v", host, text, err)
	}
	return result.Stdout, result.Exit
}

func (g *guide) systemctl(host string, words []string) (string, int) {
	switch verb := words[0]; verb {
	case "enable", "restart", "stop":
		if daemon := g.daemons[host]; daemon != nil {
			daemon.Kill()
		}
		if verb == "stop" {
			return "", 0
		}
		// Not told of a service manager: the daemon would ask it to run the devices.
		daemon, err := g.network.Host(host).Start(lab.Command{Args: []string{"shekarad"}})
		if err != nil {
			return err.Error(), 1
		}
		g.daemons[host] = daemon
		for range 300 {
			if out, exit := g.run(host, "shekara status --check live"); exit == 0 {
				return "", 0
			} else if !daemon.Running() {
				return out, 1
			}
			time.Sleep(100 * time.Millisecond)
		}
		return "shekarad does not answer", 1
	}
	return "systemctl " + words[0] + " is not for a guide's test", 1
}

// copy is scp HOST:PATH PATH.
func (g *guide) copy(to, source, target string) (string, int) {
	from, path, _ := strings.Cut(source, ":")
	data, err := os.ReadFile(g.network.Host(from).Path(path))
	if err == nil {
		err = g.network.Host(to).WriteFile(target, data, 0o644)
	}
	if err != nil {
		return err.Error(), 1
	}
	return "", 0
}

// repository checks that what a block names of this repository is there.
func (g *guide) repository(block fencedBlock) {
	for word := range strings.FieldsSeq(strings.Join(block.lines, " ")) {
		if strings.HasPrefix(word, "systemd/") {
			if _, err := os.Stat(filepath.Join("../..", word)); err != nil {
				g.t.Errorf("line %d: %v", block.line, err)
			}
		}
	}
}

// shows reports whether an output is as a guide shows it, where "..." stands for any lines. A guide that shows nothing says nothing.
func shows(shown []string, output string) bool {
	if len(shown) == 0 {
		return true
	}
	var pattern strings.Builder
	pattern.WriteString(`^`)
	for _, line := range shown {
		if strings.TrimSpace(line) == "" {
			continue
		}
		if strings.TrimSpace(line) == "..." {
			pattern.WriteString(`(?:.*\n)*`)
		} else {
			pattern.WriteString(regexp.QuoteMeta(guideMasked(line)) + `\n`)
		}
	}
	return regexp.MustCompile(pattern.String() + `$`).MatchString(maskedLines(output))
}

func maskedLines(output string) string {
	var b strings.Builder
	for line := range strings.Lines(output) {
		if line = guideMasked(line); line != "" {
			b.WriteString(line + "\n")
		}
	}
	return b.String()
}

// keyMask is a public key, in quotes or not: one that begins with / or + is written in them. It goes first, since /5s/ in a key is no span.
var keyMask = regexp.MustCompile(`"?[A-Za-z0-9+/]{43}="?`)

func TestGuideTakesAnyKey(t *testing.T) {
	shown := []string{"publicKey: 6vw4sYDZ/NZnqhARtkFh++YZOTeVzToWsA3rNuYj+C4="}
	for _, printed := range []string{`publicKey: "/Z30k/LWwVTafHNNpVtc7Wxld/pWI12qjnTv3MibaSY="`, `publicKey: "+vw4sYDZ/NZnqhARtkFh++YZ/5s/zToWsA3rNuYj+C4="`,
		"publicKey: 6vw4sYDZ/NZnqhARtkFh++YZOTeV/12ms+3rNuYj+C4="} {
		if !shows(shown, printed+"\n") {
			t.Errorf("%s is not taken as a key", printed)
		}
	}
	if shows(shown, "publicKey: 6vw4sYDZ/NZnqhARtkFh++YZOTeVzToWsA3rNuYj\n") {
		t.Error("a cut key is taken as a key")
	}
}

// guideMasked is a line without what differs from run to run. Spaces are one, since columns are as wide as such things.
func guideMasked(line string) string {
	line = masked(keyMask.ReplaceAllString(line, "<key>"))
	for _, m := range []struct{ pattern, with string }{
		{`age1[a-z0-9]{20,}`, "<recipient>"},
		{`\b[0-9a-f]{12}\b`, "<plan>"},
		{`\b[0-9.]+ (B|[KMG]iB)\b`, "<size>"},
		{`\btime[= ][0-9.]+ ?(ms|<span>)|\btime=<span>|\btime <span>`, "<took>"},
		{`shekarad \S+, engine`, "shekarad <version>, engine"},
		{`^ *[0-9]+ +<time>`, "<sequence> <time>"},
		{`\brecords 1 to [0-9]+`, "records 1 to <sequence>"},
		{`\s+`, " "},
	} {
		line = regexp.MustCompile(m.pattern).ReplaceAllString(line, m.with)
	}
	return strings.TrimSpace(line)
}

// TestShows: a guide that shows what was not printed is noticed.
func TestShows(t *testing.T) {
	const output = "Applied: revision 2 is in force (41ms).\n\n! UNDONE AT 2026-11-22 05:41:28 (in 5m0s)\n  last\n"
	for shown, want := range map[string]bool{
		"": true, "...": true,
		"Applied: revision 2 is in force (12ms).\n...":         true,
		"Applied: revision 3 is in force (41ms).\n...":         false,
		"...\n! UNDONE AT 2027-01-01 00:00:00 (in 1m1s)\nlast": true,
		"...\n! UNDONE AT 2027-01-01 00:00:00 (in 1m1s)":       false,
		"...\nlast\n...": true, "...\nfirst\n...": false, "last": false,
	} {
		var lines []string
		if shown != "" {
			lines = strings.Split(shown, "\n")
		}
		if got := shows(lines, output); got != want {
			t.Errorf("shows(%q) = %v", shown, got)
		}
	}
}
