package nftables

import (
	"encoding/binary"
	"fmt"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"golang.org/x/sys/unix"

	"shekara/netctl/nstest"
	"shekara/netctl/probe"
	"shekara/netctl/probe/probetest"
)

func listen(t *testing.T, h *nstest.H) *Listener {
	t.Helper()
	var l *Listener
	h.Do(func() {
		var err error
		if l, err = Listen(); err != nil {
			t.Fatal(err)
		}
	})
	t.Cleanup(func() { l.Close() })
	return l
}

func taken(t *testing.T, l *Listener) (all []Transaction) {
	t.Helper()
	lost, err := l.Take(func(tx Transaction) { all = append(all, tx) })
	if err != nil || lost {
		t.Fatalf("lost: %v, %v", lost, err)
	}
	return all
}

func TestEachTransactionIsHeardWithItsProcess(t *testing.T) {
	probetest.Need(t, probe.NFTables)
	h := nstest.Host(t, "h")
	l := listen(t, h)
	h.Run("nft", "add table inet a; add chain inet a c; add set inet a s { type ipv4_addr; }; add rule inet a c accept; add counter inet a n")
	h.Run("nft", "add", "element", "inet", "a", "s", "{ 192.0.2.1, 192.0.2.2 }")
	h.Run("nft", "flush", "chain", "inet", "a", "c")
	h.Run("nft", "delete", "table", "inet", "a")
	all := taken(t, l)
	var got []string
	for i, tx := range all {
		if tx.Command != "nft" || tx.PID <= 1 || tx.Seen.IsZero() || i > 0 && (tx.Generation != all[i-1].Generation+1 || tx.PID == all[i-1].PID) {
			t.Errorf("transaction %d is %+v", i, tx)
		}
		for _, o := range tx.Objects {
			o.Handle = 0
			got = append(got, fmt.Sprint(i, " ", o))
		}
	}
	for _, want := range []string{
		"0 add table inet a", "0 add chain inet a c", "0 add set inet a s", "0 add rule inet a c handle 0", "0 add object inet a n",
		"1 add element inet a s", "2 delete rule inet a c handle 0", "3 delete table inet a",
	} {
		if !slices.Contains(got, want) {
			t.Errorf("%q is missing in\n%s", want, strings.Join(got, "\n"))
		}
	}
	if len(all) != 4 {
		t.Errorf("%d transactions, want 4", len(all))
	}
	// The process that the kernel names is the one that did it: a child started here, in the initial PID namespace.
	command := h.Command(t.Context(), "nft", "add", "table", "inet", "b")
	if err := command.Run(); err != nil {
		t.Fatal(err)
	}
	if after := taken(t, l); len(after) != 1 || SamePIDs() && after[0].PID != command.Process.Pid {
		t.Errorf("process %d made %+v", command.Process.Pid, after)
	}
}

// TestALoadOfThousandsIsHeardWhole: what a load of ten thousand tunnels says at once fits, and little of it is kept.
func TestALoadOfThousandsIsHeardWhole(t *testing.T) {
	probetest.Need(t, probe.NFTables)
	h := nstest.Host(t, "h")
	l := listen(t, h)
	const elements = 50000
	var script strings.Builder
	script.WriteString("add table inet a\nadd set inet a s { type ipv4_addr . inet_service; }\nadd element inet a s {")
	for i := range elements {
		fmt.Fprintf(&script, "10.%d.%d.%d . 443,", i>>16, i>>8&0xff, i&0xff)
	}
	script.WriteString("}\n")
	h.RunInput(script.String(), "nft", "-f", "-")
	all := taken(t, l)
	if len(all) != 1 || len(all[0].Objects) != maxObjects || all[0].Objects[0].String() != "add table inet a" {
		t.Fatalf("heard %d transactions", len(all))
	}
}

func message(kind byte, family byte, attributes ...[]byte) []byte {
	body := append([]byte{family, 0, 0, 0}, slices.Concat(attributes...)...)
	m := binary.NativeEndian.AppendUint32(nil, uint32(unix.SizeofNlMsghdr+len(body)))
	m = binary.NativeEndian.AppendUint16(m, unix.NFNL_SUBSYS_NFTABLES<<8|uint16(kind))
	m = append(m, make([]byte, unix.SizeofNlMsghdr-len(m))...)
	return append(m, body...)
}

func attribute(kind uint16, value string) []byte {
	a := binary.NativeEndian.AppendUint16(nil, uint16(4+len(value)))
	a = binary.NativeEndian.AppendUint16(a, kind)
	a = append(a, value...)
	return append(a, make([]byte, (4-len(a)%4)%4)...)
}

// FuzzDecode: whatever comes, little of it is kept, and what is kept can be shown.
func FuzzDecode(f *testing.F) {
	rule := message(unix.NFT_MSG_DELRULE, unix.NFPROTO_INET, attribute(1, "shekara\x00"), attribute(2, "forward\x00"), attribute(3, "\x00\x00\x00\x00\x00\x00\x00\x07"))
	end := message(unix.NFT_MSG_NEWGEN, 0, attribute(1, "\x00\x00\x00\x09"), attribute(2, "\x00\x00\x12\x34"), attribute(3, "nft\x00"))
	f.Add(slices.Concat(rule, end))
	f.Add(slices.Concat(rule, rule, end, rule))
	f.Add(slices.Concat(message(unix.NFT_MSG_NEWSETELEM, unix.NFPROTO_IPV6, attribute(1, "a\nb\x1b[2J\x00")), end))
	var d decoder
	d.datagram(slices.Concat(rule, end), func(tx Transaction) {
		if tx.Generation != 9 || tx.PID != 0x1234 || tx.By() != "nft (process 4660)" || len(tx.Objects) != 1 || tx.Objects[0].String() != "delete rule inet shekara forward handle 7" {
			f.Errorf("decoded: %+v", tx)
		}
	})
	f.Fuzz(func(t *testing.T, datagram []byte) {
		var d decoder
		for range 2 {
			d.datagram(datagram, func(tx Transaction) {
				if len(tx.Objects) > maxObjects || len(tx.Command) > 3*maxCommand {
					t.Errorf("kept: %+v", tx)
				}
				for _, o := range tx.Objects {
					if s := o.String(); len(s) > 8*maxName || !utf8.ValidString(s) || strings.ContainsAny(s, "\n\x1b\x00") {
						t.Errorf("shown: %q", s)
					}
				}
			})
		}
	})
}
