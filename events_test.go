package shekara

import (
	"go/ast"
	"path"
	"strings"
	"testing"
)

// TestEventsAreInTheCatalogue: code names events by the journal's constants alone, which its own test holds to the catalogue, and each of these is emitted somewhere; what
// stands in the code of an event's severity and fields is declared there. The journal refuses a type that is not in its catalogue; this finds it before it runs.
func TestEventsAreInTheCatalogue(t *testing.T) {
	all := sources(t)
	types, constants := map[string]bool{}, map[string]string{}
	for _, s := range all {
		if path.Dir(s.path) == "journal" && !s.test {
			addConstants(constants, s.file)
		}
		if s.path == "journal/event.go" {
			ast.Inspect(s.file, func(n ast.Node) bool {
				if v, is := n.(*ast.ValueSpec); is && isIdent(v.Type, "Type") {
					for _, name := range v.Names {
						types[name.Name] = false
					}
				}
				return true
			})
		}
	}
	if len(types) < 40 {
		t.Fatalf("journal/event.go declares %d types: the test does not see them", len(types))
	}
	events := 0
	for _, s := range all {
		if s.test || s.path == "journal/event.go" || strings.HasPrefix(s.path, "journal/catalogue") {
			continue
		}
		inside := path.Dir(s.path) == "journal"
		ast.Inspect(s.file, func(n ast.Node) bool {
			if name, is := journalName(n, inside); is {
				if _, is := types[name]; is {
					types[name] = true
				}
			}
			if literal, is := n.(*ast.CompositeLit); is && isEvent(literal.Type, inside) {
				events++
				checkType(t, s.path, literal)
				checkEvent(t, s.path, literal, inside, constants)
			}
			return true
		})
	}
	if events < 50 {
		t.Errorf("%d events are made: the test does not see them", events)
	}
	for name, emitted := range types {
		if !emitted {
			t.Errorf("journal.%s is emitted nowhere", name)
		}
	}
}

func isIdent(n ast.Node, name string) bool {
	i, is := n.(*ast.Ident)
	return is && i.Name == name
}

// journalName is X of journal.X, and within the package of X.
func journalName(n ast.Node, inside bool) (string, bool) {
	switch n := n.(type) {
	case *ast.SelectorExpr:
		return n.Sel.Name, !inside && isIdent(n.X, "journal")
	case *ast.Ident:
		return n.Name, inside
	}
	return "", false
}

func isEvent(n ast.Expr, inside bool) bool {
	name, is := journalName(n, inside)
	return is && name == "Event"
}

// checkType refuses a type that is written where it is used: a constant or a variable of these passes.
func checkType(t *testing.T, file string, event *ast.CompositeLit) {
	for _, element := range event.Elts {
		pair, is := element.(*ast.KeyValueExpr)
		if !is {
			t.Errorf("%s: an event whose fields are not named", file)
			continue
		}
		if !isIdent(pair.Key, "Type") {
			continue
		}
		ast.Inspect(pair.Value, func(n ast.Node) bool {
			if literal, is := n.(*ast.BasicLit); is {
				t.Errorf("%s: an event of type %s, which is none of the catalogue's constants", file, strings.Trim(literal.Value, `"`))
			}
			return true
		})
	}
}
