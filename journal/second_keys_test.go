package journal

import (
	"bytes"
	"crypto/ed25519"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
)

// secondKeys is what the second verifier knows of keys: it shares no code with the first.
type secondKeys struct {
	trusted map[string]bool // public keys that were given, and those that handovers lead to
	signs   string          // whose turn it is; "": nobody has signed yet
}

// secondKeysOf reads all handovers of the journal, and follows them from the keys that are given.
func secondKeysOf(names, given []string) (*secondKeys, error) {
	k := &secondKeys{trusted: map[string]bool{}}
	for _, public := range given {
		k.trusted[public] = true
	}
	var pairs [][2]string
	for _, name := range names {
		var first uint64
		if _, err := fmt.Sscanf(name[strings.LastIndex(name, "/")+1:], "%020d.", &first); err != nil {
			return nil, err
		}
		data, err := secondFile(name, first)
		if err != nil {
			return nil, err
		}
		for line := range bytes.Lines(data) {
			var record struct {
				Type   string
				Fields map[string]string
			}
			if json.Unmarshal(line, &record) == nil && record.Type == "key.rotate" {
				if old, next, err := secondHandover(record.Fields["note"]); err == nil && old != "" {
					pairs = append(pairs, [2]string{old, next})
				}
			}
		}
	}
	for more := true; more; slices.Reverse(pairs) {
		more = false
		for _, p := range pairs {
			if k.trusted[p[0]] != k.trusted[p[1]] {
				k.trusted[p[0]], k.trusted[p[1]], more = true, true, true
			}
		}
	}
	return k, nil
}

// secondSigned says whether a key has signed a note.
func secondSigned(signed, public string) bool {
	text, signatures, _ := strings.Cut(signed, "\n\n")
	fields := strings.SplitN(public, "+", 3)
	if len(fields) != 3 {
		return false
	}
	key, err := base64.StdEncoding.DecodeString(fields[2])
	if err != nil || len(key) != 33 || key[0] != 1 {
		return false
	}
	for _, line := range strings.Split(signatures, "\n") {
		signature, is := strings.CutPrefix(line, "— "+fields[0]+" ")
		raw, err := base64.StdEncoding.DecodeString(signature)
		if is && err == nil && len(raw) == 4+ed25519.SignatureSize && fmt.Sprintf("%x", raw[:4]) == fields[1] && ed25519.Verify(ed25519.PublicKey(key[1:]), []byte(text+"\n"), raw[4:]) {
			return true
		}
	}
	return false
}

// secondHandover gives the keys that the note of a handover names; the old one is empty after a loss.
func secondHandover(signed string) (old, next string, err error) {
	text, _, _ := strings.Cut(signed, "\n\n")
	lines := strings.Split(text, "\n")
	if len(lines) == 5 {
		old = strings.TrimPrefix(lines[3], "old ")
	}
	if len(lines) != 4 && len(lines) != 5 || old != "" && !secondSigned(signed, old) {
		return "", "", errors.New("the old key has not signed the handover")
	}
	next = strings.TrimPrefix(lines[len(lines)-1], "new ")
	if !secondSigned(signed, next) {
		return "", "", errors.New("the new key has not signed the handover")
	}
	return old, next, nil
}

// follow holds what a record has signed to the tree before it.
func (k *secondKeys) follow(kind string, fields map[string]string, records uint64, root []byte) error {
	signed := fields["note"]
	if signed == "" && kind == "journal.checkpoint" {
		return nil
	}
	head := fmt.Sprintf("\n%d\n%s\n", records, base64.StdEncoding.EncodeToString(root))
	name, rest, _ := strings.Cut(signed, "\n")
	switch kind {
	case "journal.checkpoint":
		for public := range k.trusted {
			if strings.HasPrefix(public, name+"+") && strings.HasPrefix("\n"+rest, head+"\n") && secondSigned(signed, public) && (k.signs == "" || k.signs == public) {
				k.signs = public
				return nil
			}
		}
		return fmt.Errorf("the checkpoint is signed by no key whose turn it is: %q", signed)
	case "key.rotate", "key.lose":
		old, next, err := secondHandover(signed)
		switch {
		case err != nil:
			return err
		case old != fields["old"] || next != fields["new"] || !strings.HasPrefix("\n"+rest, head) || (old == "") != (kind == "key.lose"):
			return fmt.Errorf("the handover is not what its record says: %q", signed)
		case old != "" && k.signs != "" && old != k.signs:
			return fmt.Errorf("%s hands over, %s signs", old, k.signs)
		case !k.trusted[next]:
			return fmt.Errorf("the chain of signatures is broken: %s is not given", next)
		}
		k.signs = next
	}
	return nil
}
