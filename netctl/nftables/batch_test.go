package nftables

import (
	"encoding/binary"
	"errors"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"shekara/netctl/nstest"
	"shekara/netctl/probe"
	"shekara/netctl/probe/probetest"
)

const batchTable = `table inet x {
	set s {
		type mark . ipv4_addr . inet_service
		elements = { 0x00000001 . 192.0.2.1 . 80 }
	}

	chain marks {
		ct mark & 0x00000fff == 0x00000007 accept comment "a word"
		ct mark set meta mark | 0x00000007
		ct mark & 0x00000fff == 0x00000008 accept
	}
}
`

func key(mark uint32, address string, port uint16) []byte {
	k := binary.NativeEndian.AppendUint32(nil, mark)
	k = append(k, netip.MustParseAddr(address).AsSlice()...)
	return append(binary.BigEndian.AppendUint16(k, port), 0, 0)
}

// batchHost has the table, and is asked inside.
func batchHost(t *testing.T) (h *nstest.H, commit func(change func(*Batch)) error) {
	probetest.Need(t, probe.NFTables)
	h = nstest.Host(t, "h")
	h.RunInput(batchTable, "nft", "-f", "-")
	return h, func(change func(*Batch)) (err error) {
		t.Helper()
		h.Do(func() {
			now, e := Generation()
			if e != nil {
				t.Fatal(e)
			}
			b := NewBatch("x", now)
			change(b)
			_, err = b.Commit()
		})
		return err
	}
}

func listed(h *nstest.H) string { return h.Run("nft", "-n", "list", "table", "inet", "x") }

// TestBatch: what nft lists after a batch is what it would have written itself, and the kernel tells of one transaction by the thread that made it.
func TestBatch(t *testing.T) {
	h, commit := batchHost(t)
	listener := listen(t, h)
	err := commit(func(b *Batch) {
		b.Add("s", key(1, "192.0.2.1", 80), key(2, "192.0.2.2", 443)) // the first is there
		b.Delete("s", key(1, "192.0.2.1", 80))
		rules, err := Rules("x", "marks")
		if err != nil || len(rules) != 3 {
			t.Fatalf("%d rules, %v", len(rules), err)
		}
		for i, r := range rules {
			changed, ok := r.WithNumber(7, 0x123)
			if ok != (i < 2) {
				t.Fatalf("rule %d has the number: %t", i, ok)
			}
			if ok {
				b.Replace(changed)
			}
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	want := strings.NewReplacer("0x00000001 . 192.0.2.1 . 80", "0x00000002 . 192.0.2.2 . 443", "0x00000007", "0x00000123").Replace(batchTable)
	if got := listed(h); got != want {
		t.Errorf("is\n%s, want\n%s", got, want)
	}
	if all := taken(t, listener); len(all) != 1 || all[0].Command == "nft" || SamePIDs() && all[0].PID <= 1 {
		t.Errorf("heard %+v", all)
	}
}

// TestBatchIsWholeOrNothing: of a batch with one thing that cannot be nothing is done, wherever in it that is, and the next one that can be is.
func TestBatchIsWholeOrNothing(t *testing.T) {
	h, commit := batchHost(t)
	before := listed(h)
	good := key(2, "192.0.2.2", 443)
	for name, change := range map[string]func(*Batch){
		"delete what is not there": func(b *Batch) { b.Add("s", good); b.Delete("s", key(3, "192.0.2.3", 80)) },
		"no such set":              func(b *Batch) { b.Add("t", good); b.Add("s", good) },
		"a key too short":          func(b *Batch) { b.Add("s", good); b.Add("s", []byte{1, 2, 3}) },
		"a rule that is gone":      func(b *Batch) { b.Add("s", good); b.Replace(Rule{chain: "marks", handle: make([]byte, 8)}) },
		"too many":                 func(b *Batch) { b.Add("s", slices.Repeat([][]byte{good}, MaxBatch+1)...) },
	} {
		err := commit(change)
		if refused := new(Refusal); !errors.As(err, &refused) {
			t.Errorf("%s: %v", name, err)
		}
		if got := listed(h); got != before {
			t.Errorf("%s: is\n%s, was\n%s", name, got, before)
		}
	}
	if err := commit(func(b *Batch) { h.Run("nft", "add", "table", "inet", "y"); b.Add("s", good) }); !errors.Is(err, ErrOutdated) {
		t.Errorf("after another's transaction: %v", err)
	}
	if got := listed(h); got != before {
		t.Errorf("after another's transaction: is\n%s", got)
	}
	if err := commit(func(b *Batch) { b.Delete("s", key(3, "192.0.2.3", 80)) }); !errors.Is(err, unix.ENOENT) {
		t.Errorf("what is not there: %v", err)
	}
	if err := commit(func(b *Batch) { b.Add("s", good) }); err != nil || !strings.Contains(listed(h), "192.0.2.2 . 443") {
		t.Errorf("one that can be: %v\n%s", err, listed(h))
	}
	many := make([][]byte, MaxBatch)
	for i := range many {
		many[i] = key(uint32(i), "192.0.2.9", 80)
	}
	if err := commit(func(b *Batch) { b.Add("s", many...) }); err != nil || strings.Count(listed(h), "192.0.2.9") != MaxBatch {
		t.Errorf("as many as there may be: %v", err)
	}
}

// FuzzRule: whatever the kernel lists, a rule is changed in exactly one number or said not to have it.
func FuzzRule(f *testing.F) {
	number := func(n uint32) []byte {
		return attr{0, unix.NFTA_DATA_VALUE, binary.NativeEndian.AppendUint32(nil, n)}.appendTo(nil)
	}
	expression := func(name string, data ...attr) []byte {
		var inner []byte
		for _, a := range data {
			inner = a.appendTo(inner)
		}
		e := attr{0, unix.NFTA_EXPR_NAME, append([]byte(name), 0)}.appendTo(nil)
		e = attr{unix.NLA_F_NESTED, unix.NFTA_EXPR_DATA, inner}.appendTo(e)
		return attr{unix.NLA_F_NESTED, unix.NFTA_LIST_ELEM, e}.appendTo(nil)
	}
	compare := expression("cmp", attr{0, unix.NFTA_CMP_DATA, number(7)})
	f.Add(compare)
	f.Add(append(compare, compare...))
	f.Add(expression("bitwise", attr{0, unix.NFTA_BITWISE_MASK, number(^uint32(7))}, attr{0, unix.NFTA_BITWISE_XOR, number(7)}))
	f.Add(expression("bitwise", attr{0, unix.NFTA_BITWISE_MASK, number(7)}, attr{0, unix.NFTA_BITWISE_XOR, number(0)}))
	f.Add([]byte{4, 0, 1, 0})
	f.Fuzz(func(t *testing.T, expressions []byte) {
		r, ok := Rule{expressions: expressions}.WithNumber(7, 9)
		if !ok {
			return
		}
		if _, again := r.WithNumber(7, 9); again {
			t.Errorf("%x still has the number", r.expressions)
		}
		if back, ok := r.WithNumber(9, 7); ok {
			if r2, ok := back.WithNumber(7, 9); !ok || !slices.Equal(r2.expressions, r.expressions) {
				t.Errorf("%x there and back is %x", r.expressions, r2.expressions)
			}
		}
	})
}
