package export

import (
	"bufio"
	_ "embed"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"shekara/journal"
)

// profile52 is the mapping, and says itself how it is read.
//
//go:embed 52nk.txt
var profile52 string

// profile is a mapping of our records to somebody's form.
type profile struct {
	parameters []mapped
	failed     []string // verbs of events that say that something did not succeed
	zone       *time.Location
}

// mapped is a name in the message, and where its value comes from: the first choice that is not empty.
type mapped struct {
	name string
	from []string
}

var profile52nk = sync.OnceValue(func() profile {
	p, err := parseProfile(profile52)
	if err != nil {
		panic(err) // it is part of the program, and its test reads it
	}
	return p
})

// parseProfile reads a mapping: a line for each name, comments behind #.
func parseProfile(text string) (p profile, err error) {
	if p.zone, err = journal.LegalZone(); err != nil {
		return profile{}, err
	}
	lines := bufio.NewScanner(strings.NewReader(text))
	for n := 1; lines.Scan(); n++ {
		words := strings.Fields(lines.Text())
		switch {
		case len(words) == 0 || strings.HasPrefix(words[0], "#"):
			continue
		case len(words) == 1:
			return profile{}, fmt.Errorf("line %d: %q comes from nowhere", n, words[0])
		case words[0] == "failed":
			p.failed = words[1:]
			continue
		case name(words[0], maxName) != words[0]:
			return profile{}, fmt.Errorf("line %d: %q is no name of RFC 5424", n, words[0])
		case slices.ContainsFunc(p.parameters, func(m mapped) bool { return m.name == words[0] }):
			return profile{}, fmt.Errorf("line %d: %q is there twice", n, words[0])
		}
		for _, from := range words[1:] {
			if !strings.HasPrefix(from, "=") && !strings.Contains(from, ":") && !slices.Contains(sources(), from) {
				return profile{}, fmt.Errorf("line %d: %q is nothing that a record has: it is one of %s, =TEXT or TYPE:FIELD", n, from, strings.Join(sources(), ", "))
			}
		}
		p.parameters = append(p.parameters, mapped{words[0], words[1:]})
	}
	return p, lines.Err()
}

// sources are what a value may come from, beside texts and fields.
func sources() []string {
	return []string{"date", "time", "zone", "clock", "site", "user", "uid", "object", "organisation", "level", "type", "message", "record", "success"}
}

// value is what a record has of a source.
func (p profile) value(from string, s Sink, e journal.Event) string {
	if text, is := strings.CutPrefix(from, "="); is {
		return text
	}
	if of, field, is := strings.Cut(from, ":"); is {
		if of != "" && of != string(e.Type) {
			return ""
		}
		return e.Fields[field]
	}
	switch at := e.Time.In(p.zone); from {
	case "date":
		return at.Format("02:01:2006")
	case "time":
		return at.Format(time.TimeOnly)
	case "zone":
		return at.Format("-07:00")
	case "clock":
		if e.ClockErrorMicroseconds > 0 {
			return "synchronised"
		}
		return "unsynchronised"
	case "site":
		return s.Site
	case "user":
		return e.Actor.User
	case "uid":
		if e.Actor != (journal.Actor{}) {
			return strconv.FormatUint(uint64(e.Actor.UID), 10)
		}
	case "object":
		return e.Object
	case "organisation":
		return e.Organisation
	case "level":
		return level(e.Severity)
	case "type":
		return string(e.Type)
	case "message":
		return e.Message
	case "record":
		return s.Site + "/" + strconv.FormatUint(e.Sequence, 10)
	case "success":
		_, verb, _ := strings.Cut(string(e.Type), ".")
		return strconv.FormatBool(!slices.Contains(p.failed, verb))
	}
	return ""
}

// level is the name that integrators show for the severity of RFC 5424 (table 2).
func level(s journal.Severity) string {
	switch s {
	case journal.Alert:
		return "ALERT"
	case journal.Error:
		return "ERROR"
	case journal.Warning:
		return "WARNING"
	case journal.Notice:
		return "NOTIFICATION"
	}
	return "INFO"
}

// element appends the structured data of a record in the profile, and its sentence.
func (p profile) element(to []byte, s Sink, e journal.Event) []byte {
	to = append(to, "[52nk@"+enterprise...)
	for _, m := range p.parameters {
		for _, from := range m.from {
			if value := p.value(from, s, e); value != "" {
				to = parameter(to, m.name, value)
				break
			}
		}
	}
	return plain(append(to, "] "...), e.Message, "")
}
