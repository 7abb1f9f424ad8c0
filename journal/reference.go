package journal

import (
	"fmt"
	"strings"
)

// Reference is docs/events.md.
func Reference() string {
	var b strings.Builder
	b.WriteString("# Events\n\nGenerated from the catalogue in journal/catalogue.go and the files beside it by `go test ./journal -update`; do not edit.\n\n")
	b.WriteString("Each event is one JSON object on a line: `sequence` (from 1, no gaps), `time` (UTC), `clockErrorMicroseconds` (how wrong that may be; absent: nobody keeps the clock), `type`, `severity`, `actor` (who asked; absent: the daemon itself), ")
	b.WriteString("`object` (what it is about, as `tunnel/NAME`), `organisation` (the legal entity at a tunnel's far end, as its Peer document has it), `systems` (the registered systems that it concerns: those of the addresses of a connection or of a dropped packet, of the flow of a sum of connections, or all that the tunnel reaches; sorted, at most 64), `message`, `fields` and ")
	b.WriteString("`links` ([journal-format.md](journal-format.md)).\n")
	b.WriteString("`shekara journal list` and `tail` choose by type, severity, object or tunnel, organisation, system, text, legal day and time (`--help`); the API takes the same words.\n\n")
	b.WriteString("Below stand for each type the severities that it may have, what it means, all its fields, and what to do. All fields are text: a time as `2026-11-26T08:00:00.123Z`, a duration as `1h2m3.5s` or `250µs`, with a minus where something is behind, a number in decimal digits. ")
	b.WriteString("A field that is not marked as always there is absent where there is nothing to say. Fields come in future versions that are not here yet; who reads them passes over what they do not know.\n")
	noun := ""
	for _, e := range Catalogue() {
		n, verb, _ := strings.Cut(string(e.Type), ".")
		if n != noun {
			fmt.Fprintf(&b, "\n- [%s](#%s): ", n, n)
			noun = n
		} else {
			b.WriteString(", ")
		}
		fmt.Fprintf(&b, "[%s](#%s%s)", verb, n, verb)
	}
	b.WriteString("\n")
	for _, e := range Catalogue() {
		if n, _, _ := strings.Cut(string(e.Type), "."); n != noun {
			fmt.Fprintf(&b, "\n## %s\n", n)
			noun = n
		}
		e.describe(&b)
	}
	return b.String()
}

// describe is the entry's section.
func (e Entry) describe(b *strings.Builder) {
	severities := make([]string, len(e.Severities))
	for i, s := range e.Severities {
		severities[i] = string(s)
	}
	fmt.Fprintf(b, "\n### %s\n\nSeverity: %s. %s\n", e.Type, strings.Join(severities, ", "), e.Meaning)
	if len(e.Fields) > 0 {
		b.WriteString("\n| field | always | is |\n|---|---|---|\n")
	}
	for _, f := range e.Fields {
		is := "no"
		if f.Always {
			is = "yes"
		}
		fmt.Fprintf(b, "| `%s` | %s | %s |\n", f.Name, is, f.Meaning)
	}
	fmt.Fprintf(b, "\nWhat to do: %s\n", e.Do)
}
