package provisioning

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"shekara/journal"
	"shekara/netctl"
	"shekara/netctl/nftables"
)

const (
	newsMost   = 256 // changes that are kept until a look has judged them
	namedMost  = 5   // authors and deeds that an event names of each kind
	byNobody   = "unknown: nothing was heard of it; it may be older than the daemon"
	byLost     = "unknown: the kernel dropped notifications"
	byUntold   = "unknown: the kernel does not tell who does this"
	ofFilter   = "filter"
	ofRouting  = "routing"
	ofTunnels  = "tunnels"
	ofSysctls  = "sysctls"
	notOursSay = "not ours, left as it is: "
)

// news is a change of the host that was heard of and that no look has judged yet.
type news struct {
	transaction *nftables.Transaction // or
	change      *netctl.Change
	early       bool // it was heard before the look began that is being judged, so that this look has seen what it did
	told        bool // an event has named it
}

func (n news) by() string {
	if n.transaction != nil {
		return n.transaction.By()
	}
	return n.change.By()
}

func (n news) did() string {
	if n.transaction == nil {
		return n.change.Text
	}
	var did []string
	for _, o := range n.transaction.Objects {
		if len(did) == namedMost {
			break
		}
		did = append(did, o.String())
	}
	text := strings.Join(did, ", ")
	if more := len(n.transaction.Objects) + n.transaction.More - len(did); more > 0 {
		text += fmt.Sprintf(" and %d more", more)
	}
	return text
}

// ours says whether it changed what is ours: of the filter, or a route or rule of the kernel's routing.
func (n news) ours() bool {
	if n.transaction != nil {
		return n.transaction.Touches(netctl.OwnFilter)
	}
	return n.change.Port != 0 && (strings.Contains(n.change.Text, " route ") || strings.Contains(n.change.Text, " rule "))
}

// hearing is what was heard of changes of the host.
type hearing struct {
	news []news
	more int
	lost int
}

// listen takes what the kernel has told up to now. begin says that a look begins.
func (e *Engine) listen(begin bool) {
	if e.options.Witness == nil {
		return
	}
	heard := e.options.Witness.Heard()
	e.mu.Lock()
	defer e.mu.Unlock()
	h := &e.hearing
	for i := range heard.Transactions {
		h.news = append(h.news, news{transaction: &heard.Transactions[i]})
	}
	for i := range heard.Changes {
		h.news = append(h.news, news{change: &heard.Changes[i]})
	}
	h.more, h.lost = h.more+heard.More, h.lost+heard.Lost
	if over := len(h.news) - newsMost; over > 0 {
		h.news, h.more = h.news[over:], h.more+over
	}
	if begin {
		for i := range h.news {
			h.news[i].early = true
		}
	}
}

