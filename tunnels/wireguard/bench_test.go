package wireguard_test

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"shekara/netctl/nstest"
	"shekara/netctl/probe"
	"shekara/netctl/probe/probetest"
	"shekara/tunnels"
	"shekara/tunnels/wireguard"
	"shekara/tunnels/wireguard/dataplane"
)

// sizes are the numbers of peers that the benchmarks are run with.
func sizes() []int { return []int{10, 1000, 10_000} }

// engines are those that this machine has.
func engines(b *testing.B) []tunnels.Engine {
	b.Helper()
	probetest.Need(b, probe.Root, probe.Namespaces, probe.Tool("wg"))
	var found []tunnels.Engine
	if probe.Has(probe.KernelWireGuard) == nil {
		found = append(found, tunnels.Kernel)
	}
	if probe.Has(probe.TUN) == nil {
		found = append(found, tunnels.Userspace)
	}
	return found
}

func peers(device string, n int) []tunnels.Spec {
	specs := make([]tunnels.Spec, n)
	for i := range specs {
		var key tunnels.PublicKey
		binary.BigEndian.PutUint32(key[:], uint32(i))
		key[20] = 7
		a := netip.AddrFrom4([4]byte{10, byte(128 + i>>16), byte(i >> 8), byte(i)})
		specs[i] = tunnels.Spec{Tunnel: fmt.Sprint(i), Device: device, PublicKey: key, Endpoint: netip.MustParseAddrPort("192.0.2.7:51820"),
			AllowedIPs: []netip.Prefix{netip.PrefixFrom(a, 32)}}
	}
	return specs
}

// deleteAfter deletes the device when the benchmark ends; its context has ended then.
func deleteAfter(b *testing.B, d *wireguard.Driver, device tunnels.DeviceSpec) {
	b.Cleanup(func() {
		for _, failure := range d.Apply(context.Background(), []tunnels.Op{{Kind: tunnels.DeviceDelete, Device: device}}) {
			b.Error(failure)
		}
	})
}

func forEach(b *testing.B, run func(b *testing.B, n int, host *nstest.H, d *wireguard.Driver, device tunnels.DeviceSpec)) {
	for _, engine := range engines(b) {
		for _, n := range sizes() {
			b.Run(fmt.Sprintf("%s/%d", engine, n), func(b *testing.B) {
				host := nstest.Host(b, "h")
				d := open(engine)(b, host)
				device := spec(b, "sk-bench")
				deleteAfter(b, d, device)
				run(b, n, host, d, device)
			})
		}
	}
}

// BenchmarkEmptyToPeers is the time from no device to one with n peers.
func BenchmarkEmptyToPeers(b *testing.B) {
	forEach(b, func(b *testing.B, n int, host *nstest.H, d *wireguard.Driver, device tunnels.DeviceSpec) {
		ops := tunnels.Diff([]tunnels.DeviceSpec{device}, peers(device.Name, n), nil)
		for b.Loop() {
			if failures := d.Apply(b.Context(), ops); len(failures) > 0 {
				b.Fatal(failures[0])
			}
			b.StopTimer()
			reportMemory(b, device.Name, n)
			apply(b, d, tunnels.DeviceDelete, device)
			b.StartTimer()
		}
	})
}

// BenchmarkEmptyToPeersByWG is what wg setconf takes for the same, the device being there.
func BenchmarkEmptyToPeersByWG(b *testing.B) {
	forEach(b, func(b *testing.B, n int, host *nstest.H, d *wireguard.Driver, device tunnels.DeviceSpec) {
		var text bytes.Buffer
		key := device.PrivateKey.Reveal()
		fmt.Fprintf(&text, "[Interface]\nPrivateKey = %s\nListenPort = %d\nFwMark = %d\n", base64.StdEncoding.EncodeToString(key[:]), device.Port, device.Mark)
		for _, p := range peers(device.Name, n) {
			fmt.Fprintf(&text, "[Peer]\nPublicKey = %s\nEndpoint = %s\nAllowedIPs = %s\n", p.PublicKey, p.Endpoint, p.AllowedIPs[0])
		}
		file := filepath.Join(b.TempDir(), "conf")
		if err := os.WriteFile(file, text.Bytes(), 0o600); err != nil {
			b.Fatal(err)
		}
		for b.Loop() {
			b.StopTimer()
			apply(b, d, tunnels.DeviceAdd, device)
			b.StartTimer()
			host.Run("wg", "setconf", device.Name, file)
			b.StopTimer()
			apply(b, d, tunnels.DeviceDelete, device)
			b.StartTimer()
		}
	})
}

// BenchmarkOnePeer is one tunnel's change among n.
func BenchmarkOnePeer(b *testing.B) {
	forEach(b, func(b *testing.B, n int, _ *nstest.H, d *wireguard.Driver, device tunnels.DeviceSpec) {
		specs := peers(device.Name, n)
		d.Apply(b.Context(), tunnels.Diff([]tunnels.DeviceSpec{device}, specs, nil))
		one := tunnels.Op{Kind: tunnels.PeerUpdate, Device: tunnels.DeviceSpec{Name: device.Name}, Peer: specs[n/2],
			Was: tunnels.PeerState{Endpoint: specs[n/2].Endpoint}}
		for b.Loop() {
			if failures := d.Apply(b.Context(), []tunnels.Op{one}); len(failures) > 0 {
				b.Fatal(failures[0])
			}
		}
	})
}

// BenchmarkObserve is a whole look at n peers.
func BenchmarkObserve(b *testing.B) {
	forEach(b, func(b *testing.B, n int, _ *nstest.H, d *wireguard.Driver, device tunnels.DeviceSpec) {
		d.Apply(b.Context(), tunnels.Diff([]tunnels.DeviceSpec{device}, peers(device.Name, n), nil))
		for b.Loop() {
			if state, err := d.Observe(b.Context()); err != nil || len(state[0].Peers) != n {
				b.Fatal(err)
			}
		}
	})
}

// reportMemory says what the process of a userspace device holds, whole and for each 1,000 peers.
func reportMemory(b *testing.B, device string, n int) {
	b.Helper()
	if _, err := os.Stat(dataplane.SocketPath(device)); err != nil {
		return // the kernel's engine has no process
	}
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", process(b, device).PID))
	if err != nil {
		b.Fatal(err)
	}
	_, after, _ := strings.Cut(string(text), "VmRSS:")
	kib, err := strconv.ParseFloat(strings.Fields(after)[0], 64)
	if err != nil {
		b.Fatal(err)
	}
	b.ReportMetric(kib/1024, "RSS-MiB")
	b.ReportMetric(kib/1024/float64(n)*1000, "RSS-MiB/1000peers")
}
