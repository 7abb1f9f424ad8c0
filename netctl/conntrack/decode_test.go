package conntrack

import (
	"encoding/binary"
	"net/netip"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

// attribute is one as the kernel writes it.
func attribute(kind uint16, value ...byte) []byte {
	out := binary.NativeEndian.AppendUint16(nil, uint16(4+len(value)))
	out = append(binary.NativeEndian.AppendUint16(out, kind), value...)
	for len(out)%4 != 0 {
		out = append(out, 0)
	}
	return out
}

func nested(kind uint16, list ...[]byte) []byte {
	var value []byte
	for _, a := range list {
		value = append(value, a...)
	}
	return attribute(1<<15|kind, value...)
}

// example is a TCP connection, translated, in a zone.
func example() []byte {
	long := func(n uint64) []byte { return binary.BigEndian.AppendUint64(nil, n) }
	message := []byte{2, 0, 0, 0} // AF_INET, NFNETLINK_V0
	for _, a := range [][]byte{
		nested(tupleOriginal, nested(tupleAddresses, attribute(source4, 192, 0, 2, 1), attribute(destination4, 198, 51, 100, 1)),
			nested(tupleProtocol, attribute(protocolNumber, 6), attribute(sourcePort, 0x9c, 0x40), attribute(destinationPort, 1, 187))),
		nested(tupleReply, nested(tupleAddresses, attribute(source4, 198, 51, 100, 1), attribute(destination4, 203, 0, 113, 1)),
			nested(tupleProtocol, attribute(protocolNumber, 6), attribute(sourcePort, 1, 187), attribute(destinationPort, 0x9c, 0x40))),
		attribute(7, 0, 0, 0, 60),
		nested(countersOriginal, attribute(countedPackets, long(3)...), attribute(countedBytes, long(180)...)),
		nested(countersReply, attribute(countedPackets, long(2)...), attribute(countedBytes, long(1<<40)...)),
		nested(protocolInfo, nested(infoTCP, attribute(infoTCPState, timeWait))),
		attribute(mark, 0, 0x40, 0x10, 1), attribute(identity, 1, 2, 3, 4), attribute(zone, 0, 5),
	} {
		message = append(message, a...)
	}
	return message
}

func TestDecode(t *testing.T) {
	var a Account
	if err := a.decode(example()); err != nil {
		t.Fatal(err)
	}
	want := Account{Entry: Entry{Source: netip.MustParseAddr("192.0.2.1"), Destination: netip.MustParseAddr("198.51.100.1"), Protocol: 6, SourcePort: 40000, DestinationPort: 443,
		Mark: 0x401001, Zone: 5, AnswersFrom: netip.MustParseAddr("198.51.100.1"), AnswersTo: netip.MustParseAddr("203.0.113.1"), Closed: true}, ID: 0x01020304, Counted: true, Original: Counter{3, 180}, Reply: Counter{2, 1 << 40}}
	if d := cmp.Diff(want, a, cmpopts.EquateComparable(netip.Addr{})); d != "" {
		t.Errorf("-want +got: %s", d)
	}
	other := a
	for _, change := range []func(){func() { other.ID++ }, func() { other.Zone = 0 }, func() { other.SourcePort++ }, func() { other.Destination = other.Source }} {
		if change(); other.Key() == a.Key() {
			t.Errorf("%+v has the key of %+v", other, a)
		}
	}
	if n := testing.AllocsPerRun(100, func() { _ = a.decode(example()) }) - testing.AllocsPerRun(100, func() { example() }); n > 0 {
		t.Errorf("decoding one allocates %v times", n)
	}
}

func FuzzDecode(f *testing.F) {
	f.Add(example())
	f.Add(example()[:50])
	f.Add([]byte{10, 0, 0, 0})
	f.Fuzz(func(t *testing.T, message []byte) {
		var a Account
		if err := a.decode(message); err == nil && !(a.Source.IsValid() && a.Destination.IsValid()) {
			t.Errorf("a connection without addresses: %+v", a)
		}
		for kind, body := range messages(message) {
			if kind>>8 == 1 {
				_ = a.decode(body)
			}
		}
	})
}

func BenchmarkDecode(b *testing.B) {
	message := example()
	var a Account
	var sum uint64
	for b.Loop() {
		if err := a.decode(message); err != nil {
			b.Fatal(err)
		}
		sum += a.Key()
	}
}
