package source

import (
	"crypto/md5"
	"encoding/binary"
	"net/netip"
	"slices"
	"time"

	"shekara/timesync"
)

// peer is one source as it was heard.
type peer struct {
	spec   timesync.Source
	status timesync.SourceStatus // what does not follow from the samples
	register
	loop      bool
	refused   bool
	unserving bool
	unusable  bool
}

func newPeer(s timesync.Source) *peer { return &peer{spec: s, status: Unheard(s)} }

// Unheard is the status of a source that has not been asked.
func Unheard(s timesync.Source) timesync.SourceStatus {
	status := timesync.SourceStatus{Name: s.Name, Address: s.Address, Verdict: timesync.Waiting, Authentication: "none"}
	switch {
	case s.NTS:
		status.Authentication = "nts"
	case s.Key != 0:
		status.Authentication = "key"
	}
	return status
}

// take notes what came of a request. ours are addresses of this box.
func (p *peer) take(now time.Time, a answer, err error, ours []netip.Addr) {
	p.status.Reach <<= 1
	p.unusable = isUnusable(err)
	if err != nil {
		p.status.Error = err.Error()
		return
	}
	p.status.Reach |= 1
	p.status.Error, p.status.LastHeard, p.status.Peer = "", now, a.peer
	p.status.Stratum, p.status.Leap, p.status.ReferenceID = a.stratum, a.leap, a.referenceID
	p.refused = a.kiss == kissDeny || a.kiss == kissRestrict
	p.loop = a.stratum > 1 && (a.referenceID == referenceID(a.local) || slices.ContainsFunc(ours, func(o netip.Addr) bool { return referenceID(o) == a.referenceID }))
	p.unserving = a.unserving != nil && a.kiss != kissRate
	switch {
	case a.unserving != nil:
		p.status.Error = a.unserving.Error()
		if p.unserving {
			p.void() // what it said before it no longer stands for
		}
	case p.loop:
		p.void()
	default:
		p.push(a.sample)
	}
}

// judge says what the source is good for, and, where it is fit to be held against others, for what.
func (p *peer) judge(now time.Time, drift float64, maxDistance time.Duration) (s timesync.SourceStatus, c candidate, fit bool) {
	s = p.status
	jitter := time.Duration(0)
	if len(p.samples) > 0 {
		var best sample
		best, jitter = p.best(now, drift)
		s.Offset, s.Delay, s.Jitter = best.offset, best.delay, jitter
		s.Dispersion = best.dispersion + grown(now.Sub(best.at), drift)
		s.Distance = best.distance(now, drift) + jitter
	}
	switch {
	case p.refused:
		s.Verdict = timesync.RefusedByThem
	case p.unusable:
		s.Verdict = timesync.Unconfigurable
	case s.Reach&Recent == 0 && (s.Reach != 0 || !s.LastHeard.IsZero() || s.Error != ""):
		s.Verdict = timesync.Unreachable
	case p.unserving:
		s.Verdict = timesync.Unserving
	case p.loop:
		s.Verdict = timesync.Loop
	case len(p.samples) < fewest:
		s.Verdict = timesync.Waiting
	case s.Distance > maxDistance:
		s.Verdict = timesync.Distant
	default:
		return s, candidate{s.Offset, s.Distance}, true
	}
	return s, candidate{}, false
}

// referenceID is how a server is called in the answers of those that follow it (RFC 5905 section 7.3).
func referenceID(a netip.Addr) uint32 {
	switch a = a.Unmap(); {
	case a.Is4():
		b := a.As4()
		return binary.BigEndian.Uint32(b[:])
	case a.Is6():
		b := a.As16()
		sum := md5.Sum(b[:]) // as the RFC has it; nothing is secured by it
		return binary.BigEndian.Uint32(sum[:])
	}
	return 0
}
