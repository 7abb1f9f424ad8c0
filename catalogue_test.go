package shekara

import (
	"go/ast"
	"go/token"
	"path"
	"slices"
	"strconv"
	"strings"
	"testing"

	"shekara/journal"
)

// maker is a function, as far as it may make events.
type maker struct {
	name  string
	words map[string]bool // its texts, and the values of constants that it names: types, severities and names of fields are among them
	calls map[string]bool // functions and methods, by name
	plain map[string]bool // the functions of its own package among these, whose names are no method's of something else
}

// TestCatalogueIsWritten holds the catalogue to the code in one direction: of each type every severity and every field that it declares is written by what makes such events.
// That is the functions that name the type, those that these call, with the functions that those call, and those that call them. Of the other direction see checkEvent, and journal.Undeclared, which tests ask of events.
func TestCatalogueIsWritten(t *testing.T) {
	packages := map[string][]*maker{}
	constants := map[string]map[string]string{}
	all := slices.DeleteFunc(sources(t), func(s source) bool {
		return s.test || s.path == "journal/filter.go" || strings.HasPrefix(s.path, "journal/catalogue")
	})
	for _, s := range all {
		folder := path.Dir(s.path)
		if constants[folder] == nil {
			constants[folder] = map[string]string{}
		}
		addConstants(constants[folder], s.file)
	}
	for _, s := range all {
		if s.path != "journal/event.go" {
			folder := path.Dir(s.path)
			packages[folder] = append(packages[folder], makersOf(s, constants[folder], constants["journal"])...)
		}
	}
	for _, entry := range journal.Catalogue() {
		words := map[string]bool{}
		for _, makers := range packages {
			gather(words, makers, string(entry.Type))
		}
		for _, severity := range entry.Severities {
			if entry.Type != journal.IncidentOpen && !words[string(severity)] { // an incident's severity is its rule's
				t.Errorf("%s is declared with severity %s, with which no code makes it", entry.Type, severity)
			}
		}
		for _, f := range entry.Fields {
			if !words[f.Name] {
				t.Errorf("%s is declared with the field %q, which no code writes", entry.Type, f.Name)
			}
		}
	}
}

func addConstants(to map[string]string, file *ast.File) {
	for _, d := range file.Decls {
		g, is := d.(*ast.GenDecl)
		if !is || g.Tok != token.CONST {
			continue
		}
		for _, spec := range g.Specs {
			v := spec.(*ast.ValueSpec)
			for i, name := range v.Names {
				if i < len(v.Values) {
					if text, is := stringOf(v.Values[i]); is {
						to[name.Name] = text
					}
				}
			}
		}
	}
}

func stringOf(e ast.Expr) (string, bool) {
	literal, is := e.(*ast.BasicLit)
	if !is || literal.Kind != token.STRING {
		return "", false
	}
	text, err := strconv.Unquote(literal.Value)
	return text, err == nil
}

// makersOf are the functions of a file. Its own constants are those of its package, and those of the journal stand behind the package's name.
func makersOf(s source, own, journals map[string]string) (all []*maker) {
	for _, d := range s.file.Decls {
		f, is := d.(*ast.FuncDecl)
		if !is || f.Body == nil {
			continue
		}
		m := &maker{f.Name.Name, map[string]bool{}, map[string]bool{}, map[string]bool{}}
		all = append(all, m)
		ast.Inspect(f.Body, func(n ast.Node) bool {
			switch n := n.(type) {
			case *ast.BasicLit:
				if text, is := stringOf(n); is {
					m.words[text] = true
				}
			case *ast.SelectorExpr:
				if isIdent(n.X, "journal") {
					m.words[journals[n.Sel.Name]] = true
				}
			case *ast.Ident:
				if text, is := own[n.Name]; is {
					m.words[text] = true
				}
			case *ast.CallExpr:
				switch f := n.Fun.(type) {
				case *ast.Ident:
					m.calls[f.Name], m.plain[f.Name] = true, true
				case *ast.SelectorExpr:
					m.calls[f.Sel.Name] = true
				}
			}
			return true
		})
	}
	return all
}

// gather adds the words of what makes events of a type.
func gather(words map[string]bool, makers []*maker, of string) {
	add := func(m *maker) {
		for word := range m.words {
			words[word] = true
		}
	}
	for _, m := range makers {
		if !m.words[of] {
			continue
		}
		add(m)
		for _, other := range makers {
			if other.calls[m.name] || m.calls[other.name] {
				add(other)
			}
			if m.calls[other.name] {
				for _, further := range makers {
					if other.plain[further.name] {
						add(further)
					}
				}
			}
		}
	}
}

// checkEvent holds an event that is written in one piece to the catalogue: its severity and the fields that stand there have to be declared.
func checkEvent(t *testing.T, file string, event *ast.CompositeLit, inside bool, constants map[string]string) {
	value := func(e ast.Expr) string {
		name, _ := journalName(e, inside)
		return constants[name]
	}
	parts := map[string]ast.Expr{}
	for _, element := range event.Elts {
		if pair, is := element.(*ast.KeyValueExpr); is {
			if key, is := pair.Key.(*ast.Ident); is {
				parts[key.Name] = pair.Value
			}
		}
	}
	of := value(parts["Type"])
	for _, entry := range journal.Catalogue() {
		if string(entry.Type) != of {
			continue
		}
		if s := value(parts["Severity"]); s != "" && !slices.Contains(entry.Severities, journal.Severity(s)) {
			t.Errorf("%s: %s has severity %s, which the catalogue does not declare", file, of, s)
		}
		for _, name := range fieldNames(parts["Fields"], inside, constants) {
			if !slices.ContainsFunc(entry.Fields, func(f journal.Field) bool { return f.Name == name }) {
				t.Errorf("%s: %s has the field %q, which the catalogue does not declare", file, of, name)
			}
		}
	}
}

// fieldNames are those that stand in a map, or in a call with names and values by turns.
func fieldNames(fields ast.Expr, inside bool, constants map[string]string) (names []string) {
	add := func(e ast.Expr) {
		if text, is := stringOf(e); is {
			names = append(names, text)
		} else if name, is := journalName(e, inside); is && constants[name] != "" {
			names = append(names, constants[name])
		}
	}
	switch f := fields.(type) {
	case *ast.CompositeLit:
		for _, element := range f.Elts {
			if pair, is := element.(*ast.KeyValueExpr); is {
				add(pair.Key)
			}
		}
	case *ast.CallExpr:
		if isIdent(f.Fun, "fieldsOf") {
			for i := 0; i < len(f.Args); i += 2 {
				add(f.Args[i])
			}
		}
	}
	return names
}
