package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/mod/sumdb/note"

	"shekara/journal"
)

const (
	producers   = 64  // with one event outstanding each
	recordBytes = 400 // of what the peers get; ours has as many or more
)

// record is an event of some 400 bytes, as a connection's end is.
func record() journal.Event {
	return journal.Event{
		Type: journal.ConnectionEnd, Severity: journal.Info, Object: "tunnel/agency-a",
		Message: "tcp/443 from 10.64.1.5 to 10.20.0.10 ended: 12345 bytes there, 543210 back in 12.004s",
		Fields: map[string]string{"flow": "portal", "protocol": "tcp", "source": "10.64.1.5", "sourcePort": "40000", "destination": "10.20.0.10", "destinationPort": "443",
			"packetsTo": "47", "bytesTo": "12345", "packetsBack": "402", "bytesBack": "543210", "began": "2026-11-26T04:22:05Z", "seconds": "12.004"},
	}
}

// journalFolder is a new one beside the results: on a disk, which a folder for temporary files may not be.
func (b *bench) journalFolder() (dir string, remove func(), err error) {
	out, err := filepath.Abs(b.out)
	if err != nil {
		return "", nil, err
	}
	dir, err = os.MkdirTemp(out, ".journal-")
	return dir, func() { _ = os.RemoveAll(dir) }, err
}

func openJournal(dir string) (*journal.Journal, note.Verifier, error) {
	key, err := journal.NewKey("journal/bench", [32]byte{1})
	if err != nil {
		return nil, nil, err
	}
	verifier, err := note.NewVerifier(key.Public)
	if err != nil {
		return nil, nil, err
	}
	j, err := journal.Open(dir, key)
	return j, verifier, err
}

// newJournal is one in a folder that is new too, with room beside it for what it is compared with.
func (b *bench) newJournal() (j *journal.Journal, dir string, end func(), err error) {
	dir, remove, err := b.journalFolder()
	if err != nil {
		return nil, "", nil, err
	}
	if j, _, err = openJournal(filepath.Join(dir, "ours")); err != nil {
		remove()
		return nil, "", nil, err
	}
	return j, dir, func() { _ = j.Close(); remove() }, nil
}

// burst has so many do something over and over for a while, and says how often a second it was done.
func burst(ctx context.Context, many int, during time.Duration, do func(worker int) error) (float64, error) {
	var all sync.WaitGroup
	var mu sync.Mutex
	var failed error
	done := 0
	began := time.Now()
	for worker := range many {
		all.Go(func() {
			n := 0
			var err error
			for err == nil && ctx.Err() == nil && time.Since(began) < during {
				if err = do(worker); err == nil {
					n++
				}
			}
			mu.Lock()
			defer mu.Unlock()
			done, failed = done+n, errors.Join(failed, err)
		})
	}
	all.Wait()
	return float64(done) / time.Since(began).Seconds(), errors.Join(failed, ctx.Err())
}

// syncs are how long the disk takes to write so many bytes behind others and make them last, in seconds.
func syncs(dir string, bytes, times int) ([]float64, error) {
	file, err := os.OpenFile(filepath.Join(dir, "probe"), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return nil, err
	}
	defer os.Remove(file.Name())
	defer file.Close()
	block := []byte(strings.Repeat("x", bytes))
	var took []float64
	for range times {
		began := time.Now()
		if _, err := file.Write(block); err != nil {
			return nil, err
		}
		if err := fdatasync(file); err != nil {
			return nil, err
		}
		took = append(took, time.Since(began).Seconds())
	}
	return took, nil
}

func percentile(values []float64, p float64) float64 {
	sorted := slices.Sorted(slices.Values(values))
	return sorted[min(len(sorted)-1, int(p*float64(len(sorted))))]
}

// append measures how many events a second are on disk and acknowledged, beside NATS JetStream that syncs always, in turns, and what the disk allows.
func (b *bench) append(ctx context.Context) ([]row, error) {
	j, dir, end, err := b.newJournal()
	if err != nil {
		return nil, err
	}
	defer end()
	e := record()
	peer, err := b.jetStream(ctx, dir)
	if err != nil {
		return nil, err
	}
	defer peer.stop()
	synced, err := b.syncedLog(ctx, dir)
	if err != nil {
		return nil, err
	}
	defer synced.stop()
	payload := []byte(strings.Repeat("x", recordBytes))
	var ours, theirs, logs, disk []float64
	const during = 3 * time.Second
	for range b.runs {
		n, err := burst(ctx, producers, during, func(int) error { _, err := j.Append(ctx, e); return err })
		if err != nil {
			return nil, err
		}
		ours = append(ours, n)
		if n, err = burst(ctx, producers, during, func(int) error { return peer.publish(ctx, payload) }); err != nil {
			return nil, err
		}
		theirs = append(theirs, n)
		if n, err = synced.rate(ctx, payload, during); err != nil {
			return nil, err
		}
		logs = append(logs, n)
		took, err := syncs(dir, producers*recordBytes, 200)
		if err != nil {
			return nil, err
		}
		disk = append(disk, producers/median(took))
	}
	durable := newRow("durable, acknowledged events", producers, "1/s", ours).against("JetStream, sync always", theirs)
	enough := durable.Ours >= 100_000
	return []row{
		durable.should(">= 100,000/s", enough),
		newRow("the same", producers, "1/s", ours).against("JetStream, sync always", theirs).should("ratio >= 3", durable.Ratio >= 3),
		newRow("the same, beside what this disk allows", producers, "1/s", ours).against("64 records a fdatasync", disk),
		newRow("the same, beside a log that is synced and not acknowledged", producers, "1/s", ours).against("rsyslog, omfile sync on", logs),
	}, nil
}

