package server

import (
	"cmp"
	"hash/maphash"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"shekara/timesync/ntp"
)

const (
	shards    = 32          // of a table, each with a lock of its own
	kissEvery = 4           // seconds between two answers to an address that tell no time
	agreement = time.Second // between two offsets of a client that tells its time
)

// Client is what is known of an address that asked.
type Client struct {
	System   string     `json:"system,omitempty"` // "": of none that is registered
	Address  netip.Addr `json:"address"`
	LastSeen time.Time  `json:"lastSeen"`
	Served   uint64     `json:"served"`
	Limited  uint64     `json:"limited"` // it asked too often
	Refused  uint64     `json:"refused"` // not registered, or not authenticated as it must be
	// Offset is by how much its clock is ahead of ours, less the time that its request was on its way. It is known only of clients that tell their time: see the package's comment.
	Offset      time.Duration `json:"offset"`
	OffsetKnown bool          `json:"offsetKnown"`
	Version     uint8         `json:"version,omitempty"` // of its last request
	Interleaved bool          `json:"interleaved"`       // so was its last request, and so on
	NTS         bool          `json:"nts"`
	Key         uint32        `json:"key,omitempty"` // that its last request was authenticated by
}

// System is what all addresses of a registered system had together since the server began, those among them that the table forgot.
type System struct {
	Name     string    `json:"name"`
	LastSeen time.Time `json:"lastSeen,omitzero"`
	Served   uint64    `json:"served"`
	Limited  uint64    `json:"limited"`
	Refused  uint64    `json:"refused"`
	// Offset is by how much the clock of one of its addresses was ahead of ours (Client.Offset), by the last request that told, and OffsetAt is when that came. Zero: none ever told.
	Offset   time.Duration `json:"offset"`
	OffsetAt time.Time     `json:"offsetAt,omitzero"`
}

type tally struct {
	name                               string
	lastSeen, served, limited, refused atomic.Int64
	offset, offsetAt                   atomic.Int64 // nanoseconds; offsetAt is of offset or of the one before
}

// table knows addresses, so many at most.
type table struct {
	seed   maphash.Seed
	shards [shards]shard
}

// shard is a part of the table: entries, which are used again and not freed, and their order by when they were seen.
type shard struct {
	mutex          sync.Mutex
	most           int
	byAddress      map[[16]byte]uint32
	entries        []entry
	newest, oldest uint32 // or none
}

const none = ^uint32(0)

// entry is an address. It is some 120 bytes, as there may be 100,000.
type entry struct {
	address           [16]byte
	tally             *tally        // nil: a stranger's
	lastSeen          int64         // nanoseconds since 1970
	due               int64         // on the server's clock: when it would have used up what it may ask, going on at the permitted pace (GCRA)
	offset            int64         // nanoseconds, by its last request
	receive, transmit ntp.Timestamp // of its last answer
	served            uint64
	limited, refused  uint32
	key               uint32
	kissed            uint32 // seconds on the server's clock, from 1
	newer, older      uint32
	version           uint8
	flags             uint8
}

const (
	offsetKnown = 1 << iota // the last two agree
	interleaved
	overNTS
)

func newTable(most int) *table {
	t := &table{seed: maphash.MakeSeed()}
	for i := range t.shards {
		t.shards[i].most = max(most/shards, 1)
		t.shards[i].byAddress = map[[16]byte]uint32{}
		t.shards[i].newest, t.shards[i].oldest = none, none
	}
	return t
}

// enter finds an address, or gives it the place of the one that was not seen for longest. The entry is the caller's until it unlocks the shard.
func (t *table) enter(address netip.Addr) (*entry, *sync.Mutex) {
	key := address.As16()
	s := &t.shards[maphash.Bytes(t.seed, key[:])%shards]
	s.mutex.Lock()
	i, known := s.byAddress[key]
	switch {
	case known && i == s.newest:
		return &s.entries[i], &s.mutex
	case known:
		s.unlink(i)
	case len(s.entries) < s.most:
		i = uint32(len(s.entries))
		s.entries = append(s.entries, entry{address: key})
		s.byAddress[key] = i
	default:
		i = s.oldest
		s.unlink(i)
		delete(s.byAddress, s.entries[i].address)
		s.entries[i] = entry{address: key}
		s.byAddress[key] = i
	}
	s.link(i)
	return &s.entries[i], &s.mutex
}

