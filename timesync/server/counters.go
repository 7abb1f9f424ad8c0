package server

import (
	"sync/atomic"
)

// Counters are of all requests since the server began. Every one is in one of Served, Refused, Malformed, OtherMode, Limited, Unauthenticated and Withheld.
type Counters struct {
	Received        uint64 `json:"received"`    // datagrams
	Served          uint64 `json:"served"`      // got the time
	Interleaved     uint64 `json:"interleaved"` // of those served
	NTS             uint64 `json:"nts"`
	Keyed           uint64 `json:"keyed"`   // of those served, with a symmetric key
	Kissed          uint64 `json:"kissed"`  // of those limited and not authenticated, were told so
	Refused         uint64 `json:"refused"` // not registered
	Malformed       uint64 `json:"malformed"`
	OtherMode       uint64 `json:"otherMode"` // no client's requests
	Limited         uint64 `json:"limited"`   // asked too often
	Unauthenticated uint64 `json:"unauthenticated"`
	Withheld        uint64 `json:"withheld"` // the clock is not synchronised
	Unsent          uint64 `json:"unsent"`   // answers that the kernel did not take
	BytesIn         uint64 `json:"bytesIn"`
	BytesOut        uint64 `json:"bytesOut"`
}

// counters add up those of all sockets.
type counters [15]atomic.Uint64

func (c *Counters) fields() [15]*uint64 {
	return [...]*uint64{&c.Received, &c.Served, &c.Interleaved, &c.NTS, &c.Keyed, &c.Kissed, &c.Refused, &c.Malformed, &c.OtherMode, &c.Limited, &c.Unauthenticated, &c.Withheld, &c.Unsent,
		&c.BytesIn, &c.BytesOut}
}

// add takes what a socket counted since the last time, and zeroes it.
func (c *counters) add(more *Counters) {
	for i, f := range more.fields() {
		if *f != 0 {
			c[i].Add(*f)
		}
	}
	*more = Counters{}
}

// Counters are what was counted until now.
func (s *Server) Counters() Counters {
	var sum Counters
	for i, f := range sum.fields() {
		*f = s.counters[i].Load()
	}
	return sum
}