// latency measures how long an event takes to disk while 10,000 a second come, beside the disk's own time for as many bytes.
func (b *bench) latency(ctx context.Context) ([]row, error) {
	j, dir, end, err := b.newJournal()
	if err != nil {
		return nil, err
	}
	defer end()
	const rate, tick = 10_000, 5 * time.Millisecond
	e := record()
	var ours, disk []float64
	for range b.runs {
		var mu sync.Mutex
		var all sync.WaitGroup
		var took []float64
		var failed error
		ticker := time.NewTicker(tick)
		for range 400 {
			<-ticker.C
			for range rate * int(tick) / int(time.Second) {
				began := time.Now()
				all.Go(func() {
					_, err := j.Append(ctx, e)
					mu.Lock()
					defer mu.Unlock()
					took, failed = append(took, time.Since(began).Seconds()), errors.Join(failed, err)
				})
			}
		}
		ticker.Stop()
		all.Wait()
		if failed != nil {
			return nil, failed
		}
		ours = append(ours, percentile(took, 0.99)*1000)
		probe, err := syncs(dir, rate*int(tick)/int(time.Second)*recordBytes, 400)
		if err != nil {
			return nil, err
		}
		disk = append(disk, percentile(probe, 0.99)*1000)
	}
	r := newRow("event to disk at 10,000 a second, 99th percentile", rate, "ms", ours).against("fdatasync of the same bytes, 99th percentile", disk)
	return []row{r.should("ratio <= 3", r.Ratio <= 3)}, nil
}

// whole measures what is done with a journal of a gibibyte: to verify it, to open it after a crash, to find a few records in it.
func (b *bench) whole(ctx context.Context) ([]row, error) {
	dir, remove, err := b.journalFolder()
	if err != nil {
		return nil, err
	}
	defer remove()
	j, key, err := openJournal(dir)
	if err != nil {
		return nil, err
	}
	const many = 4000 // outstanding: the disk syncs seldom
	e := record()
	rare, half := e, false
	rare.Object = "tunnel/agency-b"
	for size := int64(0); size < 1<<30 && ctx.Err() == nil; {
		if _, err := burst(ctx, many, 3*time.Second, func(int) error { _, err := j.Append(ctx, e); return err }); err != nil {
			return nil, err
		}
		if size, err = folderBytes(dir); err != nil {
			return nil, err
		}
		if !half && size > 1<<29 {
			half = true
			if _, err := j.Append(ctx, rare); err != nil {
				return nil, err
			}
		}
	}
	records := j.Last()
	if err := j.Close(); err != nil {
		return nil, err
	}
	size, err := folderBytes(dir)
	if err != nil {
		return nil, err
	}
	var verify, open, query []float64
	for range b.runs {
		began := time.Now()
		found, err := journal.Verify(ctx, dir, note.VerifierList(key), nil)
		if err != nil || !found.Whole() || found.Last < records {
			return nil, fmt.Errorf("verification of our own journal: %+v, %w", found, err)
		}
		verify = append(verify, float64(found.Last)/time.Since(began).Seconds())
		if err := tear(dir); err != nil {
			return nil, err
		}
		began = time.Now()
		j, err := journal.Open(dir, nil)
		if err != nil {
			return nil, err
		}
		open = append(open, time.Since(began).Seconds())
		chosen := 0
		for again := range 2 { // the first makes the indexes, as the daemon does when it closes a file
			began, chosen = time.Now(), 0
			for after := uint64(0); after < j.Last(); {
				events, looked, err := j.Query(ctx, after, journal.MaxRead, journal.Filter{Object: rare.Object})
				if err != nil {
					return nil, errors.Join(err, j.Close())
				}
				after, chosen = looked, chosen+len(events)
			}
			if again == 1 {
				query = append(query, time.Since(began).Seconds())
			}
		}
		if err := j.Close(); err != nil || chosen != 1 {
			return nil, fmt.Errorf("found %d records, want 1: %w", chosen, err)
		}
	}
	n := int(records)
	checked, opened, found := newRow("verify", n, "1/s", verify), newRow("open a journal of 1 GiB after a crash", n, "s", open), newRow("find one record of one tunnel in 1 GiB", n, "s", query)
	return []row{
		checked.should(">= 300,000/s", checked.Ours >= 300_000),
		opened.should("<= 10 s", opened.Ours <= 10),
		found.should("<= 1 s", found.Ours <= 1),
		newRow("bytes a record, tree and signatures included", n, "B", []float64{float64(size) / float64(records)}),
	}, nil
}

func folderBytes(dir string) (total int64, err error) {
	entries, err := os.ReadDir(dir)
	for _, entry := range entries {
		info, e := entry.Info()
		if err = errors.Join(err, e); e == nil {
			total += info.Size()
		}
	}
	return total, err
}

// tear leaves half a record at the end, as a power cut does.
func tear(dir string) error {
	names, err := filepath.Glob(filepath.Join(dir, "*.jsonl"))
	if err != nil || len(names) == 0 {
		return fmt.Errorf("no files in %s: %w", dir, err)
	}
	file, err := os.OpenFile(slices.Max(names), os.O_WRONLY|os.O_APPEND, 0)
	if err != nil {
		return err
	}
	_, err = file.WriteString(`{"sequence":1,"time":"2026-`)
	return errors.Join(err, file.Close())
}
