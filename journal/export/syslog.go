package export

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"shekara/journal"
)

const (
	// facility 13 is "log audit" (RFC 5424, table 1).
	facility = 13
	// enterprise is the private enterprise number in the names of our structured data: the one reserved for documentation (RFC 5612), for nobody
	// has registered one for Shekara.
	enterprise = "32473"
	// stamp is RFC 5424's TIMESTAMP: microseconds at most (section 6.2.3).
	stamp = "2006-01-02T15:04:05.000000Z07:00"
	// maxName bounds MSGID and PARAM-NAME (sections 6.2.7 and 6.3.3).
	maxName = 32
)

// severities are those of RFC 5424, table 2.
func severity(s journal.Severity) int {
	switch s {
	case journal.Alert:
		return 1
	case journal.Error:
		return 3
	case journal.Warning:
		return 4
	case journal.Notice:
		return 5
	}
	return 6
}

// message appends a record as an RFC 5424 message: of the site as host, with its type as MSGID, and as structured data its sequence and how far its
// time can be believed (timeQuality, section 7.1). In JSON the rest is the record's line, byte for byte, so that a centre that gets all of them can verify the journal from what it has. As text it is
// the sentence, and the facts are structured data; control characters in it are written as #ooo. As CEF it is that; in the profile of the Rules 52/НҚ it is the sentence, and structured data by the mapping.
func message(to []byte, s Sink, r record) []byte {
	e := r.event
	to = fmt.Appendf(to, `<%d>1 %s %s shekara - %s [shekara@%s sequence="%d"`, facility*8+severity(e.Severity), e.Time.UTC().Format(stamp), name(s.Site, 255),
		name(string(e.Type), maxName), enterprise, e.Sequence)
	if s.Format == Text {
		to = facts(to, e)
	}
	to = append(to, `][timeQuality tzKnown="1" isSynced="`...)
	if e.ClockErrorMicroseconds > 0 {
		to = fmt.Appendf(to, `1" syncAccuracy="%d"]`, e.ClockErrorMicroseconds)
	} else {
		to = append(to, `0"]`...)
	}
	switch s.Format {
	case Text:
	case CEF:
		return cef(append(to, ' '), s, e)
	case NK52:
		return profile52nk().element(to, s, e)
	default:
		return append(append(to, ' '), r.line...)
	}
	if len(e.Fields) > 0 {
		to = append(to, "[fields@"+enterprise...)
		for _, key := range slices.Sorted(maps.Keys(e.Fields)) {
			to = parameter(to, name(key, maxName), e.Fields[key])
		}
		to = append(to, ']')
	}
	to = append(to, ' ')
	return plain(to, e.Message, "")
}

// facts are what of an event is neither in the header, nor its fields, nor its sentence.
func facts(to []byte, e journal.Event) []byte {
	to = parameter(to, "severity", string(e.Severity))
	if e.Object != "" {
		to = parameter(to, "object", e.Object)
	}
	if e.Organisation != "" {
		to = parameter(to, "organisation", e.Organisation)
	}
	for _, system := range e.Systems {
		to = parameter(to, "system", system)
	}
	if e.Actor != (journal.Actor{}) {
		to = parameter(to, "user", e.Actor.User)
		to = parameter(to, "uid", strconv.FormatUint(uint64(e.Actor.UID), 10))
	}
	for _, l := range e.Links {
		to = parameter(to, "link", strings.TrimSuffix(fmt.Sprintf("%s %d %s", l.Of, l.Number, l.Before), " "))
	}
	return to
}

func parameter(to []byte, key, value string) []byte {
	to = append(append(append(to, ' '), key...), `="`...)
	return append(plain(to, value, `"\]`), '"')
}

// plain appends UTF-8 text without control characters, with a backslash before those in escaped (section 6.3.3).
func plain(to []byte, text, escaped string) []byte {
	for _, r := range text {
		switch {
		case r < ' ' || r >= 0x7f && r < 0xa0:
			to = fmt.Appendf(to, "#%03o", r)
		case r < utf8.RuneSelf && strings.IndexByte(escaped, byte(r)) >= 0:
			to = append(to, '\\', byte(r))
		default:
			to = utf8.AppendRune(to, r)
		}
	}
	return to
}

// name makes text fit for a field of the header or a PARAM-NAME: printable ASCII without spaces, = ] and ".
func name(text string, most int) string {
	fit := strings.Map(func(r rune) rune {
		if r <= ' ' || r >= 0x7f || strings.ContainsRune(`=]"`, r) {
			return '_'
		}
		return r
	}, text)
	if fit == "" {
		return "-"
	}
	return fit[:min(len(fit), most)]
}
