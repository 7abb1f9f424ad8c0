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
	var line bytes.Buffer
	encoder := json.NewEncoder(&line)
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(e); err != nil {
		return nil, err
	}
	body := line.Bytes()[:line.Len()-len("}\n")]
	return fmt.Appendf(body, "%s%08x%s", crcBegins, checksum(body), crcEnds), nil
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
	if err := json.Unmarshal(line, &e); err != nil {
		return Event{}, summed, fmt.Errorf("no record: %w", err)
	}
	if e.Sequence == 0 || e.Type == "" {
		return Event{}, summed, errors.New("no record: without sequence or type")
	}
	return e, summed, nil
}

// leaf is what stands for a line in the tree.
func leaf(line []byte) tlog.Hash { return tlog.RecordHash(line) }
