package document

import (
	"fmt"
	"reflect"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v4"
)

// mapping calls each for every known field of a mapping, and reports unknown and repeated ones. It reports false if n is no mapping.
func (d *decoder) mapping(n *yaml.Node, path, prefixHint string, known []string, each func(name string, value *yaml.Node)) bool {
	if !d.allowed(n, path) {
		return false
	}
	if n.Kind != yaml.MappingNode {
		d.at(n, orTop(path), "wrong type, want fields", strings.TrimSpace(prefixHint+" write one or more of "+strings.Join(known, ", ")+", each with its value"))
		return false
	}
	seen := make(map[string]*yaml.Node, len(known))
	for i := 0; i+1 < len(n.Content); i += 2 {
		key, value := n.Content[i], n.Content[i+1]
		if key.Kind != yaml.ScalarNode {
			d.at(key, "", "wrong type, want a field's name", "write one of "+strings.Join(known, ", "))
			continue
		}
		if before, twice := seen[key.Value]; twice {
			d.at(key, join(path, key.Value), "duplicate field", fmt.Sprintf("it stands at line %d too: remove one", before.Line+d.firstLine-1))
			continue
		}
		seen[key.Value] = key
		if !contains(known, key.Value) {
			hint := "known here: " + strings.Join(known, ", ")
			if near := Nearest(key.Value, known); near != "" {
				hint = "did you mean " + near + "?"
				d.broken = append(d.broken, join(path, near)) // what was meant is not missing
			}
			d.at(key, join(path, key.Value), "unknown field", hint)
			continue
		}
		each(key.Value, value)
	}
	return true
}

func contains(list []string, s string) bool {
	for _, item := range list {
		if item == s {
			return true
		}
	}
	return false
}

// allowed refuses what documents do not use: aliases, and tags written out.
func (d *decoder) allowed(n *yaml.Node, path string) bool {
	if n.Kind == yaml.AliasNode {
		d.at(n, orTop(path), "alias", "write the value itself")
		return false
	}
	if n.Style&yaml.TaggedStyle != 0 {
		d.add(d.position(n), orTop(path), "YAML tag", n.Tag, "leave the tag out")
		return false
	}
	return true
}

// structure reads a mapping into a struct, and reports the fields that are missing.
func (d *decoder) structure(n *yaml.Node, path string, into reflect.Value) bool {
	fields := fieldsOf(into.Type())
	names := make([]string, len(fields))
	for i, f := range fields {
		names[i] = f.name
	}
	present := make([]bool, len(fields))
	ok := d.mapping(n, path, "", names, func(name string, value *yaml.Node) {
		for i, f := range fields {
			if f.name == name {
				present[i] = true
				d.value(value, join(path, name), into.Field(f.index))
			}
		}
	})
	if !ok {
		return false
	}
	for i, f := range fields {
		if present[i] || f.optional || contains(d.broken, join(path, f.name)) {
			continue
		}
		d.add(d.position(n), join(path, f.name), "missing field "+f.name, "", "write "+f.name+": "+f.doc)
	}
	return true
}

// value reads one value of any type that specs are made of.
func (d *decoder) value(n *yaml.Node, path string, into reflect.Value) bool {
	switch into.Kind() {
	case reflect.Struct:
		return d.structure(n, path, into)
	case reflect.Pointer:
		into.Set(reflect.New(into.Type().Elem()))
		return d.structure(n, path, into.Elem())
	case reflect.Slice:
		return d.list(n, path, into)
	}
	if !d.allowed(n, path) {
		return false
	}
	if n.Kind == yaml.ScalarNode && n.Tag == "!!null" {
		d.at(n, path, "no value", "write a value or remove the line")
		return false
	}
	switch into.Kind() {
	case reflect.String:
		return d.word(n, path, into)
	case reflect.Bool:
		if n.Kind != yaml.ScalarNode || n.Tag != "!!bool" || !strings.EqualFold(n.Value, "true") && !strings.EqualFold(n.Value, "false") {
			d.at(n, path, "wrong type, want true or false", "write true or false, without quotes")
			return false
		}
		into.SetBool(strings.EqualFold(n.Value, "true"))
		return true
	default: // reflect.Int: schema_test.go refuses a type that is not listed here
		i, err := strconv.Atoi(n.Value)
		if n.Kind != yaml.ScalarNode || n.Tag != "!!int" || err != nil {
			d.at(n, path, "wrong type, want a whole number", "write decimal digits, without quotes")
			return false
		}
		into.SetInt(int64(i))
		return true
	}
}

func (d *decoder) word(n *yaml.Node, path string, into reflect.Value) bool {
	switch {
	case n.Kind != yaml.ScalarNode:
		d.at(n, path, "wrong type, want one word or text", "write a single value")
		return false
	case n.Tag != "!!str" && n.Tag != "!!timestamp" && n.Tag != "!!merge":
		d.at(n, path, "wrong type, want text", "put it in quotes: "+strconv.Quote(n.Value))
		return false
	}
	into.SetString(n.Value)
	return true
}

func (d *decoder) list(n *yaml.Node, path string, into reflect.Value) bool {
	if !d.allowed(n, path) {
		return false
	}
	if n.Kind != yaml.SequenceNode {
		d.at(n, path, "wrong type, want a list", "write [ ] around it, or each item on a line of its own after -")
		return false
	}
	if len(n.Content) == 0 {
		return true
	}
	items := reflect.MakeSlice(into.Type(), len(n.Content), len(n.Content))
	ok := true
	for i, item := range n.Content {
		ok = d.value(item, Index(path, i), items.Index(i)) && ok
	}
	into.Set(items)
	return ok
}

func join(path, name string) string {
	if path == "" {
		return name
	}
	return path + "." + name
}

// orTop is the path, or for the document itself the field that everything hangs on.
func orTop(path string) string {
	if path == "" {
		return "spec"
	}
	return path
}

// positionsOf finds where every field of a document stands.
func positionsOf(text []byte, file string, firstLine int) map[string]Position {
	positions := map[string]Position{}
	root, err := parse(text)
	if err != nil {
		return positions
	}
	var walk func(n *yaml.Node, path string)
	walk = func(n *yaml.Node, path string) {
		if path != "" {
			positions[path] = Position{file, n.Line + firstLine - 1, n.Column}
		}
		switch n.Kind {
		case yaml.MappingNode:
			for i := 0; i+1 < len(n.Content); i += 2 {
				walk(n.Content[i+1], join(path, n.Content[i].Value))
			}
		case yaml.SequenceNode:
			for i, item := range n.Content {
				walk(item, Index(path, i))
			}
		}
	}
	walk(root, "")
	return positions
}
