package journal

import (
	"sync/atomic"
	"testing"
)

// BenchmarkAppend: 64 producers with one event outstanding each. make bench AREA=journal has it beside others.
func BenchmarkAppend(b *testing.B) {
	var syncs atomic.Int64
	d := realDisk()
	create := d.create
	d.create = func(path string) (segment, error) {
		s, err := create(path)
		return counted{s, &syncs}, err
	}
	j, err := open(b.TempDir(), nil, segmentBytes, d)
	if err != nil {
		b.Fatal(err)
	}
	defer j.Close()
	e := Event{Type: ConnectionEnd, Severity: Info, Object: "tunnel/agency-a", Message: "connection of flow portal from 10.64.1.5 port 40000 to 10.20.0.10 port 443 ended after 12 s",
		Fields: map[string]string{"flow": "portal", "protocol": "tcp", "source": "10.64.1.5", "destination": "10.20.0.10", "destinationPort": "443", "bytesTo": "12345", "bytesBack": "543210"}}
	b.SetParallelism(32) // times two processors
	b.ReportAllocs()
	b.RunParallel(func(p *testing.PB) {
		for p.Next() {
			if _, err := j.Append(b.Context(), e); err != nil {
				b.Error(err)
			}
		}
	})
	b.ReportMetric(float64(b.N)/float64(syncs.Load()), "events/sync")
}

type counted struct {
	segment
	syncs *atomic.Int64
}

func (c counted) Sync() error {
	c.syncs.Add(1)
	return c.segment.Sync()
}
