package swarm

import (
	"fmt"
	"net/netip"
	"os"
	"strings"
	"testing"
)

// BenchmarkPeer tells what one more silent peer costs in memory and goroutines.
func BenchmarkPeer(b *testing.B) {
	swarm := New()
	defer swarm.Close()
	before := residentBytes(b)
	far, err := randomKey().Public()
	if err != nil {
		b.Fatal(err)
	}
	for i := 0; b.Loop(); i++ {
		config := Config{Name: fmt.Sprint(i), PrivateKey: randomKey(), FarKey: far, Local: netip.MustParseAddrPort("127.0.0.1:0"),
			Addresses: []netip.Addr{netip.MustParseAddr("10.64.0.1")}}
		if err := swarm.Add(config); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(residentBytes(b)-before)/float64(b.N), "RSS-bytes/peer")
}

func residentBytes(b *testing.B) int {
	b.Helper()
	text, err := os.ReadFile("/proc/self/status")
	if err != nil {
		b.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		var kilobytes int
		if n, _ := fmt.Sscanf(line, "VmRSS: %d kB", &kilobytes); n == 1 {
			return kilobytes << 10
		}
	}
	b.Fatal("no VmRSS")
	return 0
}