// dropOwn leaves what others did. It is asked only while nothing of ours is under way: what we did is known when it is done.
func (e *Engine) dropOwn() {
	filter, can := e.options.Filter.(interface {
		Own(nftables.Transaction) bool
	})
	if !can {
		return
	}
	e.mu.Lock()
	heard := slices.Clone(e.hearing.news)
	e.mu.Unlock()
	own := map[*nftables.Transaction]bool{}
	for _, n := range heard {
		if n.transaction != nil && filter.Own(*n.transaction) {
			own[n.transaction] = true
		}
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	e.hearing.news = slices.DeleteFunc(e.hearing.news, func(n news) bool { return own[n.transaction] })
}

// blame names who did what concerns a kind of thing, and marks it as told. What was named before this look began was answered for then: what differs now is another's doing. Mu is held.
func (h *hearing) blame(concerns func(news) bool) (by, did []string) {
	for i, n := range h.news {
		if n.told && n.early || !concerns(n) {
			continue
		}
		h.news[i].told = true
		if name := n.by(); !slices.Contains(by, name) && len(by) < namedMost {
			by = append(by, name)
		}
		if len(did) < namedMost {
			did = append(did, n.did())
		}
	}
	if len(by) == 0 {
		by = []string{byNobody}
		if h.lost > 0 {
			by = []string{byLost}
		}
	}
	return by, did
}

// culprits are who made the host differ, a line for each kind of thing that does, and what they did.
type culprits struct{ lines, did []string }

func (c *culprits) add(kind string, by, did []string) {
	c.lines = append(c.lines, kind+": "+strings.Join(by, ", "))
	c.did = append(c.did, did...)
}

// whoChanged names who made the differences between the host and a program. The caller holds writing.
func (e *Engine) whoChanged(prog *program, filter []string) culprits {
	e.dropOwn()
	e.mu.Lock()
	defer e.mu.Unlock()
	var c culprits
	if len(filter) > 0 {
		by, did := e.hearing.blame(func(n news) bool {
			return n.transaction != nil && (n.ours() || slices.ContainsFunc(filter, n.made))
		})
		c.add(ofFilter, by, did)
	}
	if len(prog.routesGo)+len(prog.deadEndsGo)+len(prog.routesCome) > 0 {
		by, did := e.hearing.blame(func(n news) bool { return n.change != nil })
		c.add(ofRouting, by, did)
	}
	if len(prog.tunnels) > 0 {
		c.add(ofTunnels, []string{byUntold}, nil)
	}
	if len(prog.sysctls) > 0 {
		c.add(ofSysctls, []string{byUntold}, nil)
	}
	return c
}

// settleNews ends the judgement of a look: what it has seen is forgotten, and what others did to ours without leaving a trace is put on
// record, as are the gaps and what of others stands in the way. differs says whether the host differed.
func (e *Engine) settleNews(ctx context.Context, differs bool) {
	var events []journal.Event
	e.mu.Lock()
	h := &e.hearing
	events = append(events, e.othersChanged()...)
	var later []news
	for _, n := range h.news {
		switch {
		case !n.early:
			later = append(later, n)
		case !differs && !n.told && n.ours():
			if len(events) < namedMost {
				events = append(events, journal.Event{Type: journal.DriftPass, Severity: journal.Warning,
					Message: shorten("somebody changed what is ours, and it is as it should be all the same: " + n.did() + ", by " + n.by()),
					Fields:  fieldsOf("by", n.by(), "did", shorten(n.did()))})
			}
		}
	}
	if h.lost > 0 {
		e.strain[lostChanges].Add(uint64(h.lost))
		events = append(events, journal.Event{Type: journal.WatchGap, Severity: journal.Warning,
			Message: fmt.Sprintf("the kernel dropped notifications %d times, because too many came at once; the whole host was looked at", h.lost),
			Fields:  fieldsOf("times", fmt.Sprint(h.lost))})
	}
	*h = hearing{news: later}
	e.mu.Unlock()
	for _, event := range events {
		e.record(ctx, event)
	}
}

// othersChanged compares what of others stands before what is ours with what was told last. Mu is held.
func (e *Engine) othersChanged() []journal.Event {
	now := slices.Concat(e.world.shadowing, e.foreign)
	var events []journal.Event
	for _, line := range now {
		if slices.Contains(e.others, line) {
			continue
		}
		by, did := e.hearing.blame(func(n news) bool { return n.made(line) })
		events = append(events, journal.Event{Type: journal.ForeignFind, Severity: journal.Warning, Message: shorten(notOursSay + line),
			Fields: fieldsOf("what", shorten(line), "by", strings.Join(by, ", "), "did", shorten(strings.Join(did, "; ")))})
	}
	for _, line := range e.others {
		if !slices.Contains(now, line) {
			events = append(events, journal.Event{Type: journal.ForeignEnd, Severity: journal.Notice, Message: shorten("gone, or no longer in the way: " + line),
				Fields: fieldsOf("what", shorten(line))})
		}
	}
	e.others = now
	return events
}

// made says whether the news may be of what is said to differ or to stand in the way.
func (n news) made(line string) bool {
	if n.transaction != nil {
		return n.transaction.Touches(func(o nftables.Object) bool { return names(line, o) })
	}
	return strings.Contains(n.change.Text, strings.TrimPrefix(line, "route "))
}

// names says whether an engine's line is of the table of an object, "table inet x chain c: ...", or of its chain among those of iptables,
// "IPv4 table mangle chain FORWARD: ...", where many have theirs.
func names(line string, o nftables.Object) bool {
	for family, said := range map[string]string{"ip ": "IPv4 table ", "ip6 ": "IPv6 table "} {
		table, is := strings.CutPrefix(o.Table, family)
		if rest, same := strings.CutPrefix(line, said+table+" chain "+o.Name); is && same && strings.IndexAny(rest, ": ") == 0 {
			return true
		}
	}
	return strings.HasPrefix(line, "table "+o.Table+" ")
}

// lookForForeign asks whether others filter too, if somebody touched nftables since the last time. It is reported, never repaired.
func (e *Engine) lookForForeign(ctx context.Context, touched bool) {
	filter, can := e.options.Filter.(interface {
		Foreign(context.Context) ([]string, error)
	})
	if !can || !touched {
		return
	}
	found, err := filter.Foreign(ctx)
	if err != nil {
		e.options.Log.Warn("look for filters of others", "error", err)
		return
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	e.foreign = found
}
