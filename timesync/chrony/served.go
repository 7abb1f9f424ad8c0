package chrony

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/facebook/time/ntp/chrony"

	"shekara/timesync"
	"shekara/timesync/server"
)

const (
	countEvery  = 5 * time.Second
	mostClients = 1 << 17 // addresses; chronyd keeps some 4,000 unless told otherwise
)

// Served is whom chronyd served, counted on when it starts anew and when it forgets an address. The zero value is ready; anybody may ask.
type Served struct {
	mutex    sync.Mutex
	requests server.Counters // totals
	systems  map[string]*server.System
	last     chronyCounts // of the chronyd that runs
	clients  map[netip.Addr]chrony.ClientAccess
	seen     []server.Client // its table, at the last look
}

// chronyCounts are chronyd's counters, of whatever age it is.
type chronyCounts struct{ hits, drops, authenticated, interleaved uint64 }

// restart is another chronyd, which counts from zero.
func (s *Served) restart() {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	s.last, s.clients, s.seen = chronyCounts{}, nil, nil
}

// AddTo adds what was counted to what our own server counted.
func (s *Served) AddTo(requests *server.Counters, systems *[]server.System) {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	requests.Received += s.requests.Received
	requests.Served += s.requests.Served
	requests.Limited += s.requests.Limited
	requests.NTS += s.requests.NTS
	requests.Interleaved += s.requests.Interleaved
	for name, more := range s.systems {
		i := slices.IndexFunc(*systems, func(o server.System) bool { return o.Name == name })
		if i < 0 {
			*systems = append(*systems, *more)
			continue
		}
		one := &(*systems)[i]
		one.Served, one.Limited = one.Served+more.Served, one.Limited+more.Limited
		if more.LastSeen.After(one.LastSeen) {
			one.LastSeen = more.LastSeen
		}
	}
	slices.SortFunc(*systems, func(a, b server.System) int { return strings.Compare(a.Name, b.Name) })
}

// Clients are those that the chronyd that runs has in its table.
func (s *Served) Clients() []server.Client {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	return slices.Clone(s.seen)
}

// since is by how much a counter grew: one that is less than before began anew.
func since(is, was uint64) uint64 {
	if is < was {
		return is
	}
	return is - was
}

func (s *Served) add(spec *timesync.Spec, now time.Time, counts chronyCounts, clients []chrony.ClientAccess) {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	hits, drops := since(counts.hits, s.last.hits), since(counts.drops, s.last.drops)
	s.requests.Received += hits
	s.requests.Limited += drops
	s.requests.Served += hits - min(drops, hits)
	s.requests.NTS += since(counts.authenticated, s.last.authenticated)
	s.requests.Interleaved += since(counts.interleaved, s.last.interleaved)
	s.last = counts
	if s.systems == nil {
		s.systems = map[string]*server.System{}
	}
	for _, c := range spec.Clients {
		if s.systems[c.System] == nil {
			s.systems[c.System] = &server.System{Name: c.System}
		}
	}
	known := make(map[netip.Addr]chrony.ClientAccess, len(clients))
	s.seen = s.seen[:0:0]
	for _, c := range clients {
		address, ok := netip.AddrFromSlice(c.IPAddr.ToNetIP())
		if address = address.Unmap(); !ok || c.NTPHits == 0 {
			continue
		}
		system, _ := spec.SystemOf(address)
		seen := now.Add(-time.Duration(c.LastNTPHitAgo) * time.Second).UTC()
		known[address] = c
		s.seen = append(s.seen, server.Client{System: system, Address: address, LastSeen: seen, Served: uint64(c.NTPHits) - min(uint64(c.NTPDrops), uint64(c.NTPHits)), Limited: uint64(c.NTPDrops)})
		if one := s.systems[system]; one != nil {
			before := s.clients[address]
			hits, drops := since(uint64(c.NTPHits), uint64(before.NTPHits)), since(uint64(c.NTPDrops), uint64(before.NTPDrops))
			one.Limited += drops
			one.Served += hits - min(drops, hits)
			if seen.After(one.LastSeen) && hits > 0 {
				one.LastSeen = seen
			}
		}
	}
	s.clients = known
}

// count looks at whom chronyd serves until the context ends. That it does not answer is seen by who looks at the clock.
func (e *Engine) count(ctx context.Context) {
	tick := time.NewTicker(countEvery)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
		if counts, clients, err := e.ask(); err == nil {
			e.options.Served.add(&e.options.Spec, time.Now(), counts, clients)
		}
	}
}

func (e *Engine) ask() (counts chronyCounts, clients []chrony.ClientAccess, err error) {
	c, err := dial(e.running, &e.dialled)
	if err != nil {
		return counts, nil, err
	}
	defer c.close()
	got, err := c.client.Communicate(chrony.NewServerStatsPacket())
	if err != nil {
		return counts, nil, err
	}
	switch s := got.(type) {
	case *chrony.ReplyServerStats2: // chrony 4.0 and 4.1
		counts = chronyCounts{uint64(s.NTPHits), uint64(s.NTPDrops), uint64(s.NTPAuthHits), 0}
	case *chrony.ReplyServerStats3:
		counts = chronyCounts{uint64(s.NTPHits), uint64(s.NTPDrops), uint64(s.NTPAuthHits), uint64(s.NTPInterleavedHits)}
	case *chrony.ReplyServerStats4: // since chrony 4.4
		counts = chronyCounts{s.NTPHits, s.NTPDrops, s.NTPAuthHits, s.NTPInterleavedHits}
	default:
		return counts, nil, fmt.Errorf("chronyd answers %T when asked for its counters", got)
	}
	clients, err = clientsOf(c)
	return counts, clients, err
}

// clientsOf reads chronyd's table, which may change meanwhile.
func clientsOf(c *command) (all []chrony.ClientAccess, err error) {
	for index := uint32(0); index < mostClients; {
		page, err := ask[*chrony.ReplyClientAccessesByIndex](c, chrony.NewClientAccessesByIndexPacket(index, chrony.MaxClientAccessesByIndex, 1))
		if err != nil {
			return nil, fmt.Errorf("ask chronyd for its clients: %w", err)
		}
		all = append(all, page.Clients...)
		if page.NextIndex <= index || page.NextIndex >= page.NIndices {
			return all, nil
		}
		index = page.NextIndex
	}
	return nil, errors.New("chronyd's table of clients is larger than it can be")
}
