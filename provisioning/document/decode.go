package document

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"reflect"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"unicode/utf8"

	"go.yaml.in/yaml/v4"
	"go.yaml.in/yaml/v4/plugin/loaderlimits"
)

// What one input may hold at most. A tunnel with its peer and flow is about 1 KiB.
const (
	MaxFileBytes     = 64 << 20
	MaxDocumentBytes = 1 << 20
	MaxDocuments     = 500_000
	MaxNesting       = 16
	MaxProblems      = 10_000           // more are counted, not shown
	enoughProblems   = 10 * MaxProblems // then the rest is not read
)

// Decode reads all files and reports every problem of all of them, sorted by file, line and column. A document that has problems is
// returned too as far as it could be read, so that references to it do not look dangling: documents may be used only if there is no
// problem that names them. Of documents with the same kind and name the first is returned.
func Decode(files []File) ([]*Document, []Problem) {
	var chunks []source
	var problems []Problem
	for _, f := range files {
		if p, bad := unreadable(f); bad {
			problems = append(problems, p)
			continue
		}
		for _, c := range split(f.Data) {
			if len(chunks) == MaxDocuments {
				problems = append(problems, Problem{Position: Position{f.Name, c.firstLine, 1}, What: "too many documents",
					Value: fmt.Sprintf("more than %d", MaxDocuments), Hint: "apply them in several parts"})
				break
			}
			chunks = append(chunks, source{f.Name, c})
		}
	}
	documents, found := decodeAll(chunks)
	problems = append(problems, found...)
	documents, found = unique(documents)
	problems = append(problems, found...)
	Sort(problems)
	if len(problems) > MaxProblems {
		more := len(problems) - MaxProblems
		problems = append(problems[:MaxProblems], Problem{Position: problems[MaxProblems].Position, What: "more problems",
			Value: strconv.Itoa(more), Hint: "they are not shown: mend those above first"})
	}
	return documents, problems
}

// Sort puts problems into the order of file, line and column.
func Sort(problems []Problem) {
	slices.SortStableFunc(problems, func(a, b Problem) int {
		return cmp.Or(cmp.Compare(a.Position.File, b.Position.File), cmp.Compare(a.Position.Line, b.Position.Line),
			cmp.Compare(a.Position.Column, b.Position.Column), cmp.Compare(a.What, b.What))
	})
}

func unreadable(f File) (Problem, bool) {
	at := Position{File: f.Name, Line: 1, Column: 1}
	if len(f.Data) > MaxFileBytes {
		return Problem{Position: at, What: "file is too large", Value: fmt.Sprintf("%d bytes", len(f.Data)),
			Hint: fmt.Sprintf("split it: a file may have %d bytes", MaxFileBytes)}, true
	}
	if utf8.Valid(f.Data) {
		return Problem{}, false
	}
	for i := 0; i < len(f.Data); {
		r, size := utf8.DecodeRune(f.Data[i:])
		if r == utf8.RuneError && size == 1 {
			at.Line += bytes.Count(f.Data[:i], []byte("\n"))
			at.Column = i - bytes.LastIndexByte(f.Data[:i], '\n')
			return Problem{Position: at, What: "not UTF-8", Value: fmt.Sprintf("byte 0x%02x", f.Data[i]), Hint: "save the file as UTF-8"}, true
		}
		i += size
	}
	return Problem{}, false
}

// source is a chunk and the file that it stands in.
type source struct {
	file string
	chunk
}

