package provisioning

import (
	"context"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"shekara/journal"
	"shekara/netctl/conntrack"
)

// counter is a kernel's table of connections that counts, and tells of their ends.
type counter struct {
	forgotten
	mu     sync.Mutex
	live   map[uint16]*conntrack.Account // by source port
	news   []*conntrack.Account          // that began, and that ended
	ends   []*conntrack.Account
	lost   bool // once
	losing bool // each time
	dumps  int  // of the table
}

func (c *counter) Each(_ context.Context, do func(*conntrack.Account) bool) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.dumps++
	for _, a := range c.live {
		if b := *a; !do(&b) {
			break
		}
	}
	return nil
}

func (c *counter) Heard(began, ended func(*conntrack.Account)) (bool, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, a := range c.news {
		began(a)
	}
	for _, a := range c.ends {
		ended(a)
	}
	lost := c.lost || c.losing
	c.news, c.ends, c.lost = nil, nil, false
	return lost, nil
}

// Delete is what a revocation does.
func (c *counter) Delete(_ context.Context, s conntrack.Selection) (conntrack.Cut, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for port, a := range c.live {
		for _, r := range s.Revoked {
			if r.Source.Contains(a.Source) && c.live[port] != nil {
				c.ends = append(c.ends, a)
				delete(c.live, port)
			}
		}
	}
	return conntrack.Cut{}, nil
}

// pass lets packets pass in a connection of an agency, and opens it if need be.
func (c *counter) pass(a agency, port uint16, packets uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.live == nil {
		c.live = map[uint16]*conntrack.Account{}
	}
	if c.live[port] == nil {
		c.live[port] = &conntrack.Account{Entry: conntrack.Entry{Source: netip.MustParsePrefix(a.prefixText()).Addr().Next(), Destination: netip.MustParseAddr("10.20.0.10"),
			Protocol: 6, SourcePort: port, DestinationPort: 443, Mark: 1}, ID: uint32(port), Counted: true, Began: time.Now()}
		begun := *c.live[port]
		begun.Began = time.Time{} // which the kernel does not tell then
		c.news = append(c.news, &begun)
	}
	c.live[port].Original.Packets += packets
	c.live[port].Original.Bytes += 100 * packets
	c.live[port].Reply.Packets += 2 * packets
	c.live[port].Reply.Bytes += 3000 * packets
}

// end ends a connection, and tells of it or not.
func (c *counter) end(port uint16, told bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if told {
		c.live[port].Ended = time.Now()
		c.ends = append(c.ends, c.live[port])
	}
	delete(c.live, port)
}

func (b *box) mustHaveCarried(a agency, connections int, opened, packets uint64) {
	b.t.Helper()
	report, err := b.Flows(b.t.Context(), FlowQuery{Match: func(name string) bool { return name == a.name()+"-https" }})
	if err != nil || len(report.Flows) != 1 {
		b.t.Fatalf("%+v, %v", report, err)
	}
	f := report.Flows[0]
	if f.Connections != connections || f.Opened != opened || f.PacketsTo != packets || f.BytesTo != 100*packets || f.PacketsBack != 2*packets || f.BytesBack != 3000*packets ||
		f.From != "agencies" || f.To != "gateway-dmz" || f.Tunnel != a.name() || (packets > 0) != (f.LastSeen != nil) {
		b.t.Errorf("%+v; want %d connections, %d opened, %d packets", f, connections, opened, packets)
	}
}

func whileCounting(t *testing.T, test func(b *box, table *counter)) {
	inBubble(t, func(t *testing.T, b *box) {
		table := &counter{}
		b.kill()
		b.connections, b.news = table, table
		b.run()
		test(b, table)
	})
}

func TestFlowsAreCounted(t *testing.T) {
	one, two := agency{n: 0}, agency{n: 1}
	whileCounting(t, func(b *box, table *counter) {
		b.mustHaveCarried(one, 0, 0, 0)
		table.pass(one, 1000, 5)
		table.pass(two, 1001, 7)
		b.wait(countEvery + endsEvery)
		b.mustHaveCarried(one, 1, 1, 5)
		b.mustHaveCarried(two, 1, 1, 7)
		// One that opens and ends between two looks, and one that goes on through a restart.
		table.pass(one, 1002, 3)
		table.end(1002, true)
		table.pass(two, 1001, 1)
		b.wait(endsEvery)
		b.mustHaveCarried(one, 1, 2, 8)
		b.kill()
		table.pass(two, 1001, 1)
		b.run()
		b.wait(endsEvery)
		b.mustHaveCarried(one, 1, 2, 8)
		b.mustHaveCarried(two, 1, 1, 9)
		// A change of documents: a new flow, one that goes, one that stays.
		table.pass(two, 1001, 1)
		three := agency{n: 2}
		r := request(site + two.yaml() + three.yaml())
		r.Whole = true
		b.mustApply(r)
		table.pass(three, 1003, 4)
		b.wait(2*countEvery + endsEvery)
		b.mustHaveCarried(two, 1, 1, 10)
		b.mustHaveCarried(three, 1, 1, 4)
		event := b.events.last(journal.FlowEnd)
		if event.Object != "flow/agency-0-https" || event.Fields["opened"] != "2" || event.Fields["bytesTo"] != "800" || event.Fields["packetsBack"] != "16" ||
			!strings.Contains(event.Message, "it carried 800 bytes to its target and 24000 back in 2 connections") {
			b.t.Errorf("%+v", event)
		}
		if n := b.events.count(journal.FlowMiss); n != 0 {
			b.t.Errorf("%d events say that something is missing", n)
		}
	})
}

