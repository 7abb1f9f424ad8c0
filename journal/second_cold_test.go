package journal

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"hash/crc32"
	"math/bits"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/klauspost/compress/zstd"
)

// secondFile gives the lines of the file that begins with a sequence; nothing where its name is none of the journal's, or it is there in its other form as well.
func secondFile(name string, first uint64) ([]byte, error) {
	hot, cold := strings.CutSuffix(name, ".zst")
	if _, err := os.Stat(hot); strings.HasSuffix(name, ".torn") || err == nil && cold {
		return nil, nil
	}
	if want := fmt.Sprintf("%020d.jsonl", first); filepath.Base(hot) != want {
		return nil, fmt.Errorf("%s where %s is due", name, want)
	}
	data, err := os.ReadFile(name)
	if err != nil || !cold {
		return data, err
	}
	return secondThaw(first, data)
}

// secondThaw gives a cold file's lines as docs/journal-format.md has it, for the second verifier: it shares no code with thaw.
func secondThaw(first uint64, cold []byte) ([]byte, error) {
	reader, err := zstd.NewReader(bytes.NewReader(cold))
	if err != nil {
		return nil, err
	}
	defer reader.Close()
	var text bytes.Buffer
	if _, err := text.ReadFrom(reader); err != nil {
		return nil, err
	}
	head, rest, _ := strings.Cut(text.String(), "\n")
	if head != "shekara journal, cold, 1" {
		return nil, fmt.Errorf("it begins with %q", head)
	}
	var out []string
	var edge [][]byte // as audit has it
	records := uint64(0)
	sequence, chains := first, map[string]secondChain{}
	for n, line := range strings.SplitAfter(rest, "\n") {
		if line == "" {
			break
		}
		line, end := strings.TrimSuffix(line, "\n"), strings.HasSuffix(line, "\n")
		made := strings.TrimPrefix(line, "\x00")
		if made == line {
			made = secondMade(line, sequence, edge, chains)
		}
		var record struct {
			Sequence                uint64
			Time                    time.Time
			ClockErrorMicroseconds  int64
			Type, Severity, Message string
			Actor                   struct {
				UID  uint32
				User string
				PID  int32
			}
			Systems []string
			Fields  map[string]string
			secondLinked
		}
		if json.Unmarshal([]byte(made), &record) != nil || record.Sequence == 0 || record.Type == "" {
			record.Links = nil // it is no record
		} else {
			sequence = record.Sequence
			if n == 0 && record.Type == "journal.checkpoint" {
				if begins, size, fits := secondEdge(record.Fields); fits { // else nothing hangs on it
					edge, records = begins, size
				}
			}
		}
		sequence++
		top := hash([]byte{0}, []byte(made))
		for _, link := range record.Links {
			chains[link.Of] = secondChain{link.Number, top}
		}
		edge = append(edge, top)
		for n := records; n%2 == 1; n /= 2 {
			last := len(edge) - 1
			edge = append(edge[:last-1], hash([]byte{1}, edge[last-1], edge[last]))
		}
		records++
		if out = append(out, made); end {
			out = append(out, "\n")
		}
	}
	return []byte(strings.Join(out, "")), nil
}

func secondMade(line string, sequence uint64, edge [][]byte, chains map[string]secondChain) string {
	var roots []string
	for _, h := range edge {
		roots = append(roots, base64.StdEncoding.EncodeToString(h))
	}
	line = strings.Replace(line, "\x01", fmt.Sprintf(`{"sequence":%d`, sequence), 1)
	line = strings.ReplaceAll(line, "\x02", strings.Join(roots, ","))
	line = strings.ReplaceAll(line, "\x03", base64.StdEncoding.EncodeToString(top(edge)))
	if before, after, is := strings.Cut(line, "\x04"); is {
		var record secondLinked
		if err := json.Unmarshal([]byte(before+"}"), &record); err != nil {
			return line
		}
		var of, links []string
		if strings.HasPrefix(record.Object, "tunnel/") {
			of = append(of, record.Object)
		}
		if record.Organisation != "" {
			of = append(of, "organisation/"+record.Organisation)
		}
		for _, name := range of {
			var text bytes.Buffer
			encoder := json.NewEncoder(&text)
			encoder.SetEscapeHTML(false)
			if err := encoder.Encode(name); err != nil {
				return line
			}
			links = append(links, fmt.Sprintf(`{"of":%s,"number":%d,"before":"%s"}`, strings.TrimSpace(text.String()), chains[name].number+1, base64.StdEncoding.EncodeToString(chains[name].leaf)))
		}
		line = before + `,"links":[` + strings.Join(links, ",") + "]" + after
	}
	if before, _, is := strings.Cut(line, "\x05"); is {
		line = fmt.Sprintf(`%s,"crc":"%08x"}`, before, crc32.Checksum([]byte(before), crc32.MakeTable(crc32.Castagnoli)))
	}
	return line
}

// secondEdge reads what a checkpoint says of the tree before it, if that fits together.
func secondEdge(fields map[string]string) (edge [][]byte, size uint64, fits bool) {
	size, err := strconv.ParseUint(fields["size"], 10, 63)
	if err != nil {
		return nil, 0, false
	}
	if text := fields["edge"]; text != "" {
		for _, part := range strings.Split(text, ",") {
			raw, err := base64.StdEncoding.DecodeString(part)
			if err != nil || len(raw) != 32 {
				return nil, 0, false
			}
			edge = append(edge, raw)
		}
	}
	return edge, size, len(edge) == bits.OnesCount64(size) && base64.StdEncoding.EncodeToString(top(edge)) == fields["root"]
}
