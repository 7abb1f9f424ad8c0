package validate_test

import (
	"os"
	"strings"
	"testing"

	"shekara/provisioning/document"
	"shekara/provisioning/validate"
)

func validText(t testing.TB) string {
	t.Helper()
	data, err := os.ReadFile("testdata/valid.yaml")
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

// example is a file of docs/examples/contours.
func example(t testing.TB, name string) string {
	t.Helper()
	data, err := os.ReadFile("../../docs/examples/contours/" + name + ".yaml")
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

func check(t testing.TB, text string, o validate.Options) []document.Problem {
	t.Helper()
	documents, problems := document.Decode([]document.File{{Name: "test.yaml", Data: []byte(text)}})
	return append(problems, validate.Check(document.NewSet(documents...), o)...)
}

func TestValidHasNoProblem(t *testing.T) {
	for _, site := range []string{"", "owner"} {
		for _, p := range check(t, validText(t), validate.Options{Site: site}) {
			t.Errorf("site %q: %s", site, p)
		}
	}
}

// head of a document that a case adds.
func doc(kind, name, spec string) string {
	return "\n---\napiVersion: shekara/v1\nkind: " + kind + "\nmetadata: {name: " + name + "}\nspec: " + spec + "\n"
}

const (
	spareKey   = "BIFybNmYKnvRGiPy3oSJUdyTnDCpQrv+RFlWTvSoCQo="
	sparePeer  = "{side: initiator, publicIP: 198.51.100.99, wireguard: [{farZone: dmz, environment: production, port: 1, publicKey: " + spareKey + "}]}"
	spareOther = "{environment: production, protocol: wireguard, initiator: {peer: spare, zone: agencies, prefixes: [%I]}, owner: {peer: owner-a, zone: dmz, prefixes: [%O]}}"
)

func spareTunnel(initiator, owner string) string {
	return doc("Peer", "spare", sparePeer) + doc("Tunnel", "spare", strings.NewReplacer("%I", initiator, "%O", owner).Replace(spareOther))
}

// broken is one rule, broken once: in the valid documents the first old becomes new, or new is added at the end.
type broken struct {
	name, old, new    string
	what, value, rule string
}

func TestEachRuleBrokenAloneIsTheOnlyProblem(t *testing.T) {
	t.Run("control", func(t *testing.T) {
		if p := check(t, validText(t)+spareTunnel("10.64.99.0/28", "10.20.99.0/28"), validate.Options{}); len(p) > 0 {
			t.Fatal(p)
		}
	})
	var cases []broken
	for _, list := range [][]broken{zoneCases(), siteCases(), peerCases(), addressCases(), tunnelCases(), selectorCases(), ipsecCases(), flowCases()} {
		cases = append(cases, list...)
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			text := validText(t)
			if c.old != "" && !strings.Contains(text, c.old) {
				t.Fatalf("%q is not in the valid documents", c.old)
			}
			if c.old == "" {
				text += c.new
			} else {
				text = strings.Replace(text, c.old, c.new, 1)
			}
			problems := check(t, text, validate.Options{})
			if len(problems) != 1 {
				t.Fatalf("%d problems, want one:\n%v", len(problems), problems)
			}
			p := problems[0]
			if !strings.HasPrefix(p.What, c.what) || p.Value != c.value || p.Rule != c.rule {
				t.Errorf("got %s (rule %q)\nwant %s: %q (rule %q)", p, p.Rule, c.what, c.value, c.rule)
			}
			if p.Hint == "" || p.Kind == "" || p.Name == "" || p.Position.Line == 0 {
				t.Errorf("incomplete: %+v", p)
			}
			line := strings.Split(text, "\n")[p.Position.Line-1]
			if shown := c.value != "[not shown]" && !strings.HasSuffix(c.value, " combinations") && !strings.HasPrefix(c.value, "a list of"); shown && !strings.Contains(line, c.value) {
				t.Errorf("%q is not on line %d: %s", c.value, p.Position.Line, line)
			}
		})
	}
}