// TestTotalsStayWhileTheyMayComeBack: a flow that an unconfirmed revision removes is there again, with its totals, when that is undone.
func TestTotalsStayWhileTheyMayComeBack(t *testing.T) {
	one := agency{n: 0}
	whileCounting(t, func(b *box, table *counter) {
		table.pass(one, 1000, 5)
		b.wait(countEvery + endsEvery)
		r := request(site + agency{n: 1}.yaml())
		r.Whole, r.ConfirmWithin = true, 5*time.Minute
		b.mustApply(r)
		b.wait(2 * countEvery)
		if _, err := b.Rollback(b.t.Context(), 0, journal.Actor{}); err != nil {
			b.t.Fatal(err)
		}
		b.wait(2 * countEvery)
		b.mustHaveCarried(one, 0, 1, 5)
		if n := b.events.count(journal.FlowEnd); n != 0 {
			b.t.Errorf("%d flows have ended", n)
		}
	})
}

func TestWhatIsMissingIsTold(t *testing.T) {
	one := agency{n: 0}
	whileCounting(t, func(b *box, table *counter) {
		table.pass(one, 1000, 5)
		table.pass(one, 1001, 5)
		b.wait(countEvery + endsEvery)
		b.kill()
		table.end(1000, false) // while no daemon ran
		b.run()
		b.wait(4 * time.Minute)
		b.mustHaveCarried(one, 1, 2, 10)
		event := b.events.last(journal.FlowMiss)
		if event.Fields["connections"] != "1" || b.events.count(journal.FlowMiss) != 1 || !strings.Contains(event.Message, "1 connections ended unheard") {
			b.t.Errorf("%+v", event)
		}
		// News that the kernel dropped are a gap on record at once, with its bounds, and all connections are looked at.
		table.pass(one, 1002, 5)
		b.wait(countEvery + endsEvery)
		table.mu.Lock()
		table.lost = true
		table.mu.Unlock()
		looks := b.ledger.Figures().Looked
		table.end(1002, false)
		before := time.Now()
		b.wait(2 * endsEvery)
		event = b.events.last(journal.FlowMiss)
		since, err := time.Parse(time.RFC3339, event.Fields["since"])
		until, err2 := time.Parse(time.RFC3339, event.Fields["until"])
		if err != nil || err2 != nil || b.events.count(journal.FlowMiss) != 2 || !strings.Contains(event.Message, "the kernel dropped news") ||
			since.After(before) || before.Sub(since) > endsEvery || until.Before(before) {
			b.t.Errorf("%+v", event)
		}
		b.wait(countRest)
		if !b.ledger.Figures().Looked.After(looks) {
			b.t.Error("after a loss nobody looked")
		}
		b.wait(4 * time.Minute)
		if event := b.events.last(journal.FlowMiss); b.events.count(journal.FlowMiss) != 3 || event.Fields["connections"] != "1" || event.Fields["since"] != "" {
			b.t.Errorf("%+v", event)
		}
		if report, err := b.Flows(b.t.Context(), FlowQuery{Limit: 1}); err != nil || report.Missed != 2 || report.Connections != 1 || report.Next != "agency-0-https" || report.Looked == nil {
			b.t.Errorf("%+v, %v", report, err)
		}
	})
}

// TestLossDoesNotMakeMoreLooks: to look at all connections takes the time that hearing lacks, so news that go on being lost have them looked at no more often than
// somebody who asks, and are on record all the same.
func TestLossDoesNotMakeMoreLooks(t *testing.T) {
	whileCounting(t, func(b *box, table *counter) {
		b.wait(countEvery + endsEvery)
		lose := func(losing bool) (dumps int) {
			table.mu.Lock()
			defer table.mu.Unlock()
			table.losing = losing
			return table.dumps
		}
		before := lose(true)
		b.wait(2 * endsEvery)
		if n := b.events.count(journal.FlowMiss); n != 1 {
			b.t.Errorf("%d events of a loss that has begun", n)
		}
		b.wait(10 * countRest)
		if looks := lose(false) - before; looks < 9 || looks > 11 {
			b.t.Errorf("%d looks in ten seconds of loss", looks)
		}
	})
}
