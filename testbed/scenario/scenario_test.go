package scenario

import (
	"strings"
	"testing"
)

// good is a valid scenario. Each test changes one thing.
const good = `name: x
title: X
hosts:
  - {name: a, routes: [{to: default, via: 192.0.2.2}]}
  - {name: b, programs: [{name: p, command: [sleep, "1"]}]}
links:
  - name: ab
    impairable: true
    ends: [{host: a, interface: eth0, addresses: [192.0.2.1/24]}, {host: b, interface: eth0, addresses: [192.0.2.2/24]}]
steps:
  - name: positive
    send: {from: a, packet: {source: 192.0.2.1, destination: 192.0.2.2, protocol: tcp, port: 80}, arrives: [b]}
  - name: negative
    send: {from: a, packet: {source: 192.0.2.1, destination: 192.0.2.2, protocol: tcp, port: 81}, notArrives: [b], controlBy: positive}
  - {name: reached, reach: {from: a, to: "192.0.2.2:80", protocol: tcp}}
  - {name: blocked, reach: {from: a, to: "192.0.2.2:81", protocol: tcp, blocked: true, controlBy: reached}}
  - {name: killed, kill: {on: b, program: p}}
  - {name: impaired, impair: {link: ab, from: a, by: {loss: 0.5, delay: 10ms}}}
  - {name: echoed, run: {on: a, command: [echo], output: "^$"}}
`

func TestDecodeAccepts(t *testing.T) {
	s, err := Decode("x.yaml", []byte(good), nil)
	if err != nil {
		t.Fatal(err)
	}
	if len(s.Steps) != 7 || s.Steps[1].Line != 13 || s.Steps[5].Impair.By.Loss != 0.5 || s.Hosts[0].Line != 4 {
		t.Errorf("%+v", s)
	}
}

func TestDecodeRefuses(t *testing.T) {
	for _, test := range []struct{ name, old, new, want string }{
		{"a variable that only a run without a program has", "title: X", "title: X\nvariables: {by: nft}\nwithout: {nft: {to: iptables}}", `without nft: there is no variable "to"`},
		{"unknown field", "title: X", "title: X\ncolour: red", "colour"},
		{"unknown field of a step", "command: [echo]", "comand: [echo]", "comand"},
		{"no name", "name: x", "name: ''", "x.yaml:1: a scenario has a name"},
		{"host twice", "{name: b,", "{name: a,", `host "a" is there twice`},
		{"bad host name", "{name: b,", "{name: B,", "DNS label"},
		{"link to nowhere", "{host: b, interface", "{host: c, interface", `x.yaml:7: link "ab": there is no host "c"`},
		{"interface twice", "{host: b, interface: eth0", "{host: a, interface: eth0", "is there twice"},
		{"route of two families", "via: 192.0.2.2", "via: 2001:db8::1}, {to: 192.0.2.0/24, via: 2001:db8::1", "of one family"},
		{"wire with three ends", "{host: b, interface: eth0", "{host: a, interface: eth1}, {host: b, interface: eth0", "3 ends"},
		{"negative without control", ", controlBy: positive", "", "x.yaml:13: step \"negative\": notArrives proves nothing without a positive control"},
		{"control by a later step", "controlBy: positive", "controlBy: later", "names no earlier send"},
		{"control that arrives elsewhere", "port: 80}, arrives: [b]", "port: 80}, arrives: [a]", `its control does not arrive at "b"`},
		{"inline control that arrives elsewhere", "controlBy: positive", "control: {packet: {source: 192.0.2.1, destination: 192.0.2.2, protocol: udp}, arrives: [a]}", `its control does not arrive at "b"`},
		{"blocked without control", "blocked: true, controlBy: reached", "blocked: true", "blocked proves nothing"},
		{"blocked by a control of another host", `{from: a, to: "192.0.2.2:80"`, `{from: a, to: "192.0.2.9:80"`, "blocked proves nothing"},
		{"a package that is an option", "title: X", "title: X\nmachines: {packages: [--help]}", "x.yaml:1: machines: \"--help\" is no name"},
		{"two actions", "{name: killed,", "{name: killed, part: {name: q},", "several things"},
		{"no action", "{name: killed, kill: {on: b, program: p}}", "{name: killed}", "does nothing"},
		{"unknown program", "program: p}", "program: q}", `has no program "q"`},
		{"loss above one", "loss: 0.5", "loss: 5", "between 0 and 1"},
		{"impaired where it cannot be", "impairable: true", "mtu: 1400", "is not impairable"},
		{"bad expression", `"^$"`, `"("`, "missing closing"},
		{"bad address", "192.0.2.1/24", "192.0.2.1", "192.0.2.1"},
		{"matrix that controls none", "  - {name: killed", "  - {name: m, matrix: {controlOf: positive}}\n  - {name: killed", `controlOf "positive" names no earlier matrix`},
		{"guard without control", "  - {name: killed", "  - {name: g, capture: {name: g, on: a, interface: eth0, inside: [10.0.0.0/8]}}\n  - {name: h, endCapture: {name: g}}\n  - {name: killed", "nothing leaks at a/eth0 proves nothing"},
		{"loop without values", "  - {name: killed", "  - forEach: {var: i, steps: []}\n  - {name: killed", "forEach needs"},
		{"loop too long", "  - {name: killed", "  - forEach: {var: i, range: 6000, steps: [{name: z}]}\n  - {name: killed", "at most"},
	} {
		t.Run(test.name, func(t *testing.T) {
			changed := strings.Replace(good, test.old, test.new, 1)
			if changed == good {
				t.Fatalf("nothing to replace: %q", test.old)
			}
			_, err := Decode("x.yaml", []byte(changed), nil)
			if err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("error %v, want %q in it", err, test.want)
			}
		})
	}
}

