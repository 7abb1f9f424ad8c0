package provisioning

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"shekara/firewall"
	"shekara/journal"
	"shekara/netctl/nflog"
	"shekara/provisioning/compile"
	"shekara/provisioning/document"
)

// droppedBy is a filter that drops, and a kernel that tells of it.
type droppedBy struct {
	records chan nflog.Record
	lost    chan struct{}
	broken  chan error
	packets uint64
	engine  *Engine
}

func (d *droppedBy) Run(ctx context.Context, got func(nflog.Record), lost func()) error {
	for {
		select {
		case r := <-d.records:
			got(r)
		case <-d.lost:
			lost()
		case err := <-d.broken:
			return err
		case <-ctx.Done():
			return nil
		}
	}
}

func (d *droppedBy) Counters(context.Context) (map[string]firewall.Counter, error) {
	return map[string]firewall.Counter{"forward.no_flow": {Packets: d.packets}}, nil
}

// drop is one dropped and recorded packet to a port.
func (d *droppedBy) drop(port uint16) {
	d.packets++
	d.records <- nflog.Record{Prefix: "forward.no_flow", In: "sk-a", Out: "dmz0", Head: nflog.Head{Source: netip.MustParseAddr("10.64.1.5"), Destination: netip.MustParseAddr("10.20.0.10"),
		Protocol: 6, Length: 40, SourcePort: uint16(40000 + d.packets), DestinationPort: port, Transport: true}}
}

// recording runs what journals drops, within the test's own time.
func recording(t *testing.T, test func(d *droppedBy, e *events)) {
	synctest.Test(t, func(t *testing.T) {
		d := &droppedBy{records: make(chan nflog.Record), lost: make(chan struct{}), broken: make(chan error), packets: 1000}
		seen := newEvents(t)
		ctx, cancel := context.WithCancel(t.Context())
		defer synctest.Wait()
		defer cancel()
		d.engine = newEngine(Options{Drops: d, Counts: d, Journal: seen, Log: discard()}, nil)
		go d.engine.keepDropped(ctx)
		synctest.Wait()
		test(d, seen)
	})
}

func (e *events) of(kind journal.Type) (out []journal.Event) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, event := range e.list {
		if event.Type == kind {
			out = append(out, event)
		}
	}
	return out
}

func (e *events) suppressed() (out []string) {
	for _, event := range e.of(journal.PacketDrop) {
		if n := event.Fields["suppressed"]; n != "" {
			out = append(out, n)
		}
	}
	return out
}

func TestDroppedPacketIsRecorded(t *testing.T) {
	recording(t, func(d *droppedBy, seen *events) {
		d.drop(444)
		synctest.Wait()
		got := seen.of(journal.PacketDrop)
		if len(got) != 1 {
			t.Fatalf("%+v", got)
		}
		got[0].Sequence, got[0].Time = 0, time.Time{}
		want := journal.Event{Type: journal.PacketDrop, Severity: journal.Notice, Object: "rule/forward.no_flow",
			Message: "tcp/444 from 10.64.1.5 to 10.20.0.10, in sk-a, out dmz0, dropped: no flow lets it pass",
			Fields: map[string]string{"rule": "forward.no_flow", "reason": "no_flow", "in": "sk-a", "out": "dmz0", "source": "10.64.1.5", "destination": "10.20.0.10", "protocol": "tcp",
				"length": "40", "sourcePort": "41001", "destinationPort": "444"}}
		if diff := cmp.Diff(want, got[0]); diff != "" {
			t.Errorf("(- want, + got)\n%s", diff)
		}
		time.Sleep(2 * dropWindow)
		synctest.Wait()
		if got := seen.of(journal.PacketDrop); len(got) != 1 {
			t.Errorf("one packet, and yet %+v", got[1:])
		}
	})
}

// TestDropsAreBounded: a flood is a few events and a number that counts all of it, and what comes later is shown again.
func TestDropsAreBounded(t *testing.T) {
	recording(t, func(d *droppedBy, seen *events) {
		for range 300 {
			d.drop(444)
		}
		for port := range uint16(300) {
			d.drop(1000 + port)
		}
		d.packets += 49_400 // for which there were no records
		synctest.Wait()
		if n := len(seen.of(journal.PacketDrop)); n != dropsShown {
			t.Errorf("%d events of a flood, want %d", n, dropsShown)
		}
		time.Sleep(dropWindow + time.Second)
		synctest.Wait()
		if diff := cmp.Diff([]string{fmt.Sprint(50_000 - dropsShown)}, seen.suppressed()); diff != "" {
			t.Errorf("the rest (- want, + got)\n%s", diff)
		}
		d.drop(444)
		synctest.Wait()
		if n := len(seen.of(journal.PacketDrop)); n != dropsShown+2 {
			t.Errorf("%d events, want one more than %d", n, dropsShown+1)
		}
	})
}

// TestDropsAreShownBeforeTheEnd: what was not told when the daemon stops is told then.
func TestDropsAreShownBeforeTheEnd(t *testing.T) {
	seen := (*events)(nil)
	recording(t, func(d *droppedBy, e *events) {
		seen = e
		for range 3 {
			d.drop(444)
		}
		synctest.Wait()
	})
	if diff := cmp.Diff([]string{"2"}, seen.suppressed()); diff != "" {
		t.Errorf("(- want, + got)\n%s", diff)
	}
}

