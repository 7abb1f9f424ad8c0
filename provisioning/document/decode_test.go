package document_test

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"go.yaml.in/yaml/v4"

	"shekara/netctl/probe/probetest"
	"shekara/provisioning/document"
)

// Each testdata/*.yaml has beside it, in *.problems, what Decode says of it.
func TestDecodeReportsEveryProblem(t *testing.T) {
	paths, err := filepath.Glob("testdata/*.yaml")
	if err != nil || len(paths) == 0 {
		t.Fatalf("find inputs: %d, %v", len(paths), err)
	}
	for _, path := range paths {
		data, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		_, problems := document.Decode([]document.File{{Name: filepath.Base(path), Data: data}})
		var got strings.Builder
		for _, p := range problems {
			fmt.Fprintln(&got, p)
		}
		golden := strings.TrimSuffix(path, ".yaml") + ".problems"
		if *update {
			if err := os.WriteFile(golden, []byte(got.String()), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		want, err := os.ReadFile(golden)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(strings.Split(string(want), "\n"), strings.Split(got.String(), "\n")); diff != "" {
			t.Errorf("%s (-want +got):\n%s", path, diff)
		}
	}
}

const zone = "apiVersion: shekara/v1\nkind: Zone\nmetadata: {name: %s}\nspec: {contour: external, kind: partners, prefixes: [10.64.0.0/12]}\n"

func TestOneBrokenDocumentDoesNotHideTheOthers(t *testing.T) {
	text := fmt.Sprintf(zone, "a") + "---\n[unclosed\n---\n" + fmt.Sprintf(zone, "b") + "...\n# only a comment\n---\n" + fmt.Sprintf(zone, "c")
	documents, problems := document.Decode([]document.File{{Name: "f", Data: []byte(text)}, {Name: "g", Data: []byte("kind: {\n")}})
	var names []string
	for _, d := range documents {
		names = append(names, d.Name)
	}
	if got := strings.Join(names, ""); got != "abc" || len(problems) != 2 || problems[0].Position.File != "f" || problems[0].Position.Line < 6 || problems[1].Position.File != "g" {
		t.Errorf("documents %s, problems %v", got, problems)
	}
}

func TestPositions(t *testing.T) {
	text := "# a comment\n" + fmt.Sprintf(zone, "a") + "---\n" + strings.Replace(fmt.Sprintf(zone, "b"), "[10.64.0.0/12]", "\n    [10.64.0.0/12,\n     10.0.0.0/12]", 1)
	documents, problems := document.Decode([]document.File{{Name: "f", Data: []byte(text)}})
	if len(problems) > 0 || len(documents) != 2 {
		t.Fatal(problems)
	}
	for path, want := range map[string]string{
		"metadata.name": "f:9:18", "spec.contour": "f:10:17", "spec.prefixes[1]": "f:12:6", "spec.prefixes[0]": "f:11:6",
		"spec.prefixes[7]": "f:11:5", "spec.nothing.at.all": "f:10:7", "nothing": "f:6:1",
	} {
		if got := documents[1].Position(path).String(); got != want {
			t.Errorf("%s stands at %s, want %s", path, got, want)
		}
	}
}

func TestLimits(t *testing.T) {
	deep := "spec: " + strings.Repeat("[", 40) + strings.Repeat("]", 40)
	bomb := "a: &a [x, x]\nb: &b [*a, *a]\nc: &c [*b, *b]\nkind: Zone\nspec: *c\n"
	for _, c := range []struct{ name, text, what string }{
		{"nesting", deep, "not YAML"},
		{"aliases", bomb, "alias"},
		{"document", "# " + strings.Repeat("x", document.MaxDocumentBytes) + "\nkind: Zone\n", "document is too large"},
		{"encoding", "kind: \xff\n", "not UTF-8"},
		{"file", strings.Repeat("#", document.MaxFileBytes+1), "file is too large"},
		{"documents", strings.Repeat("--- 1\n", document.MaxDocuments+1), "more problems"},
	} {
		t.Run(c.name, func(t *testing.T) {
			if c.name == "documents" {
				probetest.NeedTime(t, "half a million documents")
			}
			_, problems := document.Decode([]document.File{{Name: "f", Data: []byte(c.text)}})
			for _, p := range problems {
				if p.What == c.what {
					return
				}
			}
			t.Errorf("no %q among %d problems", c.what, len(problems))
		})
	}
}

func TestNewIsWhatDecodeGives(t *testing.T) {
	d, err := document.New("a", &document.Tunnel{Environment: "test", Protocol: "ipsec", IPsec: &document.IPsec{Encapsulation: "ah"}, Keepalive: 5, Probe: true,
		Initiator: document.End{Peer: "yes", Zone: "1e3", Prefixes: []string{"2001:db8::/32", "::1", "a: b", "[x]", "10.0.0.1", "", " x", "ж\u0085\n\t\"", strings.Repeat("y", 200)}}})
	if err != nil {
		t.Fatal(err)
	}
	again, problems := document.Decode([]document.File{{Name: "f", Data: []byte(d.Canonical())}})
	if len(problems) > 0 {
		t.Fatal(problems, d.Canonical())
	}
	if diff := cmp.Diff(d.Spec, again[0].Spec); diff != "" || again[0].Canonical() != d.Canonical() {
		t.Errorf("%s\n%s", diff, d.Canonical())
	}
	if _, err := document.New("a", 5); err == nil {
		t.Error("5 is a kind of document")
	}
}

// FuzzDecode: nothing panics, problems have a place, good documents come back the same, and cutting a file at its markers finds the
// documents that a YAML reader finds in the whole.
func FuzzDecode(f *testing.F) {
	for _, pattern := range []string{"testdata/*.yaml", "../../docs/examples/*/*.yaml"} {
		paths, _ := filepath.Glob(pattern)
		for _, path := range paths {
			data, err := os.ReadFile(path)
			if err != nil {
				f.Fatal(err)
			}
			f.Add(data)
		}
	}
	f.Add([]byte("a: |\n  x\n--- y\n...\n# z\n--- >\n \n"))
	f.Add([]byte("kind: \"a\n--- b\"\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		documents, problems := document.Decode([]document.File{{Name: "f", Data: data}})
		bad := map[document.Ref]bool{}
		for _, p := range problems {
			if p.Position.Line < 1 || p.Position.Column < 1 || p.What == "" {
				t.Errorf("incomplete: %+v", p)
			}
			bad[document.Ref{Kind: p.Kind, Name: p.Name}] = true
		}
		for _, d := range documents {
			again, more := document.Decode([]document.File{{Name: "again", Data: []byte(d.Canonical())}})
			if bad[d.Ref()] {
				continue
			}
			if len(more) > 0 || len(again) != 1 || !cmp.Equal(again[0].Spec, d.Spec) || again[0].Canonical() != d.Canonical() {
				t.Errorf("%s does not come back the same: %v\n%s", d.Ref(), more, d.Canonical())
			}
		}
		var whole []yaml.Node
		if bytes.HasPrefix(data, []byte("%")) || bytes.Contains(data, []byte("\n%")) || bytes.ContainsAny(data, "\r") || bytes.Contains(data, []byte("\ufeff")) || yaml.Load(data, &whole, yaml.WithAllDocuments()) != nil {
			return // directives are refused here; lone carriage returns are line breaks to YAML alone
		}
		for _, n := range whole {
			// The library reads on over a marker in a block scalar that is a whole document, which YAML forbids (1.2, 9.1.2).
			if n.Kind == yaml.ScalarNode && n.Style&(yaml.LiteralStyle|yaml.FoldedStyle) != 0 || len(n.Content) == 1 && n.Content[0].Style&(yaml.LiteralStyle|yaml.FoldedStyle) != 0 {
				return
			}
		}
		for _, p := range problems {
			if p.What == "not YAML" && !strings.Contains(p.Hint, "depth") {
				t.Errorf("YAML as a whole, but %s", p)
			}
		}
	})
}

// A request of half a million senseless documents must not take gigabytes: from some number of problems on the rest is not read.
func TestSenselessDocumentsCostLittle(t *testing.T) {
	const documents = 400_000
	text := strings.Repeat("---\na: 1\n", documents)
	_, problems := document.Decode([]document.File{{Name: "x.yaml", Data: []byte(text)}})
	last := problems[len(problems)-1]
	more, err := strconv.Atoi(last.Value)
	if err != nil || last.What != "more problems" || len(problems) != document.MaxProblems+1 {
		t.Fatalf("%d problems, the last %v", len(problems), last)
	}
	if more >= documents {
		t.Errorf("%d more problems: all documents were read", more)
	}
}
