package accounting

import (
	"cmp"
	"maps"
	"slices"
	"sync"
	"time"

	"shekara/netctl/conntrack"
)

const (
	// MaxConnections are kept at a time: some 90 bytes each. What those beyond it carry is counted when they end.
	MaxConnections = 250_000
	// patience is how long a connection may stay unseen before its end counts as missed. The kernel's dump leaves out what has timed out,
	// and tells of its end when it comes by (at least once a minute: GC_SCAN_INTERVAL_MAX of nf_conntrack_core.c).
	patience = 3 * time.Minute
	// again is how long an end is remembered: a dump may show the connection once more before the kernel takes it out, and the kernel tells
	// all listeners of the end again if one that asked for it had no room. Nothing times out so fast that another has its place.
	again = 2 * time.Second
	// maxRecent ends are remembered for that.
	maxRecent = 1 << 13
)

// Totals are what passed in one flow.
type Totals struct {
	To, Back conntrack.Counter // in the direction of the opening, and answers
	Opened   uint64            // connections
	Since    time.Time         // from when on it is counted
	Noticed  time.Time         // when a packet was noticed last, which came since the look before; zero: never
}

// Flow is a flow's totals and what lives of it.
type Flow struct {
	Name string
	Totals
	Connections int // at the last look
}

// Figures are about all flows.
type Figures struct {
	Looked       time.Time // when all connections were looked at last; zero: not yet
	Connections  int       // that are kept
	Uncounted    int       // that lived at the last look and are not counted yet, for want of room, or never, as they are older than the accounting
	Missed       uint64    // whose end was not told: what they carried since they were seen last is not known
	Unattributed uint64    // that ended, and no flow is known for
}

// Attribute names the flow that lets a connection be opened.
type Attribute func(*conntrack.Account) (flow string, found bool)

// Ledger keeps the totals. It is safe for concurrent use, but a look is made by one goroutine.
type Ledger struct {
	most  int // connections that are kept
	start time.Time

	mu     sync.Mutex // guards what follows
	flows  []*account
	names  map[string]uint32 // places in flows
	free   []uint32          // those that nobody has
	live   map[uint64]connection
	recent recent
	// attribute names the flow of a connection; before did until the flows changed last, and still does for what ends.
	attribute, before Attribute
	moved             bool   // attribute is new: the next look asks it about every connection
	moving            bool   // that look is under way
	baseline          bool   // the totals have what live connections carried, but not of which: the first look only learns that
	began             uint32 // the last look, in seconds from start
	uncounted         int    // in it
	figures           Figures
	ends              []byte // those that are not in the file of what lives yet; see appendEnd
	keepEnds          bool
	version           uint64 // of what files would have
}

// account is a flow in the ledger.
type account struct {
	Flow
	held int // connections that are kept
}

// connection is what was counted of one. It has no pointers, so that the garbage collector passes over all of them.
type connection struct {
	to, back conntrack.Counter
	flow     uint32
	seen     uint32 // in which look, as began
}

// NewLedger makes an empty one. Most is how many connections are kept at a time.
func NewLedger(most int) *Ledger {
	none := func(*conntrack.Account) (string, bool) { return "", false }
	return &Ledger{most: most, start: time.Now(), names: map[string]uint32{}, live: map[uint64]connection{}, recent: newRecent(), attribute: none, before: none}
}

// Attribute sets who names flows from now on: the flows have changed. What was counted of a connection stays where it is; from the next
// look on what it carries is another flow's, if it is.
func (l *Ledger) Attribute(by Attribute) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.before, l.attribute, l.moved = l.attribute, by, true
}

// Begin begins a look at all connections.
func (l *Ledger) Begin() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.began = uint32(time.Since(l.start) / time.Second)
	l.uncounted = 0
	l.moving, l.moved = l.moving || l.moved, false
}

