package journal

import (
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"math/bits"
	"slices"
	"strings"

	"golang.org/x/mod/sumdb/tlog"
)

// tree is the right edge of the Merkle tree over all records (RFC 6962, section 2.1): enough to add to it and to know its root. A record's
// leaf is its line without the end of line.
type tree struct {
	size uint64
	edge []tlog.Hash // roots of the whole subtrees that size is the sum of, the largest first
}

// grow adds one leaf.
func (t *tree) grow(leaf tlog.Hash) {
	t.edge = append(t.edge, leaf)
	for n := t.size; n&1 == 1; n >>= 1 {
		last := len(t.edge) - 1
		t.edge = append(t.edge[:last-1], tlog.NodeHash(t.edge[last-1], t.edge[last]))
	}
	t.size++
}

func (t tree) clone() tree { return tree{t.size, slices.Clone(t.edge)} }

// root is the hash of the whole tree.
func (t tree) root() tlog.Hash {
	if len(t.edge) == 0 {
		return sha256.Sum256(nil)
	}
	root := t.edge[len(t.edge)-1]
	for _, left := range slices.Backward(t.edge[:len(t.edge)-1]) {
		root = tlog.NodeHash(left, root)
	}
	return root
}

// edgeText is the edge as a record holds it.
func (t tree) edgeText() string {
	texts := make([]string, len(t.edge))
	for i, h := range t.edge {
		texts[i] = base64.StdEncoding.EncodeToString(h[:])
	}
	return strings.Join(texts, ",")
}

// parseTree reads an edge that a record holds, for the size that it says.
func parseTree(size uint64, text string) (tree, error) {
	t := tree{size: size}
	for part := range strings.SplitSeq(text, ",") {
		if part == "" {
			continue
		}
		raw, err := base64.StdEncoding.DecodeString(part)
		if err != nil || len(raw) != tlog.HashSize {
			return tree{}, fmt.Errorf("edge of the tree: %.80q is no hash", part)
		}
		t.edge = append(t.edge, tlog.Hash(raw))
	}
	if want := bits.OnesCount64(size); len(t.edge) != want {
		return tree{}, fmt.Errorf("edge of the tree: %d hashes, a tree of %d records has %d", len(t.edge), size, want)
	}
	return t, nil
}
