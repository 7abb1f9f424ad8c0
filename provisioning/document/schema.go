package document

import (
	"reflect"
	"strings"
)

// field is one field of a struct as documents know it.
type field struct {
	name     string
	optional bool
	index    int
	doc      string
	standard string // the default, "" for none
}

// schema holds the fields of every type that a document is made of. It is made once and never changes.
var schema = schemaOf()

func schemaOf() map[reflect.Type][]field {
	types := map[reflect.Type][]field{}
	for _, k := range kinds() {
		addType(types, reflect.TypeOf(newSpec(k)).Elem())
	}
	return types
}

func addType(types map[reflect.Type][]field, t reflect.Type) {
	for t.Kind() == reflect.Slice || t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	if _, known := types[t]; known || t.Kind() != reflect.Struct {
		return
	}
	fields := make([]field, 0, t.NumField())
	for i := range t.NumField() {
		f := t.Field(i)
		name, options, _ := strings.Cut(f.Tag.Get("yaml"), ",")
		fields = append(fields, field{name, options == "omitempty", i, f.Tag.Get("doc"), f.Tag.Get("default")})
		addType(types, f.Type)
	}
	types[t] = fields
}

func fieldsOf(t reflect.Type) []field { return schema[t] }

// kinds in the order in which the reference tells of them.
func kinds() []Kind {
	return []Kind{KindZone, KindSite, KindPeer, KindTunnel, KindFlow, KindOrganisation, KindSystem, KindGateway, KindService, KindCryptoModule, KindAssertion, KindEventSink, KindIncidentRule, KindTimeService}
}

// IsRegister reports whether documents of the kind are facts alone (registers.go).
func (k Kind) IsRegister() bool {
	switch k {
	case KindOrganisation, KindSystem, KindGateway, KindService, KindCryptoModule:
		return true
	}
	return false
}

// newSpec is an empty spec of the kind, nil for an unknown one.
func newSpec(k Kind) any {
	switch k {
	case KindZone:
		return &Zone{}
	case KindSite:
		return &Site{}
	case KindPeer:
		return &Peer{}
	case KindTunnel:
		return &Tunnel{}
	case KindFlow:
		return &Flow{}
	case KindOrganisation:
		return &Organisation{}
	case KindSystem:
		return &System{}
	case KindGateway:
		return &Gateway{}
	case KindService:
		return &Service{}
	case KindCryptoModule:
		return &CryptoModule{}
	case KindAssertion:
		return &Assertion{}
	case KindEventSink:
		return &EventSink{}
	case KindIncidentRule:
		return &IncidentRule{}
	case KindTimeService:
		return &TimeService{}
	}
	return nil
}

// Nearest is the candidate that the word was probably meant to be, "" if none is near.
func Nearest(word string, candidates []string) string {
	best, bestDistance := "", 1+max(1, len(word)/4)
	for _, c := range candidates {
		if strings.EqualFold(word, c) {
			return c
		}
		if d := distance(strings.ToLower(word), strings.ToLower(c), bestDistance); d < bestDistance {
			best, bestDistance = c, d
		}
	}
	return best
}

// distance is how many letters must be added, left out, replaced or exchanged with the next one; limit or more is not told apart.
func distance(a, b string, limit int) int {
	if len(a)-len(b) >= limit || len(b)-len(a) >= limit || len(a) > 64 {
		return limit
	}
	var older []int
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := 1; i <= len(a); i++ {
		next := make([]int, len(b)+1)
		next[0] = i
		for j := 1; j <= len(b); j++ {
			cost := 1
			if a[i-1] == b[j-1] {
				cost = 0
			}
			next[j] = min(row[j]+1, next[j-1]+1, row[j-1]+cost)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				next[j] = min(next[j], older[j-2]+1)
			}
		}
		older, row = row, next
	}
	return row[len(b)]
}