// TestLostRecords: that records were lost is on record, the first at once and all others once a minute.
func TestLostRecords(t *testing.T) {
	recording(t, func(d *droppedBy, seen *events) {
		told := func(want ...string) {
			t.Helper()
			synctest.Wait()
			var got []string
			for _, event := range seen.of(journal.PacketMiss) {
				got = append(got, event.Fields["kernel"])
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("times that records were lost, by event (- want, + got)\n%s", diff)
			}
		}
		d.lost <- struct{}{}
		told("1")
		for range 19 {
			d.lost <- struct{}{}
		}
		told("1")
		time.Sleep(dropWindow + time.Second)
		told("1", "19")
		d.lost <- struct{}{}
		told("1", "19")
	})
}

// TestRecordsAreReadAgain: that records cannot be read is on record once, and an alarm until they have been read for a while.
func TestRecordsAreReadAgain(t *testing.T) {
	recording(t, func(d *droppedBy, seen *events) {
		status := func() (told int, alarm string) {
			synctest.Wait()
			d.engine.mu.Lock()
			defer d.engine.mu.Unlock()
			return len(seen.of(journal.PacketMiss)), d.engine.deaf
		}
		began := time.Now()
		d.broken <- errors.New("the socket is gone")
		if told, alarm := status(); told != 1 || !strings.Contains(alarm, "the socket is gone") {
			t.Fatalf("%d events, alarm %q", told, alarm)
		}
		time.Sleep(dropsAgain)
		d.broken <- errors.New("it is still gone")
		if told, alarm := status(); told != 1 || !strings.Contains(alarm, "still gone") {
			t.Errorf("%d events, alarm %q", told, alarm)
		}
		time.Sleep(dropsAgain)
		d.drop(444)
		if told, alarm := status(); told != 1 || alarm == "" || len(seen.of(journal.PacketDrop)) != 1 {
			t.Errorf("%d events, alarm %q, drops %+v", told, alarm, seen.of(journal.PacketDrop))
		}
		time.Sleep(dropsAgain)
		told, alarm := status()
		if told != 2 || alarm != "" {
			t.Fatalf("%d events, alarm %q", told, alarm)
		}
		want := fieldsOf("since", began.UTC().Format(time.RFC3339Nano), "until", began.Add(2*dropsAgain).UTC().Format(time.RFC3339Nano))
		if diff := cmp.Diff(want, seen.of(journal.PacketMiss)[1].Fields); diff != "" {
			t.Errorf("(- want, + got)\n%s", diff)
		}
	})
}

// TestDropsNameSystems: those that have the addresses, but not where the device translates, and so the packet has other ones.
func TestDropsNameSystems(t *testing.T) {
	e := newEngine(Options{Journal: &events{}, Log: discard()}, nil)
	documents, problems := document.Decode([]document.File{{Name: "registers.yaml", Data: []byte(registers)}})
	if len(problems) > 0 {
		t.Fatal(problems)
	}
	e.documents, _ = e.documents.Merge(documents)
	e.intent.base.Devices = map[string]compile.Device{"sk-mapped": {Filter: firewall.Device{Translation: &firewall.Translation{}}}}
	at := netip.MustParseAddr
	for in, want := range map[string][]string{"sk-a": {"registry", "service"}, "sk-mapped": nil} {
		got := e.systemsOfDrop(nflog.Record{Prefix: "forward.no_flow", In: in, Out: "dmz0", Head: nflog.Head{Source: at("10.64.0.2"), Destination: at("10.20.0.10")}})
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", in, diff)
		}
	}
	if got := e.systemsOfDrop(nflog.Record{Prefix: "forward.no_flow"}); got != nil {
		t.Errorf("a packet without addresses is of %q", got)
	}
}

// TestDropsInWords: each kind of packet has words and fields that fit.
func TestDropsInWords(t *testing.T) {
	at := netip.MustParseAddr
	for _, c := range []struct {
		head nflog.Head
		want string
	}{
		{nflog.Head{Source: at("192.0.2.1"), Destination: at("192.0.2.2"), Protocol: 1, Type: 8, Transport: true}, "icmp type 8 from 192.0.2.1 to 192.0.2.2, in ext0, dropped: its source cannot come from there"},
		{nflog.Head{Source: at("2001:db8::1"), Destination: at("2001:db8::2"), Protocol: 17, Fragment: true}, "udp fragment from 2001:db8::1 to 2001:db8::2, in ext0, dropped: its source cannot come from there"},
		{nflog.Head{Source: at("192.0.2.1"), Destination: at("192.0.2.2"), Protocol: 47}, "protocol 47 from 192.0.2.1 to 192.0.2.2, in ext0, dropped: its source cannot come from there"},
		{nflog.Head{}, "a packet that is none of IP dropped"},
	} {
		event := dropEvent(nflog.Record{Prefix: "prerouting.spoofed", In: "ext0", Head: c.head})
		if event.Message != c.want || event.Severity != journal.Warning {
			t.Errorf("%s %q, want %q", event.Severity, event.Message, c.want)
		}
	}
}
