package journal

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"path/filepath"
	"slices"
	"strings"
)

// audit is a second verifier, written from docs/journal-format.md alone: it shares no code with the first. It gives the number of records of a
// whole journal in which each is settled by a signature, or an error that names the first line that is wrong.
func audit(dir string, publicKeys ...string) (records uint64, err error) {
	names, err := filepath.Glob(filepath.Join(dir, "*.jsonl*"))
	if err != nil {
		return 0, err
	}
	slices.Sort(names)
	keys, err := secondKeysOf(names, publicKeys)
	if err != nil {
		return 0, err
	}
	var edge [][]byte // roots of whole subtrees, the largest first
	settled := uint64(0)
	chains, linking := map[string]secondChain{}, false
	prefix := secondPrefix{roots: map[string]string{}}
	if edge, records, err = prefix.begin(names); err != nil {
		return 0, err
	}
	for _, name := range names {
		prefix.roots[fmt.Sprint(records)] = base64.StdEncoding.EncodeToString(top(edge))
		data, err := secondFile(name, records+1)
		if err != nil {
			return 0, err
		}
		lines := bufio.NewReader(bytes.NewReader(data))
		for {
			line, err := lines.ReadBytes('\n')
			if errors.Is(err, io.EOF) && len(line) == 0 {
				break
			}
			if err != nil {
				return 0, fmt.Errorf("%s after record %d: %w", name, records, err)
			}
			line = line[:len(line)-1]
			var record struct {
				Sequence  uint64
				Type, CRC string
				Fields    map[string]string
				secondLinked
			}
			if err := json.Unmarshal(line, &record); err != nil || record.Sequence != records+1 {
				return 0, fmt.Errorf("record %d: %d, %v", records+1, record.Sequence, err)
			}
			if record.CRC == "" {
				return 0, fmt.Errorf("record %d: no checksum", records+1)
			}
			if sum := crc32.Checksum(line[:bytes.LastIndex(line, []byte(`,"crc":"`))], crc32.MakeTable(crc32.Castagnoli)); fmt.Sprintf("%08x", sum) != record.CRC {
				return 0, fmt.Errorf("record %d: checksum %08x, says %s", records+1, sum, record.CRC)
			}
			if record.Type == "journal.checkpoint" && record.Fields["note"] != "" {
				settled = records
			}
			if err := errors.Join(keys.follow(record.Type, record.Fields, records, top(edge)), record.follow(line, chains, &linking, !prefix.cut), prefix.follow(record.Type, record.Sequence, record.Fields)); err != nil {
				return 0, fmt.Errorf("record %d: %w", record.Sequence, err)
			}
			edge = append(edge, hash([]byte{0}, line))
			records++
			for n := records; n%2 == 0; n /= 2 {
				last := len(edge) - 1
				edge = append(edge[:last-1], hash([]byte{1}, edge[last-1], edge[last]))
			}
		}
	}
	if records > 0 && settled == 0 {
		return 0, errors.New("nothing is signed")
	}
	return records, prefix.end(settled)
}

func hash(parts ...[]byte) []byte {
	sum := sha256.Sum256(bytes.Join(parts, nil))
	return sum[:]
}

func top(edge [][]byte) []byte {
	if len(edge) == 0 {
		return hash()
	}
	root := edge[len(edge)-1]
	for i := len(edge) - 2; i >= 0; i-- {
		root = hash([]byte{1}, edge[i], root)
	}
	return root
}

// secondChain is how a partition ended.
type secondChain struct {
	number uint64
	leaf   []byte
}

// secondLinked is what links a record.
type secondLinked struct {
	Object, Organisation string
	Links                []struct {
		Of     string
		Number uint64
		Before string
	}
}

func (r *secondLinked) follow(line []byte, chains map[string]secondChain, linking *bool, all bool) error {
	var of []string
	if strings.HasPrefix(r.Object, "tunnel/") {
		of = append(of, r.Object)
	}
	if r.Organisation != "" {
		of = append(of, "organisation/"+r.Organisation)
	}
	*linking = *linking || len(r.Links) > 0
	if !*linking {
		return nil
	}
	if len(of) != len(r.Links) {
		return fmt.Errorf("%d links, want %d", len(r.Links), len(of))
	}
	for i, link := range r.Links {
		before, known := chains[of[i]]
		if !known && !all && link.Of == of[i] { // what came before is removed
			chains[link.Of] = secondChain{link.Number, hash([]byte{0}, line)}
			continue
		}
		want := ""
		if before.number > 0 {
			want = base64.StdEncoding.EncodeToString(before.leaf)
		}
		if link.Of != of[i] || link.Number != before.number+1 || link.Before != want {
			return fmt.Errorf("link %+v after %d", link, before.number)
		}
		chains[link.Of] = secondChain{link.Number, hash([]byte{0}, line)}
	}
	return nil
}

// auditPartition reads what was exported, sharing no code with VerifyPartition: the numbers are whole, the hashes fit, and the last record is the one that
// the proof at the end is about. It gives how many records there are, and that proof.
func auditPartition(data []byte) (records uint64, proof map[string]any, err error) {
	lines := bytes.Split(bytes.TrimSuffix(data, []byte("\n")), []byte("\n"))
	var head struct{ Partition string }
	if err := json.Unmarshal(lines[0], &head); err != nil || head.Partition == "" {
		return 0, nil, fmt.Errorf("first line %q", lines[0])
	}
	before := secondChain{}
	var last []byte
	for _, line := range lines[1:] {
		if bytes.HasPrefix(line, []byte(`{"record":`)) {
			if err := json.Unmarshal(line, &proof); err != nil {
				return 0, nil, err
			}
			continue
		}
		var record secondLinked
		if err := json.Unmarshal(line, &record); err != nil || proof != nil {
			return 0, nil, fmt.Errorf("line %q: %v", line, err)
		}
		for _, link := range record.Links {
			if link.Of != head.Partition {
				continue
			}
			if link.Number != before.number+1 || before.number > 0 && link.Before != base64.StdEncoding.EncodeToString(before.leaf) {
				return 0, nil, fmt.Errorf("link %+v after %d", link, before.number)
			}
			before = secondChain{link.Number, hash([]byte{0}, line)}
			records++
		}
		last = line
	}
	if proof == nil || proof["record"] != string(last) {
		return 0, nil, errors.New("what is proved is not the last record")
	}
	return records, proof, nil
}
