package journal

import (
	"bufio"
	"bytes"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// audit is a second verifier, written from docs/journal-format.md alone: it shares no code with the first. It gives the number of records of a
// whole journal in which each is settled by a signature, or an error that names the first line that is wrong.
func audit(dir, publicKey string) (records uint64, err error) {
	fields := strings.SplitN(publicKey, "+", 3)
	if len(fields) != 3 {
		return 0, fmt.Errorf("key %q", publicKey)
	}
	key, err := base64.StdEncoding.DecodeString(fields[2])
	if err != nil || len(key) != 33 || key[0] != 1 {
		return 0, fmt.Errorf("key %q: %v", publicKey, err)
	}
	names, err := filepath.Glob(filepath.Join(dir, "*.jsonl"))
	if err != nil {
		return 0, err
	}
	slices.Sort(names)
	var edge [][]byte // roots of whole subtrees, the largest first
	settled := uint64(0)
	for _, name := range names {
		if want := fmt.Sprintf("%020d.jsonl", records+1); filepath.Base(name) != want {
			return 0, fmt.Errorf("%s where %s is due", name, want)
		}
		data, err := os.ReadFile(name)
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
				text, signature, _ := strings.Cut(record.Fields["note"], "\n\n— "+fields[0]+" ")
				if text != fmt.Sprintf("%s\n%d\n%s", fields[0], records, base64.StdEncoding.EncodeToString(top(edge))) {
					return 0, fmt.Errorf("record %d settles %q", record.Sequence, text)
				}
				raw, err := base64.StdEncoding.DecodeString(strings.TrimSpace(signature))
				if err != nil || len(raw) != 4+ed25519.SignatureSize || !ed25519.Verify(ed25519.PublicKey(key[1:]), []byte(text+"\n"), raw[4:]) {
					return 0, fmt.Errorf("record %d: the signature does not fit", record.Sequence)
				}
				settled = records
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
	return records, nil
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
