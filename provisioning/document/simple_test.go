package document

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"go.yaml.in/yaml/v4"
	"pgregory.net/rapid"
)

// sameNodes compares what documents are read from. They never look at comments.
func sameNodes() cmp.Option {
	return cmp.Options{cmpopts.EquateEmpty(), cmpopts.IgnoreFields(yaml.Node{}, "HeadComment", "LineComment", "FootComment")}
}

func FuzzSimpleParser(f *testing.F) {
	for _, pattern := range []string{"testdata/*.yaml", "../../docs/examples/*/*.yaml"} {
		paths, _ := filepath.Glob(pattern)
		for _, path := range paths {
			data, err := os.ReadFile(path)
			if err != nil {
				f.Fatal(err)
			}
			f.Add(string(data))
			for _, c := range split(data) {
				f.Add(string(c.text))
			}
		}
	}
	for _, text := range []string{
		"---\na: b\n", "a:\n- b\n- c: d\n  e: 1\nf: {g: [1.2.3.4, 10.0.0.0/8, \"x y\", 'z'], h: true}\n", "a: b\n  c\n", "a:\n    b: c\n  d: e\n",
		"a: 0x1F\nb: 1e3\nc: 2001-01-01\nd: 1_000\ne: 012\nf: yes\ng: Null\nh: 1:30\n", "to: [a, b]\ny: 1\n", "a: b # c\n", "a: 'it''s'\n", "a: [b,\n c]\n",
		"- a\n- - b\n-\n", "a: b\na: c\n", "a: [b, ]\n", "a: {}\nb: []\n", "a: b:\n", "a: {b: c,d: e}\n", "  a: b\n  c:\n  - d\n", "a:\n  # c\n  b: 1.5\n",
		"a: \"b\\n\"\n", "a: \"b\nc\"\n", "a: b \n--- \n", "a: [b: c]\n", "a: {b}\n", "a: &x b\nc: *x\n", "a: !!str 1\n", "a: |\n  b\n",
	} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) { checkSimple(t, text) })
}

// checkSimple reports whether the text is simple, and complains unless the library reads the same.
func checkSimple(t interface {
	Helper()
	Fatalf(string, ...any)
}, text string) bool {
	t.Helper()
	var p simpleParser
	for range 2 { // the second time nodes are handed out again
		got := p.parse(text)
		if got == nil {
			return false
		}
		want, err := parse([]byte(text))
		if err != nil {
			t.Fatalf("read as simple, but: %v\n%s", err, text)
		}
		if diff := cmp.Diff(want, got, sameNodes()); diff != "" {
			t.Fatalf("the library and the simple parser differ (-library +simple):\n%s\n%s", text, diff)
		}
	}
	return true
}

func TestSimpleParserAgreesWithTheLibrary(t *testing.T) {
	token := rapid.SampledFrom([]string{"a", "kind", "to", ": ", ":", " ", "  ", "\n", "\n  ", "\n    ", "\n- ", "\n  - ", "\nb: ", "\nc:\n  ", "- ", "[", "]", "{", "}",
		", ", ",", "\"", "'", "#", " # x", "true", "Yes", "1", "012", "1.5", "1.2.3.4", "10.0.0.0/8", "fd00::1", "2001:db8::/32", "---\n", "null", "x:y", "-", "k: v", "d: [1, x]", "[a, b]",
		"{e: f}", "\"q\"", "a=="})
	simple := 0
	for _, text := range []string{"a: b\n", "k: v\nd: [1, x]\n", "b:\n  - {e: f}\n  - \"q\"\n"} { // so that a short run compares something too
		if checkSimple(t, text) {
			simple++
		}
	}
	rapid.Check(t, func(t *rapid.T) {
		if checkSimple(t, strings.Join(rapid.SliceOfN(token, 1, 12).Draw(t, "tokens"), "")) {
			simple++
		}
	})
	if simple < 3 {
		t.Error("no text was simple: nothing was compared")
	}
}

func TestPlainAtOnceAgreesWithTheExpressions(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := rapid.StringMatching(`[a-zA-Z0-9._/:+=@-]{0,8}|[0-9]{1,4}[-:./][0-9./:-]{0,9}|yes|Null|false|true|on|inf|NaN`).Draw(t, "s")
		slow := plain.MatchString(s) && !strings.HasSuffix(s, ":") && (!notPlain.MatchString(s) || address.MatchString(s))
		if plainAtOnce(s) && !slow {
			t.Fatalf("%q is not plain", s)
		}
	})
}

// What the documents of an estate look like must take the short way.
func TestSimpleParserReadsUsualDocuments(t *testing.T) {
	var p simpleParser
	for _, text := range []string{
		"---\napiVersion: shekara/v1\nkind: Peer\nmetadata: {name: agency-1}\nspec:\n  side: initiator\n  publicIP: 198.51.100.20\n" +
			"  wireguard:\n  - {farZone: gateway-dmz, environment: production, port: 51820, publicKey: \"AAAA+/=\"}\n",
		"# whose it is\napiVersion: shekara/v1\nkind: Flow\nmetadata:\n  name: a\nspec:\n  tunnel: a\n  from: [10.64.0.0/24]\n  to:\n    - 10.20.0.0/24\n    - 10.20.1.1\n  allow: [tcp/443, icmp]\n",
	} {
		if p.parse(text) == nil {
			t.Errorf("not simple:\n%s", text)
		}
		d, problems := Decode([]File{{Name: "f", Data: []byte(text)}})
		if len(d) != 1 || len(problems) > 0 {
			t.Fatalf("decode: %v", problems)
		}
		if p.parse(d[0].Canonical()) == nil {
			t.Errorf("its canonical form is not simple:\n%s", d[0].Canonical())
		}
	}
}
