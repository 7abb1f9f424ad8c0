package swarm

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"
)

// Swarm is test peers by name. Its methods may be called from any goroutine.
type Swarm struct {
	mu    sync.Mutex
	peers map[string]*peer
}

// New is a swarm of none.
func New() *Swarm { return &Swarm{peers: map[string]*peer{}} }

// Add starts a peer. It speaks only when a stream, a keepalive or a breakage makes it.
func (s *Swarm) Add(config Config) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, there := s.peers[config.Name]; there {
		return fmt.Errorf("peer %q is there already", config.Name)
	}
	p, err := newPeer(config)
	if err != nil {
		return err
	}
	s.peers[config.Name] = p
	return nil
}

// Remove ends a peer.
func (s *Swarm) Remove(name string) error {
	p, err := s.peer(name)
	if err != nil {
		return err
	}
	s.mu.Lock()
	delete(s.peers, name)
	s.mu.Unlock()
	p.close()
	return nil
}

// Close ends all peers and returns when nothing of them runs.
func (s *Swarm) Close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for name, p := range s.peers {
		p.close()
		delete(s.peers, name)
	}
}

func (s *Swarm) peer(name string) (*peer, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	p, there := s.peers[name]
	if !there {
		return nil, fmt.Errorf("there is no peer %q", name)
	}
	return p, nil
}

// Stream begins to send from a peer.
func (s *Swarm) Stream(name string, stream Stream) error {
	p, err := s.peer(name)
	if err != nil {
		return err
	}
	return p.stream(stream)
}

// StopStreams ends the streams of a peer; what was sent is still waited for and reported.
func (s *Swarm) StopStreams(name string) error {
	p, err := s.peer(name)
	if err != nil {
		return err
	}
	p.stopStreams(false)
	return nil
}

// Reset ends the streams of a peer and forgets their figures.
func (s *Swarm) Reset(name string) error {
	p, err := s.peer(name)
	if err != nil {
		return err
	}
	p.stopStreams(true)
	return nil
}

// Break makes a peer bad, besides whatever else it does.
func (s *Swarm) Break(name string, b Break) error {
	p, err := s.peer(name)
	if err != nil {
		return err
	}
	return p.doBreak(b)
}

// Mend makes a peer as Config says again: it begins anew, with a new handshake. Streams go on.
func (s *Swarm) Mend(name string) error {
	p, err := s.peer(name)
	if err != nil {
		return err
	}
	return p.mend()
}

// Names are the names of all peers, sorted.
func (s *Swarm) Names() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	var names []string
	for name := range s.peers {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

// Report tells how the peers of these names stand, all if there are none, sorted by name.
func (s *Swarm) Report(names ...string) []Report {
	s.mu.Lock()
	var peers []*peer
	for name, p := range s.peers {
		if len(names) == 0 || slices.Contains(names, name) {
			peers = append(peers, p)
		}
	}
	s.mu.Unlock()
	reports := make([]Report, 0, len(peers))
	for _, p := range peers {
		reports = append(reports, p.report())
	}
	slices.SortFunc(reports, func(a, b Report) int { return strings.Compare(a.Name, b.Name) })
	return reports
}

// Settle waits until no packet of a stopped stream is pending: at most Patience.
func (s *Swarm) Settle() {
	for deadline := time.Now().Add(Patience); time.Now().Before(deadline); time.Sleep(Patience / 100) {
		pending := uint64(0)
		for _, r := range s.Report() {
			pending += r.Pending
		}
		if pending == 0 {
			return
		}
	}
}