// decodeAll shares the chunks out among the processors: parsing is nearly all the time of a decode.
func decodeAll(sources []source) ([]*Document, []Problem) {
	results := make([]decoder, len(sources))
	workers := min(runtime.GOMAXPROCS(0), len(sources)/64+1)
	var group sync.WaitGroup
	var found atomic.Int64 // problems; half a million documents without any sense would fill the memory with theirs
	for w := range workers {
		group.Go(func() {
			var simple simpleParser
			for i := w; i < len(sources) && found.Load() <= enoughProblems; i += workers {
				results[i].decode(sources[i], &simple)
				found.Add(int64(len(results[i].problems)))
			}
		})
	}
	group.Wait()
	documents := make([]*Document, 0, len(sources))
	var problems []Problem
	for _, r := range results {
		if r.document != nil {
			documents = append(documents, r.document)
		}
		problems = append(problems, r.problems...)
	}
	return documents, problems
}

func unique(documents []*Document) ([]*Document, []Problem) {
	first := make(map[Ref]*Document, len(documents))
	var problems []Problem
	kept := documents[:0]
	for _, d := range documents {
		before, known := first[d.Ref()]
		if !known {
			first[d.Ref()] = d
			kept = append(kept, d)
			continue
		}
		problems = append(problems, Problem{Position: d.Position("metadata.name"), Kind: d.Kind, Name: d.Name, What: "duplicate name", Value: d.Name,
			Hint: fmt.Sprintf("a %s of this name stands at %s: rename one or remove one", d.Kind, before.Position("metadata.name"))})
	}
	return kept, problems
}

// decoder reads one document.
type decoder struct {
	source
	kept     string
	document *Document
	problems []Problem
	broken   []string
	kind     Kind
	name     string
}

func (d *decoder) decode(s source, simple *simpleParser) {
	d.source = s
	if len(s.text) > MaxDocumentBytes {
		d.add(Position{s.file, s.firstLine, 1}, "", "document is too large", fmt.Sprintf("%d bytes", len(s.text)),
			fmt.Sprintf("split it: a document may have %d bytes", MaxDocumentBytes))
		return
	}
	// One copy for all that is kept of the document: its text for positions, and the values, which are parts of it.
	d.kept = string(s.text)
	root := simple.parse(d.kept)
	if root == nil {
		var err error
		if root, err = parse(s.text); err != nil {
			d.syntax(err)
			return
		}
	}
	d.top(root)
	for i := range d.problems {
		d.problems[i].Kind, d.problems[i].Name = d.kind, d.name
	}
}

// parse reads one document to its root node. Aliases are never followed, so they cannot be a bomb.
func parse(text []byte) (*yaml.Node, error) {
	var n yaml.Node
	if err := yaml.Load(text, &n, yaml.WithPlugin(loaderlimits.New(loaderlimits.AliasNone(), loaderlimits.DepthValue(MaxNesting)))); err != nil {
		return nil, err
	}
	if n.Kind != yaml.DocumentNode || len(n.Content) != 1 {
		return nil, errors.New("no document")
	}
	return n.Content[0], nil
}

func (d *decoder) syntax(err error) {
	at, message := Position{File: d.file, Line: d.firstLine, Column: 1}, err.Error()
	var load *yaml.LoadError
	if errors.As(err, &load) {
		message = load.Message
		if load.ContextMsg != "" {
			message += " " + load.ContextMsg + fmt.Sprintf(" from line %d", load.ContextMark.Line+d.firstLine-1)
		}
		if load.Mark.Line > 0 {
			at.Line, at.Column = load.Mark.Line+d.firstLine-1, load.Mark.Column
		}
	}
	d.add(at, "", "not YAML", lineOf(d.text, at.Line-d.firstLine), message)
}

// lineOf is line i (from 0) of the text, cut short.
func lineOf(text []byte, i int) string {
	lines := bytes.SplitN(text, []byte("\n"), i+2)
	if i < 0 || i >= len(lines) {
		return ""
	}
	return shorten(strings.TrimSpace(string(lines[i])))
}

func shorten(s string) string {
	if len(s) <= 80 {
		return s
	}
	return strings.ToValidUTF8(s[:77], "") + "..."
}

func (d *decoder) add(at Position, path, what, value, hint string) {
	d.problems = append(d.problems, Problem{Position: at, What: what, Value: value, Hint: hint})
	if path != "" {
		d.broken = append(d.broken, path)
	}
}

