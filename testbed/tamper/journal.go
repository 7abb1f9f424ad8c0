package tamper

import (
	"bytes"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// Journal is the files of one, by name. What it holds is replaced and never changed, so that a shallow copy is one.
type Journal map[string][]byte

// Signer signs checkpoints.
type Signer struct {
	name string
	hash []byte
	key  ed25519.PrivateKey
}

// NewSigner has the key whose public half is given, as "shekara journal key" prints it, and whose seed is known.
func NewSigner(public string, seed []byte) (Signer, error) {
	name, rest, _ := strings.Cut(strings.TrimSpace(public), "+")
	_, text, _ := strings.Cut(rest, "+")
	key, err := base64.StdEncoding.DecodeString(text)
	if err != nil || len(key) != 1+ed25519.PublicKeySize || len(seed) != ed25519.SeedSize {
		return Signer{}, fmt.Errorf("%.100q with %d bytes of a seed is no key", public, len(seed))
	}
	private := ed25519.NewKeyFromSeed(seed)
	if !bytes.Equal(private.Public().(ed25519.PublicKey), key[1:]) {
		return Signer{}, errors.New("the seed is not that of the public key")
	}
	return signer(name, private), nil
}

// signer makes the key's hash as C2SP's signed-note does.
func signer(name string, private ed25519.PrivateKey) Signer {
	sum := sha256.Sum256(append([]byte(name+"\n\x01"), private.Public().(ed25519.PublicKey)...))
	return Signer{name: name, hash: sum[:4], key: private}
}

// stranger has another key under the same name.
func (s Signer) stranger() Signer {
	seed := sha256.Sum256([]byte("a stranger"))
	return signer(s.name, ed25519.NewKeyFromSeed(seed[:]))
}

func (s Signer) note(size uint64, root []byte) string {
	text := fmt.Sprintf("%s\n%d\n%s\n", s.name, size, base64.StdEncoding.EncodeToString(root))
	return fmt.Sprintf("%s\n%s", text, s.signature(text))
}

func (s Signer) signature(text string) string {
	signature := append(slices.Clone(s.hash), ed25519.Sign(s.key, []byte(text))...)
	return fmt.Sprintf("— %s %s\n", s.name, base64.StdEncoding.EncodeToString(signature))
}

func (s Signer) public() string {
	return fmt.Sprintf("%s+%x+%s", s.name, s.hash, base64.StdEncoding.EncodeToString(append([]byte{1}, s.key.Public().(ed25519.PublicKey)...)))
}

func (j Journal) names() []string { return slices.Sorted(maps.Keys(j)) }

// file is the name of one, counted from the end if negative.
func (j Journal) file(n int) string {
	names := j.names()
	if n < 0 {
		n += len(names)
	}
	return names[n]
}

func (j Journal) lines(name string) []string {
	return strings.Split(strings.TrimSuffix(string(j[name]), "\n"), "\n")
}

func (j Journal) put(name string, lines []string) { j[name] = []byte(strings.Join(lines, "\n") + "\n") }

func fileName(first uint64) string { return fmt.Sprintf("%020d.jsonl", first) }

var (
	crcAtEnd   = regexp.MustCompile(`,"crc":"[0-9a-f]{8}"}$`)
	sequenceOf = regexp.MustCompile(`^{"sequence":([0-9]+)`)
	linkOf     = regexp.MustCompile(`{"of":"([^"]*)","number":[0-9]+(?:,"before":"[^"]*")?}`)
	noteOf     = regexp.MustCompile(`"note":"(?:[^"\\]|\\.)*"`)
	sizeOf     = regexp.MustCompile(`"size":"[^"]*"`)
	rootOf     = regexp.MustCompile(`"root":"[^"]*"`)
	edgeOf     = regexp.MustCompile(`"edge":"[^"]*"`)
)

// summed gives a line a checksum that fits, as who knows the format would.
func summed(line string) string {
	body := line[:len(line)-1]
	if at := crcAtEnd.FindStringIndex(line); at != nil {
		body = line[:at[0]]
	}
	return fmt.Sprintf(`%s,"crc":"%08x"}`, body, crc32.Checksum([]byte(body), crc32.MakeTable(crc32.Castagnoli)))
}

func sequence(line string) uint64 {
	found := sequenceOf.FindStringSubmatch(line)
	if found == nil {
		return 0
	}
	n, _ := strconv.ParseUint(found[1], 10, 64) // digits, and few
	return n
}

func numbered(line string, n uint64) string {
	return summed(sequenceOf.ReplaceAllString(line, fmt.Sprintf(`{"sequence":%d`, n)))
}

func isCheckpoint(line string) bool { return strings.Contains(line, `"type":"journal.checkpoint"`) }

func isHandover(line string) bool { return strings.Contains(line, `"type":"key.rotate"`) }

// handover is the note by which another key hands over to this one, as who has not got the other one makes it.
func (s Signer) handover(old string) func(size uint64, root []byte) string {
	return func(size uint64, root []byte) string {
		text := fmt.Sprintf("%s\n%d\n%s\nold %s\nnew %s\n", s.name, size, base64.StdEncoding.EncodeToString(root), old, s.public())
		return fmt.Sprintf("%s\n%s", text, s.signature(text))
	}
}

// forge makes a journal anew in which all fits again, as somebody would who knows the format: numbers, files' names, links, checksums, and the roots of the
// checkpoints. Change gives the lines that are to stand for one, from its own; sign gives a checkpoint's note, "" for none, and is asked once it is to be made anew. What is said of a handover
// stays as it is.
func (j Journal) forge(change func(line string) []string, sign func(size uint64, root []byte) string) {
	j.forgeAll(change, sign, nil)
}

// forgeAll is forge with new handovers, if hand is given.
func (j Journal) forgeAll(change func(line string) []string, sign, hand func(size uint64, root []byte) string) {
	var grown edge
	last, changed := uint64(0), false
	ends := map[string]end{} // of all partitions
	old := maps.Clone(j)
	clear(j)
	for _, name := range old.names() {
		begins := last + 1
		var out []string
		for _, was := range old.lines(name) {
			lines := change(was)
			changed = changed || len(lines) != 1 || lines[0] != was
			for _, line := range lines {
				last++
				if changed {
					line = sequenceOf.ReplaceAllLiteralString(line, fmt.Sprintf(`{"sequence":%d`, last))
					if isCheckpoint(line) {
						line = resettled(line, grown, last-1, sign)
					}
					if isHandover(line) && hand != nil {
						line = noted(line, hand(last-1, grown.root()))
					}
					line = summed(linkOf.ReplaceAllStringFunc(line, func(link string) string {
						of := linkOf.FindStringSubmatch(link)[1]
						return ends[of].link(of)
					}))
				}
				leaf := hash([]byte{0}, []byte(line))
				for _, link := range linkOf.FindAllStringSubmatch(line, -1) {
					ends[link[1]] = end{ends[link[1]].number + 1, base64.StdEncoding.EncodeToString(leaf)}
				}
				grown = grown.with(leaf, last)
				out = append(out, line)
			}
		}
		j.put(fileName(begins), out)
	}
}

// end is the last record of a partition.
type end struct {
	number uint64
	leaf   string
}

// link is a link of a partition to it.
func (e end) link(of string) string {
	before := ""
	if e.number > 0 {
		before = `,"before":"` + e.leaf + `"`
	}
	return fmt.Sprintf(`{"of":"%s","number":%d%s}`, of, e.number+1, before)
}

// resettled is a checkpoint's line with what the tree is now.
func resettled(line string, grown edge, size uint64, sign func(uint64, []byte) string) string {
	line = sizeOf.ReplaceAllLiteralString(line, fmt.Sprintf(`"size":"%d"`, size))
	line = rootOf.ReplaceAllLiteralString(line, fmt.Sprintf(`"root":"%s"`, base64.StdEncoding.EncodeToString(grown.root())))
	line = edgeOf.ReplaceAllLiteralString(line, fmt.Sprintf(`"edge":"%s"`, grown.text()))
	note := sign(size, grown.root())
	if note == "" {
		return noteOf.ReplaceAllLiteralString(strings.Replace(line, `,"note":`, `"note":`, 1), "") // members stand in the order of the alphabet: edge, note, root, size
	}
	return noted(line, note)
}

func noted(line, note string) string {
	text, _ := json.Marshal(note) // a string
	return noteOf.ReplaceAllLiteralString(line, `"note":`+string(text))
}

// edge is the roots of the whole subtrees of a tree (RFC 6962, section 2.1), the largest first.
type edge [][]byte

func hash(parts ...[]byte) []byte {
	sum := sha256.Sum256(bytes.Join(parts, nil))
	return sum[:]
}

// with is the edge of the tree of so many leaves, of which this one is the last.
func (e edge) with(leaf []byte, size uint64) edge {
	e = append(e, leaf)
	for ; size%2 == 0; size /= 2 {
		last := len(e) - 1
		e = append(e[:last-1], hash([]byte{1}, e[last-1], e[last]))
	}
	return e
}

func (e edge) root() []byte {
	if len(e) == 0 {
		return hash()
	}
	root := e[len(e)-1]
	for i := len(e) - 2; i >= 0; i-- {
		root = hash([]byte{1}, e[i], root)
	}
	return root
}

func (e edge) text() string {
	var hashes []string
	for _, h := range e {
		hashes = append(hashes, base64.StdEncoding.EncodeToString(h))
	}
	return strings.Join(hashes, ",")
}
