package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"sync/atomic"
	"time"

	"shekara/journal"
)

// traffic is an event as the border's are: connections of twenty tunnels begin and end, and packets are dropped. Ports, times and counts are as random as those of real ones.
func traffic(r *rand.Rand) journal.Event {
	number := func(n float64) string { return strconv.Itoa(int(n)) }
	if r.IntN(5) == 0 {
		from, port := fmt.Sprintf("198.18.%d.%d", r.IntN(256), r.IntN(256)), strconv.Itoa(r.IntN(1<<16))
		return journal.Event{Type: journal.PacketDrop, Severity: journal.Notice, Object: "rule/input.default", Message: fmt.Sprintf("tcp/%s from %s to 203.0.113.10, in ext0, dropped: no flow lets it pass", port, from),
			Fields: map[string]string{"rule": "input.default", "reason": "no-flow", "in": "ext0", "source": from, "destination": "203.0.113.10", "protocol": "tcp", "length": "60",
				"sourcePort": strconv.Itoa(r.IntN(1 << 16)), "destinationPort": port}}
	}
	tunnel := r.IntN(20)
	agency := fmt.Sprintf("agency-%c", 'a'+tunnel)
	from, to := fmt.Sprintf("10.64.%d.%d", tunnel, 1+r.IntN(14)), fmt.Sprintf("10.20.0.%d", 10+tunnel%4)
	lived := time.Duration(r.ExpFloat64() * float64(20*time.Second))
	e := journal.Event{Type: journal.ConnectionStart, Severity: journal.Info, Object: "tunnel/" + agency, Organisation: agency, Message: fmt.Sprintf("tcp/443 from %s to %s began", from, to),
		Fields: map[string]string{"flow": agency + "-https", "protocol": "tcp", "source": from, "destination": to, "sourcePort": strconv.Itoa(32768 + r.IntN(28232)), "destinationPort": "443",
			"began": time.Now().Add(-lived).UTC().Format(time.RFC3339Nano)}}
	if r.IntN(2) == 0 {
		return e
	}
	out, back := 300*(1+r.ExpFloat64()*10), 800*(1+r.ExpFloat64()*30)
	e.Type, e.Message = journal.ConnectionEnd, fmt.Sprintf("tcp/443 from %s to %s ended: %s bytes there, %s back in %s", from, to, number(out), number(back), lived.Round(time.Millisecond))
	e.Fields["bytesTo"], e.Fields["packetsTo"], e.Fields["bytesBack"], e.Fields["packetsBack"] = number(out), number(3+out/400), number(back), number(3+back/1200)
	e.Fields["seconds"] = strconv.FormatFloat(lived.Seconds(), 'f', 3, 64)
	return e
}

// cold measures what a record takes in a file that is compressed, of the first that such traffic fills.
func (b *bench) cold(ctx context.Context) ([]row, error) {
	j, dir, end, err := b.newJournal()
	if err != nil {
		return nil, err
	}
	defer end()
	var names []string
	var seed atomic.Uint64
	for ctx.Err() == nil && len(names) < 2 {
		_, err := burst(ctx, 1000, time.Second, func(worker int) error {
			_, err := j.Append(ctx, traffic(rand.New(rand.NewPCG(uint64(worker), seed.Add(1)))))
			return err
		})
		if err != nil {
			return nil, err
		}
		if names, err = filepath.Glob(filepath.Join(dir, "ours", "*.jsonl")); err != nil {
			return nil, err
		}
	}
	if ctx.Err() != nil {
		return nil, ctx.Err()
	}
	slices.Sort(names)
	hot, err := os.ReadFile(names[0])
	if err != nil {
		return nil, err
	}
	var records uint64
	if _, err := fmt.Sscanf(filepath.Base(names[1]), "%020d.jsonl", &records); err != nil {
		return nil, err
	}
	records--
	frozen, err := journal.Freeze(1, hot)
	if err != nil {
		return nil, err
	}
	n := int(records)
	size := newRow("bytes a record of traffic, compressed, tree and signatures included", n, "B", []float64{float64(len(frozen)) / float64(n)})
	return []row{
		newRow("bytes a record of traffic, before", n, "B", []float64{float64(len(hot)) / float64(n)}),
		size.should("<= 60 B", size.Ours <= 60),
	}, nil
}