// unlink takes an entry out of the order. The ends of the order may then be none.
func (s *shard) unlink(i uint32) {
	newer, older := s.entries[i].newer, s.entries[i].older
	if newer == none {
		s.newest = older
	} else {
		s.entries[newer].older = older
	}
	if older == none {
		s.oldest = newer
	} else {
		s.entries[older].newer = newer
	}
}

// link puts an entry at the new end of the order.
func (s *shard) link(i uint32) {
	s.entries[i].newer, s.entries[i].older = none, s.newest
	if s.newest == none {
		s.oldest = i
	} else {
		s.entries[s.newest].newer = i
	}
	s.newest = i
}

// left takes note of when the answer left that said receive, if it is the last that went to the address.
func (t *table) left(address [16]byte, receive, transmit ntp.Timestamp) {
	s := &t.shards[maphash.Bytes(t.seed, address[:])%shards]
	s.mutex.Lock()
	defer s.mutex.Unlock()
	if i, known := s.byAddress[address]; known && s.entries[i].receive == receive {
		s.entries[i].transmit = transmit
	}
}

// clients are all that the table knows.
func (t *table) clients() []Client {
	var all []Client
	for i := range t.shards {
		s := &t.shards[i]
		s.mutex.Lock()
		for j := range s.entries {
			all = append(all, s.entries[j].client())
		}
		s.mutex.Unlock()
	}
	return all
}

func (e *entry) client() Client {
	c := Client{
		Address:     netip.AddrFrom16(e.address).Unmap(),
		LastSeen:    time.Unix(0, e.lastSeen).UTC(),
		Served:      e.served,
		Limited:     uint64(e.limited),
		Refused:     uint64(e.refused),
		OffsetKnown: e.flags&offsetKnown != 0,
		Version:     e.version,
		Interleaved: e.flags&interleaved != 0,
		NTS:         e.flags&overNTS != 0,
		Key:         e.key,
	}
	if e.tally != nil {
		c.System = e.tally.name
	}
	if c.OffsetKnown {
		c.Offset = time.Duration(e.offset)
	}
	return c
}

// take says whether an address may ask once more at now (GCRA: it may be ahead of the permitted pace by burst).
func (e *entry) take(now int64, every time.Duration, burst int) bool {
	due := max(e.due, now)
	if due-now > int64(every)*int64(burst-1) {
		return false
	}
	e.due = due + int64(every)
	return true
}

// mayKiss says whether an address may be sent something that tells no time, and takes note that it is.
func (e *entry) mayKiss(now int64) bool {
	seconds := uint32(now/int64(time.Second)) + 1
	if e.kissed != 0 && seconds-e.kissed < kissEvery {
		return false
	}
	e.kissed = seconds
	return true
}

// ahead takes note of by how much the client's clock seems to be ahead. A random number never is twice within agreement of the same.
func (e *entry) ahead(offset time.Duration) {
	e.flags &^= offsetKnown
	if e.receive != 0 && (offset-time.Duration(e.offset)).Abs() < agreement {
		e.flags |= offsetKnown
		if e.tally != nil {
			e.tally.offset.Store(int64(offset))
			e.tally.offsetAt.Store(e.lastSeen)
		}
	}
	e.offset = int64(offset)
}

// Clients are the addresses that asked, registered or not, by system and address.
func (s *Server) Clients() []Client {
	all := append(s.clients.clients(), s.strangers.clients()...)
	slices.SortFunc(all, func(a, b Client) int { return cmp.Or(cmp.Compare(a.System, b.System), a.Address.Compare(b.Address)) })
	return all
}

// Systems are the registered systems of this and of earlier documents, by name.
func (s *Server) Systems() []System {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	all := make([]System, 0, len(s.systems))
	for _, t := range s.systems {
		one := System{Name: t.name, Served: uint64(t.served.Load()), Limited: uint64(t.limited.Load()), Refused: uint64(t.refused.Load())}
		if seen := t.lastSeen.Load(); seen != 0 {
			one.LastSeen = time.Unix(0, seen).UTC()
		}
		if told := t.offsetAt.Load(); told != 0 {
			one.Offset, one.OffsetAt = time.Duration(t.offset.Load()), time.Unix(0, told).UTC()
		}
		all = append(all, one)
	}
	slices.SortFunc(all, func(a, b System) int { return cmp.Compare(a.Name, b.Name) })
	return all
}
