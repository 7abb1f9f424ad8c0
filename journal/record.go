package journal

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"golang.org/x/mod/sumdb/tlog"
)

// A line ends in ,"crc":"xxxxxxxx"}: CRC-32C (RFC 3720, appendix B.4) of all that stands before it. Lines of the first version have none.
const (
	crcBegins = `,"crc":"`
	crcEnds   = `"}`
	crcBytes  = len(crcBegins) + 8 + len(crcEnds)
)

var errDamaged = errors.New("the checksum does not fit")

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

func checksum(b []byte) uint32 { return crc32.Checksum(b, castagnoli) }

// encode is the line of an event, without the end of line.
func encode(e Event) ([]byte, error) {
	rest, err := encodeRest(e)
	if err != nil {
		return nil, err
	}
	return appendLine(nil, e.Sequence, rest, e.Links), nil
}

const (
	sequenceBegins = `{"sequence":`
	linksBegin     = `,"links":[`
)

// encodeJSON writes as all lines are written: no letter of HTML is escaped.
func encodeJSON(v any) ([]byte, error) {
	var text bytes.Buffer
	encoder := json.NewEncoder(&text)
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(v); err != nil {
		return nil, err
	}
	return text.Bytes()[:text.Len()-1], nil
}

// encodeRest is what stands in an event's line between its sequence and its links: many can make theirs at once, before they have either. It is
// written byte for byte as encodeJSON would, in a fifth of the time.
func encodeRest(e Event) ([]byte, error) {
	to := append(make([]byte, 0, 512), `,"time":"`...)
	to, err := e.Time.AppendText(to)
	if err != nil {
		return nil, err
	}
	to = append(to, '"')
	if e.ClockErrorMicroseconds != 0 {
		to = strconv.AppendInt(append(to, `,"clockErrorMicroseconds":`...), e.ClockErrorMicroseconds, 10)
	}
	to = appendString(append(to, `,"type":`...), string(e.Type))
	to = appendString(append(to, `,"severity":`...), string(e.Severity))
	if e.Actor != (Actor{}) {
		to = appendActor(to, e.Actor)
	}
	to = appendMember(to, `,"object":`, e.Object)
	to = appendMember(to, `,"organisation":`, e.Organisation)
	for i, system := range e.Systems {
		to = appendString(append(to, separator(i, `,"systems":[`)...), system)
	}
	if len(e.Systems) > 0 {
		to = append(to, ']')
	}
	to = appendString(append(to, `,"message":`...), e.Message)
	var room [32]string
	names := room[:0]
	for name := range e.Fields {
		names = append(names, name)
	}
	slices.Sort(names)
	for i, name := range names {
		to = appendString(append(to, separator(i, `,"fields":{`)...), name)
		to = appendString(append(to, ':'), e.Fields[name])
	}
	if len(names) > 0 {
		to = append(to, '}')
	}
	return to, nil
}

func appendActor(to []byte, a Actor) []byte {
	to = strconv.AppendUint(append(to, `,"actor":{"uid":`...), uint64(a.UID), 10)
	to = appendMember(to, `,"user":`, a.User)
	if a.PID != 0 {
		to = strconv.AppendInt(append(to, `,"pid":`...), int64(a.PID), 10)
	}
	return append(to, '}')
}

// appendMember leaves out what is empty.
func appendMember(to []byte, name, value string) []byte {
	if value == "" {
		return to
	}
	return appendString(append(to, name...), value)
}

// separator is what stands before the member of that number.
func separator(i int, begins string) string {
	if i == 0 {
		return begins
	}
	return ","
}

// appendString leaves to encoding/json what has to be escaped.
func appendString(to []byte, text string) []byte {
	ascii := true
	for i := range len(text) {
		switch c := text[i]; {
		case c == '"' || c == '\\' || c < ' ':
			return appendEscaped(to, text)
		case c >= utf8.RuneSelf:
			ascii = false
		}
	}
	if !ascii && (!utf8.ValidString(text) || strings.ContainsAny(text, "\u2028\u2029")) { // ends of lines in JavaScript
		return appendEscaped(to, text)
	}
	return append(append(append(to, '"'), text...), '"')
}

func appendEscaped(to []byte, text string) []byte {
	escaped, err := encodeJSON(text)
	if err != nil {
		escaped = []byte(`""`) // no string of Go's is refused
	}
	return append(to, escaped...)
}

// appendLine writes a line, without its end, behind others: byte for byte as encodeJSON would the event.
func appendLine(to []byte, sequence uint64, rest []byte, links []Link) []byte {
	begins := len(to)
	to = strconv.AppendUint(append(to, sequenceBegins...), sequence, 10)
	to = append(to, rest...)
	return appendSum(appendLinks(to, links), begins)
}

// longestLine is how long a line can become whose rest that is.
func longestLine(rest []byte, links []Link) int {
	var room [512]byte
	return len(sequenceBegins) + len("18446744073709551615") + len(rest) + len(appendLinks(room[:0], links)) + crcBytes
}

// appendLinks writes the member that links a record; nothing where it has none.
func appendLinks(to []byte, links []Link) []byte {
	for i, link := range links {
		to = appendString(append(append(to, separator(i, linksBegin)...), `{"of":`...), link.Of)
		to = strconv.AppendUint(append(to, `,"number":`...), link.Number, 10)
		if link.Before != "" { // base64
			to = append(append(append(to, `,"before":"`...), link.Before...), '"')
		}
		to = append(to, '}')
	}
	if len(links) > 0 {
		to = append(to, ']')
	}
	return to
}

// appendSum ends the line that begins there with its checksum.
func appendSum(to []byte, begins int) []byte {
	var sum [4]byte
	binary.BigEndian.PutUint32(sum[:], checksum(to[begins:]))
	return append(hex.AppendEncode(append(to, crcBegins...), sum[:]), crcEnds...)
}

// decode reads a line without its end. Summed says whether it bears a checksum; one that does not fit is errDamaged.
func decode(line []byte) (e Event, summed bool, err error) {
	if at := len(line) - crcBytes; at > 0 && bytes.HasPrefix(line[at:], []byte(crcBegins)) && bytes.HasSuffix(line, []byte(crcEnds)) {
		sum, err := strconv.ParseUint(string(line[at+len(crcBegins):len(line)-len(crcEnds)]), 16, 32)
		if err != nil || uint32(sum) != checksum(line[:at]) {
			return Event{}, true, errDamaged
		}
		summed = true
	}
	e, err = parse(line)
	return e, summed, err
}

// parse is decode without a look at the checksum.
func parse(line []byte) (Event, error) {
	e, plain := scan(line)
	if !plain {
		if err := json.Unmarshal(line, &e); err != nil {
			return Event{}, fmt.Errorf("no record: %w", err)
		}
	}
	if e.Sequence == 0 || e.Type == "" {
		return Event{}, errors.New("no record: without sequence or type")
	}
	return e, nil
}

// leaf is what stands for a line in the tree.
func leaf(line []byte) tlog.Hash { return tlog.RecordHash(line) }
