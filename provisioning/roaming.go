package provisioning

import (
	"fmt"
	"net/netip"
	"strconv"
	"time"

	"shekara/journal"
	"shekara/tunnels"
)

// roamWindow is within which one event of a tunnel tells of all that its far end roamed: who changes his address with each packet must not
// fill the journal.
const roamWindow = time.Minute

// roaming is where the far end of a tunnel was seen: WireGuard answers to where the last authenticated packet came from.
type roaming struct {
	asked netip.AddrPort // the endpoint that we set; zero: none
	seen  netip.AddrPort // by the last event, or at first
	moves int            // changes since that are not on record
	last  netip.AddrPort
	next  time.Time // from when on there may be an event again
}

// observe takes a look at a peer, and says what there is to put on record.
func (r *roaming) observe(now time.Time, name string, asked netip.AddrPort, peer tunnels.PeerState) (event journal.Event, roamed bool) {
	if !peer.Endpoint.IsValid() {
		return journal.Event{}, false
	}
	if !r.seen.IsValid() || asked != r.asked { // it begins, or we ourselves sent it elsewhere
		*r = roaming{asked: asked, seen: peer.Endpoint, last: peer.Endpoint, next: r.next}
		return journal.Event{}, false
	}
	if peer.Endpoint != r.last {
		r.moves, r.last = r.moves+1, peer.Endpoint
	}
	if r.moves == 0 || now.Before(r.next) {
		return journal.Event{}, false
	}
	event = journal.Event{Type: journal.TunnelRoam, Severity: journal.Notice, Object: "tunnel/" + name,
		Message: fmt.Sprintf("the far end is at %s now, was at %s", r.last, r.seen),
		Fields:  fieldsOf("before", r.seen.String(), "after", r.last.String(), "times", strconv.Itoa(r.moves))}
	r.seen, r.moves, r.next = r.last, 0, now.Add(roamWindow)
	return event, true
}
