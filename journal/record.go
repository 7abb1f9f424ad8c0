package journal

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"strconv"

	"golang.org/x/mod/sumdb/tlog"
)

// A line ends in ,"crc":"xxxxxxxx"}: CRC-32C (RFC 3720, appendix B.4) of all that stands before it. Lines of the first version have none.
const (
	crcBegins = `,"crc":"`
	crcEnds   = `"}`
	crcBytes  = len(crcBegins) + 8 + len(crcEnds)
)

var errDamaged = errors.New("the checksum does not fit")

func checksum(b []byte) uint32 { return crc32.Checksum(b, crc32.MakeTable(crc32.Castagnoli)) }

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

// encodeRest is what stands in an event's line between its sequence and its links: many can make theirs at once, before they have either.
func encodeRest(e Event) ([]byte, error) {
	e.Sequence, e.Links = 0, nil
	line, err := encodeJSON(e)
	if err != nil {
		return nil, err
	}
	return line[len(sequenceBegins+"0") : len(line)-len("}")], nil
}

// appendLine writes a line, without its end, behind others: byte for byte as encodeJSON would the event.
func appendLine(to []byte, sequence uint64, rest []byte, links []Link) []byte {
	begins := len(to)
	to = strconv.AppendUint(append(to, sequenceBegins...), sequence, 10)
	to = append(to, rest...)
	return appendSum(appendLinks(to, links), begins)
}

// appendLinks writes the member that links a record; nothing where it has none.
func appendLinks(to []byte, links []Link) []byte {
	for i, link := range links {
		if i == 0 {
			to = append(to, linksBegin...)
		} else {
			to = append(to, ',')
		}
		of, err := encodeJSON(link.Of)
		if err != nil {
			of = []byte(`""`) // no string of Go's is refused
		}
		to = append(append(append(to, `{"of":`...), of...), `,"number":`...)
		to = strconv.AppendUint(to, link.Number, 10)
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
	return fmt.Appendf(to, "%s%08x%s", crcBegins, checksum(to[begins:]), crcEnds)
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
