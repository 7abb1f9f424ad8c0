package export

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"shekara/journal"
)

// cefSeverity is from 0 to 10: 0 to 3 is low, to 6 medium, to 8 high, above very high.
func cefSeverity(s journal.Severity) int {
	switch s {
	case journal.Alert:
		return 10
	case journal.Error:
		return 8
	case journal.Warning:
		return 6
	case journal.Notice:
		return 3
	}
	return 1
}

// cefKey is the name of a field of an event: the dictionary's where it has one, else shekaraNAME.
func cefKey(field string) string {
	switch field {
	case "source":
		return "src"
	case "destination":
		return "dst"
	case "sourcePort":
		return "spt"
	case "destinationPort":
		return "dpt"
	case "protocol":
		return "proto"
	case "bytesTo":
		return "out"
	case "bytesBack":
		return "in"
	case "in":
		return "deviceInboundInterface"
	case "out":
		return "deviceOutboundInterface"
	case "reason":
		return "reason"
	}
	letters := strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' {
			return r
		}
		return -1
	}, field)
	if letters == "" {
		return "shekara"
	}
	return "shekara" + strings.ToUpper(letters[:1]) + letters[1:]
}

// cef appends a record in the Common Event Format, version 0 (ArcSight Common Event Format, Implementation Standard, revision 25).
func cef(to []byte, s Sink, e journal.Event) []byte {
	to = append(to, "CEF:0|Shekara|Shekara"...)
	for _, part := range []string{s.Version, string(e.Type), strings.ReplaceAll(string(e.Type), ".", " "), strconv.Itoa(cefSeverity(e.Severity))} {
		to = cefText(append(to, '|'), part, `\|`)
	}
	to = append(to, '|')
	to = fmt.Appendf(to, "rt=%d", e.Time.UnixMilli())
	to = cefPair(to, "dvchost", s.Site)
	to = cefPair(to, "externalId", strconv.FormatUint(e.Sequence, 10))
	to = cefPair(to, "msg", e.Message)
	if e.Actor != (journal.Actor{}) {
		to = cefPair(to, "suser", e.Actor.User)
		to = cefPair(to, "suid", strconv.FormatUint(uint64(e.Actor.UID), 10))
		to = cefPair(to, "spid", strconv.FormatInt(int64(e.Actor.PID), 10))
	}
	links := []string{}
	for _, l := range e.Links {
		links = append(links, strings.TrimSuffix(fmt.Sprintf("%s %d %s", l.Of, l.Number, l.Before), " "))
	}
	to = cefLabelled(to, "cs1", "object", e.Object)
	to = cefLabelled(to, "cs2", "organisation", e.Organisation)
	to = cefLabelled(to, "cs3", "links", strings.Join(links, ", "))
	to = cefLabelled(to, "cs4", "systems", strings.Join(e.Systems, ", "))
	if e.ClockErrorMicroseconds > 0 {
		to = cefLabelled(to, "cn1", "clockErrorMicroseconds", strconv.FormatInt(e.ClockErrorMicroseconds, 10))
	}
	for _, field := range slices.Sorted(maps.Keys(e.Fields)) {
		to = cefField(to, field, e.Fields[field])
	}
	return to
}

// cefField appends a field of an event. src and dst are for IPv4 addresses alone; those of IPv6 have places of their own.
func cefField(to []byte, field, value string) []byte {
	key := cefKey(field)
	if key == "src" || key == "dst" {
		address, err := netip.ParseAddr(value)
		switch {
		case err != nil:
			key = "shekara" + strings.ToUpper(field[:1]) + field[1:]
		case address.Is6() && key == "src":
			return cefLabelled(to, "c6a2", "Source IPv6 Address", value)
		case address.Is6():
			return cefLabelled(to, "c6a3", "Destination IPv6 Address", value)
		}
	}
	return cefPair(to, key, value)
}

func cefLabelled(to []byte, key, label, value string) []byte {
	if value == "" {
		return to
	}
	return cefPair(cefPair(to, key, value), key+"Label", label)
}

func cefPair(to []byte, key, value string) []byte {
	if value == "" {
		return to
	}
	return cefText(append(append(append(to, ' '), key...), '='), value, `\=`)
}

// cefText appends UTF-8 text, with a backslash before those in escaped. Only values may have ends of lines, as \n and \r; other control characters are #ooo, as in
// our syslog.
func cefText(to []byte, text, escaped string) []byte {
	value := strings.Contains(escaped, "=")
	for _, r := range text {
		switch {
		case r == '\n' && value:
			to = append(to, `\n`...)
		case r == '\r' && value:
			to = append(to, `\r`...)
		default:
			to = plain(to, string(r), escaped)
		}
	}
	return to
}