func TestAllProblemsAtOnce(t *testing.T) {
	_, err := Decode("x.yaml", []byte(strings.NewReplacer(", controlBy: positive", "", "program: p}", "program: q}", "loss: 0.5", "loss: 2").Replace(good)), nil)
	if err == nil || strings.Count(err.Error(), "\n") != 2 {
		t.Errorf("three problems are wanted: %v", err)
	}
}

func TestForEachUnrolls(t *testing.T) {
	s, err := Decode("x.yaml", []byte(good+`
  - forEach:
      var: port
      in: ["80", "443"]
      steps:
        - forEach:
            var: n
            range: 2
            steps:
              - {name: "${n} to ${port}", traffic: {name: "t${n}", from: a, to: b, source: 192.0.2.1, destination: 192.0.2.2, port: "${port}", rate: "${n}"}}
`), nil)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, step := range s.Steps[7:] {
		names = append(names, step.Name)
		if step.Traffic.Port == 0 || step.Traffic.Rate == 0 {
			t.Errorf("%+v", step.Traffic)
		}
	}
	if got := strings.Join(names, ", "); got != "1 to 80, 2 to 80, 1 to 443, 2 to 443" {
		t.Error(got)
	}
}

func TestExtends(t *testing.T) {
	read := func(file string) ([]byte, error) {
		if file != "base.yaml" {
			t.Errorf("%q is read", file)
		}
		return []byte(good), nil
	}
	s, err := Decode("y.yaml", []byte(`
name: y
title: Y
extends: base
programs: {a: [{name: more, command: [sleep, "2"]}]}
steps:
  - {name: start, start: {on: a, program: more}}
  - {name: kill, kill: {on: b, program: p}}
`), read)
	if err != nil {
		t.Fatal(err)
	}
	if s.Name != "y" || len(s.Steps) != 2 || len(s.Hosts) != 2 || len(s.Links) != 1 {
		t.Errorf("%+v", s)
	}
}

func FuzzDecode(f *testing.F) {
	f.Add([]byte(good))
	f.Add([]byte("steps: [{forEach: {var: a, range: 9, steps: [{name: \"${a}\"}]}}]"))
	f.Fuzz(func(t *testing.T, data []byte) {
		if s, err := Decode("fuzz.yaml", data, func(string) ([]byte, error) { return []byte(good), nil }); err == nil && (s.Name == "" || s.Title == "") {
			t.Error("a scenario without name or title is accepted")
		}
	})
}
