package testbed

import (
	"bytes"
	"context"
	"encoding/json"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"shekara/netctl/probe"
	"shekara/netctl/probe/probetest"
	"shekara/testbed/report"
	"shekara/testbed/scenarios"
)

// TestMain lets the test binary be "shekara testbed", as which hosts are started.
func TestMain(m *testing.M) {
	if len(os.Args) > 2 && os.Args[1] == "testbed" {
		os.Exit(Main(context.Background(), os.Args[2:], os.Stdout, os.Stderr))
	}
	os.Exit(m.Run())
}

// routed is a scenario with a filter made by hand in place of Shekara: it exercises the testbed alone.
const routed = `
name: routed
title: Two hosts behind a router with a filter
seed: 3
variables: {open: "80"}
hosts:
  - {name: client, zone: outside, peer: r, routes: [{to: default, via: 192.0.2.1}, {to: default, via: "2001:db8:1::1"}]}
  - name: r
    kind: router
    forward: true
    programs:
      - {name: sleeper, command: [sleep, "1000"]}
  - name: server
    zone: inside
    peer: r
    routes: [{to: default, via: 198.51.100.1}, {to: default, via: "2001:db8:2::1"}]
    files: {/etc/shekara/site: "${open}"}
    programs:
      - {name: web, command: [testbed, serve, --http, "198.51.100.2:80", --udp, "198.51.100.2:7", --tcp, "198.51.100.2:22", --name, server], ready: true}
links:
  - name: front
    impairable: true
    ends:
      - {host: client, interface: eth0, addresses: [192.0.2.2/24, "2001:db8:1::2/64"]}
      - {host: r, interface: front0, addresses: [192.0.2.1/24, "2001:db8:1::1/64"]}
  - name: back
    ends:
      - {host: r, interface: back0, addresses: [198.51.100.1/24, "2001:db8:2::1/64"]}
      - {host: server, interface: eth0, addresses: [198.51.100.2/24, "2001:db8:2::2/64"]}
setup:
  - name: filter
    run:
      on: r
      shell: |
        nft -f - <<EOF
        table inet t {
          chain forward {
            type filter hook forward priority 0; policy FILTER_POLICY;
            ct state established accept
            ip saddr 192.0.2.2 ip daddr 198.51.100.2 tcp dport { ${open} } accept
            ip saddr 192.0.2.2 ip daddr 198.51.100.2 udp dport 7 accept
            ip6 saddr 2001:db8:1::2 tcp dport 80 accept
          }
        }
        EOF
steps:
  - {name: file is there, run: {on: server, command: [cat, /etc/shekara/site], output: "^80$", set: read}}
  - {name: variable was set, run: {on: client, command: [echo, "${read}"], output: "^80$"}}
  - {name: web answers, reach: {from: client, to: "http://198.51.100.2/", protocol: http, body: "server answers 192.0.2.2:"}}
  - {name: another port is blocked, reach: {from: client, to: "198.51.100.2:22", protocol: tcp, blocked: true, controlBy: web answers}}
  - {name: echo answers, reach: {from: client, to: "198.51.100.2:7", protocol: udp}}
  - name: spoofed packets do not pass
    send:
      from: client
      packet: {source: 192.0.2.77, destination: 198.51.100.2, protocol: tcp, port: 80}
      notArrives: [server]
      control: {packet: {source: 192.0.2.2, destination: 198.51.100.2, protocol: tcp, port: 80}}
  - name: who reaches whom
    matrix: {hosts: [client, server], services: [tcp/80, tcp/22, udp/7, icmp], documents: [documents.yaml]}
  - {name: capture, capture: {name: back, on: r, interface: back0}}
  - {name: stream, traffic: {name: s, from: client, to: server, source: 192.0.2.2, destination: 198.51.100.2, port: 7001, rate: 500}}
  - {name: nothing comes back of what is forbidden, endTraffic: {names: [s], after: 50, least: 50}}
  - {name: allow it, run: {on: r, shell: "nft add rule inet t forward udp dport 7001 accept"}}
  - {name: stream again, traffic: {name: s, from: client, to: server, source: 192.0.2.2, destination: 198.51.100.2, port: 7001, rate: 500}}
  - {name: no loss, endTraffic: {names: [s], after: 200, lost: 0}}
  - {name: captured, endCapture: {name: back, least: 200}}
  - {name: bad line, impair: {link: front, by: {loss: 0.5}}}
  - {name: stream once more, traffic: {name: s, from: client, to: server, source: 192.0.2.2, destination: 198.51.100.2, port: 7001, rate: 500}}
  - {name: much loss, endTraffic: {names: [s], after: 200, least: 100}}
  - {name: good line, impair: {link: front, by: {}}}
  - {name: cut, link: {link: back, on: r, up: false}}
  - {name: cut is felt, reach: {from: client, to: "198.51.100.2:80", protocol: tcp, blocked: true, controlBy: web reached}}
  - {name: mended, link: {link: back, on: r, up: true}}
  - {name: sleeper dies, kill: {on: r, program: sleeper}}
  - {name: it is gone, run: {on: r, command: [pgrep, sleep], exit: 1}}
  - {name: it comes back, start: {on: r, program: sleeper}}
  - {name: a line is waited for, wait: {on: r, command: [sh, -c, "echo one; echo two; sleep 1000"], match: "^two$"}}
  - name: at once
    parallel:
      - {name: left, run: {on: client, command: ["true"]}}
      - {name: right, run: {on: server, command: ["true"]}}
  - forEach:
      var: n
      in: [a, b]
      steps:
        - {name: "loop ${n}", run: {on: r, command: [echo, "${n}"], output: "^${n}$"}}
`