// at adds a problem with a node.
func (d *decoder) at(n *yaml.Node, path, what, hint string) {
	d.add(d.position(n), path, what, written(n), hint)
}

func (d *decoder) position(n *yaml.Node) Position {
	return Position{File: d.file, Line: n.Line + d.firstLine - 1, Column: n.Column}
}

// written is a node as the author wrote it, cut short.
func written(n *yaml.Node) string {
	switch n.Kind {
	case yaml.ScalarNode:
		return shorten(n.Value)
	case yaml.AliasNode:
		return "*" + shorten(n.Value)
	case yaml.SequenceNode:
		return fmt.Sprintf("a list of %d", len(n.Content))
	default:
		if len(n.Content) == 2 {
			return "1 field"
		}
		return fmt.Sprintf("%d fields", len(n.Content)/2)
	}
}

// top reads apiVersion, kind, metadata and spec.
func (d *decoder) top(root *yaml.Node) {
	envelope := map[string]*yaml.Node{}
	if !d.mapping(root, "", "", []string{"apiVersion", "kind", "metadata", "spec"}, func(name string, value *yaml.Node) { envelope[name] = value }) {
		return
	}
	known := d.kindOf(root, envelope["kind"])
	d.version(root, envelope["apiVersion"])
	named := d.metadata(root, envelope["metadata"])
	if !known {
		return
	}
	spec := newSpec(d.kind)
	if n := envelope["spec"]; n == nil {
		d.at(root, "spec", "missing field spec", "write spec: with the fields of a "+string(d.kind)+" under it")
	} else {
		d.structure(n, "spec", reflect.ValueOf(spec).Elem())
	}
	if !named {
		return
	}
	d.document = &Document{Kind: d.kind, Name: d.name, Spec: spec, File: d.file, source: d.kept, firstLine: d.firstLine, broken: d.broken}
	d.document.canonical = canonicalOf(d.document)
}

func (d *decoder) version(root, n *yaml.Node) {
	if n == nil {
		d.at(root, "apiVersion", "missing field apiVersion", "write apiVersion: "+APIVersion)
	} else if n.Kind != yaml.ScalarNode || n.Value != APIVersion {
		d.at(n, "apiVersion", "unknown apiVersion", "write "+APIVersion)
	}
}

func (d *decoder) kindOf(root, n *yaml.Node) bool {
	if n != nil && n.Kind == yaml.ScalarNode && newSpec(Kind(n.Value)) != nil {
		d.kind = Kind(n.Value)
		return true
	}
	var names []string
	for _, k := range kinds() {
		names = append(names, string(k))
	}
	if n == nil {
		d.at(root, "kind", "missing field kind", "write kind: and one of "+strings.Join(names, ", "))
		return false
	}
	hint := "write one of " + strings.Join(names, ", ")
	if near := Nearest(n.Value, names); near != "" {
		hint = "did you mean " + near + "?"
	}
	d.at(n, "kind", "unknown kind", hint)
	return false
}

func (d *decoder) metadata(root, n *yaml.Node) bool {
	var m Metadata
	if n == nil {
		d.at(root, "metadata", "missing field metadata", "write metadata: {name: ...}")
		return false
	}
	var name *yaml.Node
	if !d.mapping(n, "metadata", "", []string{"name"}, func(_ string, value *yaml.Node) { name = value }) {
		return false
	}
	if name == nil {
		d.at(n, "metadata.name", "missing field name", "write name: and what to call the document")
		return false
	}
	if !d.value(name, "metadata.name", reflect.ValueOf(&m.Name).Elem()) {
		return false
	}
	if !validName(m.Name) {
		d.at(name, "metadata.name", "name is not a DNS label", "write 1 to 63 of a-z, 0-9 and -, beginning and ending with a letter or digit")
	}
	d.name = m.Name
	return m.Name != ""
}
