package document

import (
	"reflect"
	"regexp"
	"strconv"
	"strings"
)

// maxFlowWidth is how wide a list of values may be on one line; a longer one has an item a line, so that a diff stays readable.
const maxFlowWidth = 110

// canonicalOf writes a document: fields in the order of the types, absent ones left out, two spaces a level, lists of plain values
// in brackets, double quotes only where a plain scalar would mean something else.
func canonicalOf(d *Document) string {
	w := &writer{}
	w.WriteString("apiVersion: " + APIVersion + "\nkind: " + string(d.Kind) + "\nmetadata:\n  name: " + scalar(d.Name) + "\nspec:")
	w.structure(reflect.ValueOf(d.Spec).Elem(), 1, false)
	return w.String()
}

type writer struct{ strings.Builder }

// structure writes the fields, each on a line of its own; with inline the first one stands on the line that is open (after "- ").
func (w *writer) structure(v reflect.Value, level int, inline bool) {
	wrote := false
	for _, f := range fieldsOf(v.Type()) {
		value := v.Field(f.index)
		if f.optional && value.IsZero() || f.optional && value.Kind() == reflect.Slice && value.Len() == 0 {
			continue
		}
		switch {
		case !wrote && !inline:
			w.WriteString("\n" + strings.Repeat("  ", level))
		case wrote:
			w.WriteString(strings.Repeat("  ", level))
		}
		wrote = true
		w.WriteString(f.name + ":")
		w.value(value, level)
	}
	if !wrote {
		w.WriteString(" {}\n")
	}
}

func (w *writer) value(v reflect.Value, level int) {
	switch v.Kind() {
	case reflect.String:
		w.WriteString(" " + scalar(v.String()) + "\n")
	case reflect.Int:
		w.WriteString(" " + strconv.FormatInt(v.Int(), 10) + "\n")
	case reflect.Bool:
		w.WriteString(" " + strconv.FormatBool(v.Bool()) + "\n")
	case reflect.Pointer:
		w.structure(v.Elem(), level+1, false)
	case reflect.Struct:
		w.structure(v, level+1, false)
	case reflect.Slice:
		w.list(v, level)
	}
}

func (w *writer) list(v reflect.Value, level int) {
	indent := strings.Repeat("  ", level+1)
	if v.Type().Elem().Kind() == reflect.Struct && v.Len() > 0 {
		w.WriteString("\n")
		for i := range v.Len() {
			w.WriteString(indent + "- ")
			w.structure(v.Index(i), level+2, true)
		}
		return
	}
	items, width := make([]string, v.Len()), 0
	for i := range items {
		items[i] = scalar(v.Index(i).String())
		width += len(items[i]) + 2
	}
	if width <= maxFlowWidth {
		w.WriteString(" [" + strings.Join(items, ", ") + "]\n")
		return
	}
	w.WriteString("\n")
	for _, item := range items {
		w.WriteString(indent + "- " + item + "\n")
	}
}

// plain is what may stand without quotes: it begins with a letter or a colon-free word of an address, and no YAML reader takes it for
// a number, a truth value, null or a date.
var (
	plain    = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._/:+=@-]*$`)
	notPlain = regexp.MustCompile(`(?i)^(y|n|yes|no|on|off|true|false|null|nan|inf|[0-9][0-9._e+-]*|0x[0-9a-f]*|0o[0-7]*|0b[01]*|[0-9]{4}-[0-9].*|[0-9]+(:[0-9]+)+(\.[0-9]*)?)$`)
	address  = regexp.MustCompile(`^[0-9]{1,3}(\.[0-9]{1,3}){3}$`) // two dots or more are no number in any YAML
)

func scalar(s string) string {
	if plainAtOnce(s) || plain.MatchString(s) && !strings.HasSuffix(s, ":") && (!notPlain.MatchString(s) || address.MatchString(s)) {
		return s
	}
	return strconv.Quote(s)
}

// plainAtOnce knows without an expression, whose cost showed, what most scalars are: words, and prefixes.
func plainAtOnce(s string) bool {
	prefix := false
	for i := range len(s) {
		if !isSimple(s[i]) {
			return false
		}
		prefix = prefix || s[i] == '/'
	}
	switch {
	case s == "" || s[len(s)-1] == ':':
		return false
	case isLetter(s[0]):
		return len(s) > len("false") // the longest of the words that are not plain
	default:
		return isDigit(s[0]) && prefix && strings.IndexByte(s, '-') < 0
	}
}
