package journal

import (
	"fmt"
	"maps"
	"slices"
	"sync"
)

// Entry is one event of the catalogue.
type Entry struct {
	Type       Type
	Severities []Severity // those that it may have
	Meaning    string     // a sentence, or some
	Fields     []Field    // all that it may have
	Do         string     // what whoever watches the journal, or an engineer, does about it
}

// Field is a fact that an event has.
type Field struct {
	Name    string
	Meaning string // completes "NAME: ", with the unit where there is one
	Always  bool   // else where there is something to say
}

// nothing is to be done about an event that is told for the record alone.
const nothing = "Nothing."

// Catalogue lists every type that Append takes. Those of one noun stand together.
func Catalogue() []Entry {
	return slices.Concat(catalogueOfTheBox(), catalogueOfChecks(), catalogueOfTraffic(), catalogueOfTime(), catalogueOfRecords())
}

func always(name, meaning string) Field { return Field{name, meaning, true} }

func maybe(name, meaning string) Field { return Field{name, meaning, false} }

// bulk says whether there may be many: while the disk is full these are only counted.
func (t Type) bulk() bool {
	switch t {
	case ConnectionStart, ConnectionEnd, ConnectionSum, PacketDrop, TunnelLimit, AccessRefuse, PlanMake, JournalLook, JournalExport, UnitMessage:
		return true
	}
	return false
}

var entries = sync.OnceValue(func() map[Type]Entry {
	all := map[Type]Entry{}
	for _, e := range Catalogue() {
		all[e.Type] = e
	}
	return all
})

func known(t Type) bool {
	_, is := entries()[t]
	return is
}

// Undeclared is in what an event is another than the catalogue says. Tests ask it of every event that they see; Append and Post do not, as a
// record with a field too many is better than none.
func Undeclared(e Event) (is []string) {
	entry, there := entries()[e.Type]
	if !there {
		return []string{"its type " + string(e.Type)}
	}
	if !slices.Contains(entry.Severities, e.Severity) {
		is = append(is, fmt.Sprintf("%s: severity %q", e.Type, e.Severity))
	}
	declared := map[string]bool{}
	for _, f := range entry.Fields {
		declared[f.Name] = true
		if _, has := e.Fields[f.Name]; f.Always && !has {
			is = append(is, fmt.Sprintf("%s: no field %q, which is always there", e.Type, f.Name))
		}
	}
	for _, name := range slices.Sorted(maps.Keys(e.Fields)) {
		if !declared[name] {
			is = append(is, fmt.Sprintf("%s: field %q", e.Type, name))
		}
	}
	return is
}
