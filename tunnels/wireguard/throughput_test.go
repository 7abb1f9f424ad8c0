package wireguard_test

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"testing"

	"shekara/netctl/nstest"
	"shekara/netctl/probe"
	"shekara/netctl/probe/probetest"
	"shekara/tunnels"
)

// BenchmarkThroughput is one TCP stream between two namespaces through two devices of an engine.
func BenchmarkThroughput(b *testing.B) {
	probetest.Need(b, probe.Tool("iperf3"))
	for _, engine := range engines(b) {
		b.Run(string(engine), func(b *testing.B) {
			hosts := []*nstest.H{nstest.Host(b, "a"), nstest.Host(b, "b")}
			nstest.Link(b, hosts[0], "eth0", []string{"192.0.2.1/24"}, hosts[1], "eth0", []string{"192.0.2.2/24"})
			var devices []tunnels.DeviceSpec
			var public []tunnels.PublicKey
			for i := range hosts {
				d := spec(b, fmt.Sprintf("sk-bench%d", i))
				raw := d.PrivateKey.Reveal()
				raw[7] = byte(i)
				d.PrivateKey = mustKey(b, raw[:])
				key, err := tunnels.PublicKeyOf(d.PrivateKey)
				if err != nil {
					b.Fatal(err)
				}
				devices, public = append(devices, d), append(public, key)
			}
			for i, host := range hosts {
				driver := open(engine)(b, host)
				far := fmt.Sprintf("192.0.2.%d:51820", 2-i)
				deleteAfter(b, driver, devices[i])
				peer := tunnels.Spec{Device: devices[i].Name, PublicKey: public[1-i], Endpoint: netip.MustParseAddrPort(far),
					AllowedIPs: []netip.Prefix{netip.MustParsePrefix(fmt.Sprintf("10.0.%d.0/24", 2-i))}}
				if failures := driver.Apply(b.Context(), tunnels.Diff(devices[i:i+1], []tunnels.Spec{peer}, nil)); len(failures) > 0 {
					b.Fatal(failures)
				}
				host.Run("ip", "address", "add", fmt.Sprintf("10.0.%d.1/24", i+1), "dev", devices[i].Name)
				host.Run("ip", "route", "add", fmt.Sprintf("10.0.%d.0/24", 2-i), "dev", devices[i].Name)
			}
			hosts[1].Start("iperf3", "-s", "-B", "10.0.2.1", "--logfile", "/dev/null")
			hosts[0].Run("ping", "-c3", "-i0.2", "10.0.2.1") // also time for the server to listen
			var result struct {
				End struct {
					Received struct {
						Bits float64 `json:"bits_per_second"`
					} `json:"sum_received"`
				} `json:"end"`
			}
			for b.Loop() {
				if err := json.Unmarshal([]byte(hosts[0].Run("iperf3", "-c", "10.0.2.1", "-t", "5", "-J")), &result); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(result.End.Received.Bits/1e6, "Mbit/s")
			b.ReportMetric(0, "ns/op")
		})
	}
}
