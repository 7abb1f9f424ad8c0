package document

import (
	"cmp"
	"fmt"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"sync"
)

// Ref names a document. The zero Ref names none.
type Ref struct {
	Kind Kind   `json:"kind"`
	Name string `json:"name"`
}

func (r Ref) String() string { return string(r.Kind) + " " + r.Name }

// Compare orders by kind, then name.
func (r Ref) Compare(other Ref) int {
	return cmp.Or(cmp.Compare(r.Kind, other.Kind), cmp.Compare(r.Name, other.Name))
}

// Document is one decoded document. It never changes once decoded, so that many Sets and goroutines may share it.
type Document struct {
	Kind Kind
	Name string
	Spec any    // a pointer to the type that Kind names, as *Zone; not to be changed
	File string // where it was read

	canonical string
	source    string   // the document's own text, for positions
	firstLine int      // of source, in File
	broken    []string // paths that Decode already complained of

	once      sync.Once
	positions map[string]Position // made when first asked for: most documents have no problem
}

// Ref is the document's name.
func (d *Document) Ref() Ref { return Ref{d.Kind, d.Name} }

// Canonical is the document as YAML in its one canonical form: Decode gives back an equal document, and equal documents have equal text.
func (d *Document) Canonical() string { return d.canonical }

// Position is where a field stands: "spec.initiator.prefixes[0]". A field that is absent stands where its nearest parent does.
func (d *Document) Position(path string) Position {
	d.once.Do(func() { d.positions = positionsOf([]byte(d.source), d.File, d.firstLine) })
	for {
		if p, ok := d.positions[path]; ok {
			return p
		}
		i := strings.LastIndexAny(path, ".[")
		if i < 0 {
			return Position{File: d.File, Line: d.firstLine, Column: 1}
		}
		path = path[:i]
	}
}

// Broken reports whether Decode complained of the field, of one inside it or of one around it. Its value means nothing, and a
// second complaint would hide the first.
func (d *Document) Broken(path string) bool {
	for _, b := range d.broken {
		if within(path, b) || within(b, path) {
			return true
		}
	}
	return false
}

// within reports whether path is outer or lies inside it.
func within(path, outer string) bool {
	rest, ok := strings.CutPrefix(path, outer)
	return ok && (rest == "" || rest[0] == '.' || rest[0] == '[')
}

// New makes a document that was not read from a file: spec is a pointer to one of the kinds, as *Zone.
func New(name string, spec any) (*Document, error) {
	d := &Document{Name: name, Spec: spec, firstLine: 1}
	t := reflect.TypeOf(spec)
	i := slices.IndexFunc(kinds(), func(k Kind) bool { return reflect.TypeOf(newSpec(k)) == t })
	if i < 0 {
		return nil, fmt.Errorf("make document %q: %T is no kind of document", name, spec)
	}
	d.Kind = kinds()[i]
	d.canonical = canonicalOf(d)
	d.source = d.canonical
	return d, nil
}

// Index is path with [i] appended.
func Index(path string, i int) string { return path + "[" + strconv.Itoa(i) + "]" }
