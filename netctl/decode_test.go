package netctl

import (
	"encoding/binary"
	"net/netip"
	"strconv"
	"testing"

	"golang.org/x/sys/unix"
)

func linkName(index int) string { return "link" + strconv.Itoa(index) }

// FuzzDecode feeds the decoders of kernel messages. What they make of a message that we encoded is what was encoded.
func FuzzDecode(f *testing.F) {
	for _, route := range []Route{
		{Table: 0x534b, Prefix: netip.MustParsePrefix("10.0.0.0/8"), Link: "link7", Gateway: netip.MustParseAddr("192.0.2.1"), Source: netip.MustParseAddr("192.0.2.2"), Metric: 9},
		{Table: 1, Prefix: netip.MustParsePrefix("::/0"), Kind: Unreachable, Metric: 1},
	} {
		body := changeRoute(route, 7, 0)[unix.SizeofNlMsghdr:]
		if got := decodeRoute(nil, body, linkName); len(got) != 1 || got[0] != route {
			f.Errorf("%v comes back as %v", route, got)
		}
		f.Add([]byte(body))
	}
	rule := Rule{IPv6: true, Priority: 5200, Mark: 3, In: "sk-a", Table: 70000}
	body := addRule(rule)[unix.SizeofNlMsghdr:]
	if got, ok := decodeRule(body); !ok || got.Rule != rule || !got.ours() {
		f.Errorf("%v comes back as %+v", rule, got)
	}
	f.Add([]byte(body))
	hops := changeRoute(Route{Prefix: netip.MustParsePrefix("::/0")}, 1, 0)
	hop := []byte{16 + 8, 0, 0, 0, 5, 0, 0, 0, 20, 0, unix.RTA_GATEWAY, 0, 0xfe, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1}
	hop[0] = byte(len(hop))
	hops.attribute(unix.RTA_MULTIPATH, append(hop, hop...))
	if got := decodeRoute(nil, hops[unix.SizeofNlMsghdr:], linkName); len(got) != 2 || got[1].Link != "link5" || got[0].Gateway != netip.MustParseAddr("fe80::1") {
		f.Errorf("two next hops come back as %v", got)
	}
	f.Add([]byte(hops[unix.SizeofNlMsghdr:]))
	f.Fuzz(func(t *testing.T, body []byte) {
		for _, route := range decodeRoute(nil, body, linkName) {
			if route != route.canonical() || !route.Prefix.IsValid() {
				t.Errorf("route %v is not canonical", route)
			}
		}
		if rule, ok := decodeRule(body); ok {
			_ = rule.describe()
		}
		_ = decodeLinkName(body)
		if address, ok := decodeAddress(body, linkName); ok && !address.Prefix.IsValid() {
			t.Errorf("address %v", address)
		}
		for _, flags := range []uint16{0, unix.NLM_F_ACK_TLVS} {
			_ = kernelError(unix.NlMsghdr{Flags: flags}, body)
		}
	})
}

func TestKernelErrorHasTheKernelsWords(t *testing.T) {
	body := binary.NativeEndian.AppendUint32(nil, uint32(0xffffffff-uint32(unix.ENETUNREACH)+1))
	body = append(body, make([]byte, unix.SizeofNlMsghdr)...)
	text := "Nexthop has invalid gateway\x00"
	body = binary.NativeEndian.AppendUint16(body, uint16(4+len(text)))
	body = binary.NativeEndian.AppendUint16(body, unix.NLMSGERR_ATTR_MSG)
	body = append(body, text...)
	err := kernelError(unix.NlMsghdr{Flags: unix.NLM_F_ACK_TLVS}, body)
	if err == nil || err.Error() != "network is unreachable: Nexthop has invalid gateway" {
		t.Errorf("error is %v", err)
	}
}