// Seen takes a connection that lives.
func (l *Ledger) Seen(a *conntrack.Account) {
	if a.Mark == 0 { // no flow let it in
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if !a.Counted {
		l.uncounted++
		return
	}
	key := a.Key()
	if end, ended := l.recent.find(key); ended && !a.Original.Less(end.to) && !a.Reply.Less(end.back) {
		return // or another in its place that has carried as much: the next look has it
	}
	c, known := l.find(key, a.Original, a.Reply)
	if !known {
		name, found := l.attribute(a)
		if !found {
			return
		}
		if len(l.live) >= l.most {
			l.uncounted++
			return
		}
		c = l.open(name)
		if l.baseline {
			c.to, c.back = a.Original, a.Reply
		} else {
			l.flows[c.flow].Opened++
		}
	}
	l.gain(&c, a.Original, a.Reply)
	if known && l.moving {
		if name, found := l.attribute(a); found && name != l.flows[c.flow].Name {
			l.flows[c.flow].held--
			c.flow = l.open(name).flow
		}
	}
	c.seen = l.began
	l.live[key] = c
}

// find is a connection as it was met last. One of which more was counted than now is another, whose end was not told.
func (l *Ledger) find(key uint64, to, back conntrack.Counter) (c connection, known bool) {
	if c, known = l.live[key]; known && (to.Less(c.to) || back.Less(c.back)) {
		l.miss(key, c)
		return connection{}, false
	}
	return c, known
}

// gain adds what came since to the connection's flow.
func (l *Ledger) gain(c *connection, to, back conntrack.Counter) {
	more, moreBack := to.Minus(c.to), back.Minus(c.back)
	if more.Packets+moreBack.Packets > 0 {
		t := &l.flows[c.flow].Totals
		t.To, t.Back, t.Noticed = t.To.Plus(more), t.Back.Plus(moreBack), time.Now()
		l.version++
	}
	c.to, c.back = to, back
}

// open begins a connection of a flow.
func (l *Ledger) open(name string) connection {
	i := l.flow(name)
	l.flows[i].held++
	l.version++
	return connection{flow: i}
}

// flow finds the place of a flow, or makes one.
func (l *Ledger) flow(name string) uint32 {
	if i, known := l.names[name]; known {
		return i
	}
	made := &account{Flow: Flow{Name: name, Totals: Totals{Since: time.Now()}}}
	i := uint32(len(l.flows))
	if last := len(l.free) - 1; last >= 0 {
		i, l.free = l.free[last], l.free[:last]
		l.flows[i] = made
	} else {
		l.flows = append(l.flows, made)
	}
	l.names[name] = i
	return i
}

// Ended takes a connection that has ended, with its last figures, and names its flow. found is false if none is known for it, or if it was told before.
func (l *Ledger) Ended(a *conntrack.Account) (flow string, found bool) {
	if a.Mark == 0 || !a.Counted {
		return "", false
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	key := a.Key()
	if end, told := l.recent.find(key); told && end.to == a.Original && end.back == a.Reply {
		return "", false
	}
	l.recent.put(key, a.Original, a.Reply)
	name := ""
	if _, known := l.find(key, a.Original, a.Reply); !known {
		if name, found = l.attribute(a); !found {
			name, found = l.before(a)
		}
		if !found {
			l.figures.Unattributed++
			return "", false
		}
	}
	return l.end(end{key, name, a.Original, a.Reply}), true
}

// end is a connection that has ended.
type end struct {
	key      uint64
	flow     string // "": that of the connection as it is kept
	to, back conntrack.Counter
}

// end adds a connection's last figures to its flow, and names that.
func (l *Ledger) end(e end) (flow string) {
	c, known := l.find(e.key, e.to, e.back)
	if !known {
		c = l.open(e.flow)
		l.flows[c.flow].Opened++
	}
	l.gain(&c, e.to, e.back)
	f := l.flows[c.flow]
	f.held--
	delete(l.live, e.key)
	l.version++
	if l.keepEnds {
		e.flow = f.Name
		l.ends = appendEnd(l.ends, e)
	}
	return f.Name
}

// miss lets a connection go whose end was not told.
func (l *Ledger) miss(key uint64, c connection) {
	l.flows[c.flow].held--
	delete(l.live, key)
	l.figures.Missed++
	l.version++
}

// Look ends a look that saw all.
func (l *Ledger) Look() {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, f := range l.flows {
		if f != nil {
			f.Connections = 0
		}
	}
	for key, c := range l.live {
		switch {
		case c.seen == l.began:
			l.flows[c.flow].Connections++
		case time.Duration(l.began-c.seen)*time.Second > patience:
			l.miss(key, c)
		}
	}
	l.figures.Looked, l.figures.Uncounted = time.Now(), l.uncounted
	l.moving, l.baseline = false, false
}

// Retire lets the totals of flows go that are declared no more and of which no connection is kept, and answers them by name.
func (l *Ledger) Retire(declared func(name string) bool) []Flow {
	l.mu.Lock()
	defer l.mu.Unlock()
	var gone []Flow
	for name, i := range l.names {
		if l.flows[i].held > 0 || declared(name) {
			continue
		}
		gone = append(gone, l.flows[i].Flow)
		delete(l.names, name)
		l.flows[i], l.free = nil, append(l.free, i)
		l.version++
	}
	slices.SortFunc(gone, func(a, b Flow) int { return cmp.Compare(a.Name, b.Name) })
	return gone
}

// Flow is one flow; zero but for its name, if nothing is known of it.
func (l *Ledger) Flow(name string) Flow {
	l.mu.Lock()
	defer l.mu.Unlock()
	if i, known := l.names[name]; known {
		return l.flows[i].Flow
	}
	return Flow{Name: name}
}

// Names are those of all flows that something is known of, sorted.
func (l *Ledger) Names() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Sorted(maps.Keys(l.names))
}

// Figures are about all flows, now.
func (l *Ledger) Figures() Figures {
	l.mu.Lock()
	defer l.mu.Unlock()
	f := l.figures
	f.Connections = len(l.live)
	return f
}

// recent is the ends of the last moments, the newest maxRecent of them.
type recent struct {
	by   map[uint64]recentEnd
	keys []uint64 // a ring, the oldest at next
	next int
}

type recentEnd struct {
	to, back conntrack.Counter
	at       time.Time
}

func newRecent() recent { return recent{by: map[uint64]recentEnd{}} }

func (r *recent) put(key uint64, to, back conntrack.Counter) {
	if _, there := r.by[key]; !there {
		if len(r.keys) < maxRecent {
			r.keys = append(r.keys, key)
		} else {
			delete(r.by, r.keys[r.next])
			r.keys[r.next] = key
			r.next = (r.next + 1) % maxRecent
		}
	}
	r.by[key] = recentEnd{to, back, time.Now()}
}

func (r *recent) find(key uint64) (e recentEnd, found bool) {
	e, found = r.by[key]
	return e, found && time.Since(e.at) < again
}
