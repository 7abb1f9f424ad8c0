package accounting

import (
	"encoding/binary"
	"net/netip"
	"runtime"
	"testing"

	"shekara/netctl/conntrack"
)

// BenchmarkLook is 100,000 connections of 10,000 flows that all carried something since the look before, and the write that follows.
func BenchmarkLook(b *testing.B) {
	const many = 100_000
	dir := b.TempDir()
	l, store, err := Open(dir, dir, "boot", MaxConnections)
	if err != nil {
		b.Fatal(err)
	}
	names := make([]string, 10_000)
	for i := range names {
		names[i], _ = byPort(counted(0, uint16(i+1), 0, 0))
	}
	l.Attribute(func(a *conntrack.Account) (string, bool) { return names[int(a.ID)%len(names)], true })
	a := conntrack.Account{Entry: conntrack.Entry{Destination: netip.MustParseAddr("198.51.100.1"), Protocol: 6, DestinationPort: 443, Mark: 1}, Counted: true}
	look := func() {
		l.Begin()
		for i := range uint32(many) {
			var address [4]byte
			binary.BigEndian.PutUint32(address[:], 0x0a400000|i)
			a.Source, a.ID, a.SourcePort = netip.AddrFrom4(address), i, uint16(i)
			l.Seen(&a)
		}
		l.Look()
	}
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	look()
	runtime.GC()
	runtime.ReadMemStats(&after)
	b.Run("look", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			a.Original.Packets++
			a.Original.Bytes += 1000
			look()
		}
		b.ReportMetric(float64(after.HeapAlloc-before.HeapAlloc)/many, "bytes/connection")
	})
	b.Run("save", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if err := store.SaveLiving(l); err != nil {
				b.Fatal(err)
			}
		}
		b.ReportMetric(float64(len(store.buffer))/many, "bytes/connection")
	})
	if f := l.Figures(); f.Connections != many {
		b.Fatalf("%+v", f)
	}
}