const routedDocuments = `
kind: Site
metadata: {name: r}
spec: {peers: [r]}
---
kind: Flow
metadata: {name: web}
spec: {fromZone: outside, toZone: inside, from: [192.0.2.2/32, "2001:db8:1::2/128"], to: [198.51.100.2/32, "2001:db8:2::2/128"], allow: [tcp/80]}
---
kind: Flow
metadata: {name: echo}
spec: {fromZone: outside, toZone: inside, from: [192.0.2.2/32], to: [198.51.100.2/32], allow: [udp/7]}
`

// runRouted runs the scenario with a policy and returns its report and the exit code.
func runRouted(t *testing.T, policy string, change ...string) (report.Report, int) {
	t.Helper()
	probetest.Need(t, probe.Root, probe.Namespaces)
	folder := t.TempDir()
	text := strings.NewReplacer(append(change, "FILTER_POLICY", policy, "web reached", "web answers tcp",
		"  - {name: another port", "  - {name: web answers tcp, reach: {from: client, to: \"198.51.100.2:80\", protocol: tcp}}\n  - {name: another port")...).Replace(routed)
	for name, data := range map[string]string{"routed.yaml": text, "documents.yaml": routedDocuments} {
		if err := os.WriteFile(filepath.Join(folder, name), []byte(data), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	var stdout, stderr bytes.Buffer
	file := filepath.Join(folder, "report.json")
	code := Main(t.Context(), []string{"run", filepath.Join(folder, "routed.yaml"), "--json", file, "--html", filepath.Join(folder, "report.html"), "--captures", folder}, &stdout, &stderr)
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatalf("%v\n%s", err, stderr.String())
	}
	var r report.Report
	if err := json.Unmarshal(data, &r); err != nil {
		t.Fatal(err)
	}
	t.Log(stdout.String())
	if !strings.HasSuffix(stdout.String(), " failed\n") {
		t.Error("the last line is not the count")
	}
	if html := os.Getenv("SHEKARA_KEEP_REPORT"); html != "" {
		page, _ := os.ReadFile(filepath.Join(folder, "report.html"))
		_ = os.WriteFile(html, page, 0o600)
	}
	return r, code
}

func TestRunPasses(t *testing.T) {
	r, code := runRouted(t, "drop")
	if code != 0 || r.Failed != 0 || r.Passed < 30 {
		t.Errorf("exit code %d, %d passed, %d failed", code, r.Passed, r.Failed)
	}
}

// TestNotArrivingCanFail opens the filter: every step that says that something does not pass must then fail.
func TestNotArrivingCanFail(t *testing.T) {
	r, code := runRouted(t, "accept", "blocked: true, controlBy: web answers}", "blocked: true, within: 20s, controlBy: web answers}")
	if code != 1 {
		t.Errorf("exit code %d with an open filter", code)
	}
	failed := map[string]bool{}
	for _, s := range r.Steps {
		failed[s.Name] = s.Outcome == report.Failed
	}
	for _, name := range []string{"another port is blocked", "spoofed packets do not pass", "who reaches whom", "nothing comes back of what is forbidden"} {
		if !failed[name] {
			t.Errorf("%q passes with an open filter: it proves nothing", name)
		}
	}
	if failed["web answers"] {
		t.Error("what is allowed fails with an open filter")
	}
}

// TestControlCanFail stops everything: that nothing arrives must then not pass as a proof.
func TestControlCanFail(t *testing.T) {
	r, code := runRouted(t, "drop", "${open} }", "9999 }")
	failed := map[string]bool{}
	for _, s := range r.Steps {
		failed[s.Name] = s.Outcome == report.Failed
	}
	for _, name := range []string{"web answers", "another port is blocked", "spoofed packets do not pass", "who reaches whom"} {
		if code != 1 || !failed[name] {
			t.Errorf("%q passes while nothing passes at all", name)
		}
	}
}

func TestShippedScenariosDecode(t *testing.T) {
	names, err := fs.Glob(scenarios.Files(), "*.yaml")
	if err != nil || len(names) == 0 {
		t.Fatalf("%v, %v", names, err)
	}
	for _, name := range names {
		if _, _, err := load(strings.TrimSuffix(name, ".yaml")); err != nil {
			t.Errorf("%v", err)
		}
	}
	var stdout, stderr bytes.Buffer
	if code := Main(t.Context(), []string{"list"}, &stdout, &stderr); code != 0 || strings.Count(stdout.String(), "\n") != len(names) {
		t.Errorf("list: %d, %s%s", code, stdout.String(), stderr.String())
	}
}

func TestWrongUseIsRefused(t *testing.T) {
	for _, args := range [][]string{nil, {"no-such-verb"}, {"run"}, {"run", "demo", "demo"}, {"run", "--no-such-flag", "demo"}, {"exec"}, {"exec", "host", "--"}} {
		var stdout, stderr bytes.Buffer
		if code := Main(t.Context(), args, &stdout, &stderr); code != 2 || !strings.Contains(stderr.String(), "usage") {
			t.Errorf("%v: exit code %d, %s", args, code, stderr.String())
		}
	}
	var stdout, stderr bytes.Buffer
	if code := Main(t.Context(), []string{"run", "no-such-scenario"}, &stdout, &stderr); code != 1 || !strings.Contains(stderr.String(), "testbed list") {
		t.Errorf("exit code %d, %s", code, stderr.String())
	}
}
