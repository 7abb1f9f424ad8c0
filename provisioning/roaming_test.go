package provisioning

import (
	"net/netip"
	"strings"
	"testing"
	"time"

	"shekara/journal"
	"shekara/tunnels"
)

// TestRoaming: where a far end went is told, at most once a minute, and not where it was when it came.
func TestRoaming(t *testing.T) {
	inBubble(t, func(t *testing.T, b *box) {
		// Behind a NAT: where it is nobody knows before it comes, and nothing puts it back.
		b.mustApply(request(strings.Replace(agency{n: 0}.yaml(), "  side: initiator", "  side: initiator\n  behindNAT: true\n  insideIP: 192.168.7.2", 1)))
		at := func(endpoint string) {
			t.Helper()
			if err := b.tunnels.Pass(b.device(), agency{n: 0}.publicKey(), func(p *tunnels.PeerState) {
				p.Endpoint, p.LastHandshake, p.ReceivedBytes = netip.MustParseAddrPort(endpoint), time.Now(), p.ReceivedBytes+100
			}); err != nil {
				t.Fatal(err)
			}
			b.wait(2 * sampleEvery)
		}
		told := func(want int, before, after, times string) {
			t.Helper()
			if n := b.events.count(journal.TunnelRoam); n != want {
				t.Fatalf("%d events, want %d", n, want)
			}
			if want == 0 {
				return
			}
			if e := b.events.last(journal.TunnelRoam); e.Object != "tunnel/agency-0" || e.Fields["before"] != before || e.Fields["after"] != after || e.Fields["times"] != times {
				t.Errorf("%+v, want %s to %s, %s times", e, before, after, times)
			}
		}
		b.wait(2 * sampleEvery)
		told(0, "", "", "")
		const first = "198.51.100.77:1000"
		at(first)
		told(0, "", "", "")
		at("198.51.100.77:1001")
		told(1, first, "198.51.100.77:1001", "1")
		at("198.51.100.78:1001")
		at("198.51.100.79:1001")
		told(1, first, "198.51.100.77:1001", "1")
		b.wait(roamWindow)
		told(2, "198.51.100.77:1001", "198.51.100.79:1001", "2")
		b.wait(2 * roamWindow)
		told(2, "198.51.100.77:1001", "198.51.100.79:1001", "2")
	})
}
