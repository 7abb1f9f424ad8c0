package tunnels

import (
	"fmt"
	"time"
)

// State is the true state of one tunnel.
//
//	             never heard of        initiations go out         whole attempt
//	(peer added) ------------> configured -----------> handshaking ----------> down
//	                               ^                     |   ^  90 s unanswered  |
//	                               |           handshake |   | we try again      | we try, or hear, again
//	                               |                     v   |                   v
//	  passing <--- answered both ways within 30 s ---- idle <------ handshake -- (handshaking)
//	     |                                              ^ |
//	     | nothing proven for 30 s                      | | data unanswered for 15 s
//	     +----------------------------------------------+ +-----> one-way ---+
//	                                                      |                  |
//	                                handshake over 180 s, nobody tries ------+--> stale
//
//	from anywhere: link or peer gone -> down; an error of the driver, the key or the name -> failed (why)
//
// Sent counters alone prove nothing: idle and passing rest on what came in, authenticated. A change is believed when two samples in
// a row say it, except that failed, an answered probe (passing) and the end of the proof for passing count at once.
type State string

const (
	Configured  State = "configured"  // there, and neither side has tried yet
	Handshaking State = "handshaking" // no session, one is being asked for
	Idle        State = "idle"        // a session (handshake under 180 s), and nothing awaits an answer
	Passing     State = "passing"     // a probe answered, or authenticated data both ways, within 30 s
	OneWay      State = "one-way"     // a session, and one direction gets no answer
	Stale       State = "stale"       // the last session is over (180 s) and nobody asks for a new one
	Down        State = "down"        // no link, no peer, or nobody answers
	Failed      State = "failed"      // cannot be made so; Reason says why
)

const (
	sessionLife    = 180 * time.Second // REJECT_AFTER_TIME: with the last handshake older than this no packet is sent or taken
	proofLife      = 30 * time.Second  // RELIABILITY.md: up is what crossed both ways in the last 30 seconds
	answerWithin   = 15 * time.Second  // KEEPALIVE_TIMEOUT + REKEY_TIMEOUT: a living far side answers data by data or keepalive before
	attemptLife    = 90 * time.Second  // REKEY_ATTEMPT_TIME: WireGuard gives up then, until there is a new packet
	attemptPause   = 2 * handshakeRetry
	stuckAfter     = sessionLife + proofLife
	samplesToAgree = 2
)

// Sample is one look at a tunnel.
type Sample struct {
	Time          time.Time // with its monotonic reading, if one process takes all of them
	Link          bool      // the device is there and up
	Peer          bool      // the device has the peer
	Keepalive     time.Duration
	LastHandshake time.Time // zero: never
	ReceivedBytes uint64
	SentBytes     uint64
	ProbeSent     time.Time // the latest probe; zero: none yet, or no probe asked for
	ProbeAnswered time.Time // the latest answer
	Err           error     // why this tunnel cannot be made real, or nil
}

// SampleOf makes a sample from what was observed. The device is absent if its Name is empty.
func SampleOf(now time.Time, device DeviceState, key PublicKey) Sample {
	s := Sample{Time: now, Link: device.Name != "" && device.Up}
	p, ok := device.Peers[key]
	s.Peer = ok
	s.Keepalive, s.LastHandshake = p.Keepalive, p.LastHandshake
	s.ReceivedBytes, s.SentBytes = p.ReceivedBytes, p.SentBytes
	return s
}

// Status is a state with its grounds.
type Status struct {
	State  State
	Since  time.Time // when the state began, as far as was seen
	Reason string    // what was seen, one clause
	Hint   string    // what to look at next; "" where nothing is wrong
}

// Health follows one tunnel through its samples. The zero value is ready; it belongs to one goroutine.
type Health struct {
	status Status
	last   Sample // the sample before

	candidate State // what the latest samples say in a row, other than status.State
	agreeing  int

	heard    time.Time // any bytes from the far side
	tried    time.Time // any bytes to the far side while there was no session
	trying   time.Time // the first of the tries that nobody has answered
	dataIn   time.Time // data from the far side
	dataOut  time.Time // data to the far side
	asking   time.Time // the first data to the far side since it last sent something of a session
	asked    time.Time // the first data from the far side since we last sent something of a session
	resetAt  time.Time // Reset was called
	baseline bool      // last holds counters to compare with
}

// Observe takes the next sample and gives the status after it. A sample that is not later than the one before is ignored.
func (h *Health) Observe(s Sample) Status {
	if h.baseline && !s.Time.After(h.last.Time) {
		return h.status
	}
	h.account(s)
	judged := h.judge(s)
	h.last, h.baseline = s, true
	h.settle(judged, s)
	return h.status
}

// Status is the status after the last sample; before the first its State is "".
func (h *Health) Status() Status { return h.status }

// account turns counters into what they prove.
func (h *Health) account(s Sample) {
	if !s.Peer || !s.Link {
		h.forget()
		return
	}
	// Counters begin again with the device or the peer. What went on before belongs to another peer.
	if h.baseline && (s.ReceivedBytes < h.last.ReceivedBytes || s.SentBytes < h.last.SentBytes) {
		h.forget()
		h.last.ReceivedBytes, h.last.SentBytes = 0, 0
	}
	if !h.baseline || !h.last.Peer || !h.last.Link {
		return // nothing to compare with
	}
	elapsed := s.Time.Sub(h.last.Time)
	in := classify(s.ReceivedBytes-h.last.ReceivedBytes, elapsed, s.Keepalive)
	out := classify(s.SentBytes-h.last.SentBytes, elapsed, s.Keepalive)
	session := hasSession(s)

	if in.any {
		h.heard, h.trying = s.Time, time.Time{}
	}
	if out.any && !session {
		h.tried = s.Time
		if h.trying.IsZero() && !in.any {
			h.trying = s.Time
		}
	}
	if session {
		h.trying = time.Time{}
	}
	if in.data {
		h.dataIn = s.Time
	}
	if out.data && session {
		h.dataOut = s.Time
	}
	switch {
	case in.session:
		h.asking = time.Time{}
	case out.data && h.asking.IsZero():
		h.asking = s.Time
	}
	switch {
	case out.session:
		h.asked = time.Time{}
	case in.data && h.asked.IsZero():
		h.asked = s.Time
	}
}

func (h *Health) forget() {
	h.heard, h.tried, h.trying = time.Time{}, time.Time{}, time.Time{}
	h.dataIn, h.dataOut, h.asking, h.asked = time.Time{}, time.Time{}, time.Time{}, time.Time{}
}

func hasSession(s Sample) bool {
	return !s.LastHandshake.IsZero() && s.Time.Sub(s.LastHandshake) < sessionLife
}

func within(t time.Time, age time.Duration, now time.Time) bool {
	return !t.IsZero() && now.Sub(t) < age
}

func overdue(t time.Time, age time.Duration, now time.Time) bool {
	return !t.IsZero() && now.Sub(t) >= age
}

// judge says what this sample means by itself.
func (h *Health) judge(s Sample) Status {
	switch {
	case s.Err != nil:
		return Status{State: Failed, Reason: s.Err.Error(), Hint: "correct what the reason names; it is tried again by itself"}
	case !s.Link:
		return Status{State: Down, Reason: "the device is gone or its link is down", Hint: "see the daemon's journal; it makes the device again"}
	case !s.Peer:
		return Status{State: Down, Reason: "the device does not have the peer", Hint: "somebody removed it: see drift in the journal"}
	case within(s.ProbeAnswered, proofLife, s.Time):
		return Status{State: Passing, Reason: fmt.Sprintf("a probe was answered %s ago", age(s.ProbeAnswered, s.Time))}
	case within(h.dataIn, proofLife, s.Time) && within(h.dataOut, proofLife, s.Time):
		return Status{State: Passing, Reason: "data went both ways in the last 30s"}
	case hasSession(s):
		return h.judgeSession(s)
	default:
		return h.judgeNoSession(s)
	}
}

func (h *Health) judgeSession(s Sample) Status {
	switch {
	case overdue(h.asking, answerWithin, s.Time):
		return Status{State: OneWay, Reason: fmt.Sprintf("data sent since %s ago, nothing comes back", age(h.asking, s.Time)),
			Hint: "the far side or the path back drops our packets: look at its allowed IPs, its filter, NAT on the way"}
	case overdue(h.asked, answerWithin, s.Time):
		return Status{State: OneWay, Reason: fmt.Sprintf("data received since %s ago, nothing of ours leaves", age(h.asked, s.Time)),
			Hint: "look at our route to the far side's public IP and at the outer filter"}
	case s.ProbeSent.After(s.ProbeAnswered) && overdue(s.ProbeSent, answerWithin, s.Time) && !within(h.heard, answerWithin, s.Time):
		return Status{State: OneWay, Reason: "a probe got no answer",
			Hint: "the probed host may be off, or a filter on either side drops the probe"}
	}
	return Status{State: Idle, Reason: fmt.Sprintf("handshake %s ago, nothing awaits an answer", age(s.LastHandshake, s.Time))}
}

func (h *Health) judgeNoSession(s Sample) Status {
	const hint = "look at the far side's public IP, port and public key, at the preshared key on both sides, and at filters between"
	trying := within(h.tried, attemptPause, s.Time)
	switch {
	case overdue(h.trying, attemptLife, s.Time) && (trying || s.LastHandshake.IsZero()):
		return Status{State: Down, Reason: fmt.Sprintf("asked for a session since %s ago, nobody answers", age(h.trying, s.Time)), Hint: hint}
	case trying || within(h.heard, attemptPause, s.Time):
		return Status{State: Handshaking, Reason: "a session is being asked for", Hint: "wait; if it stays so: " + hint}
	case s.LastHandshake.IsZero() && h.trying.IsZero():
		return Status{State: Configured, Reason: "neither side has tried yet", Hint: "send a packet through it, or set keepalive or a probe"}
	case s.LastHandshake.IsZero():
		return Status{State: Handshaking, Reason: fmt.Sprintf("asked for a session %s ago, no answer yet", age(h.tried, s.Time)), Hint: hint}
	}
	return Status{State: Stale, Reason: fmt.Sprintf("last handshake %s ago, nobody asks for a new one", age(s.LastHandshake, s.Time)),
		Hint: "normal for a tunnel without traffic; keepalive or a probe keeps it known"}
}

// settle applies the hysteresis.
func (h *Health) settle(judged Status, s Sample) {
	enter := func() {
		judged.Since = s.Time
		h.status, h.candidate, h.agreeing = judged, "", 0
	}
	switch {
	case judged.State == h.status.State:
		judged.Since = h.status.Since
		h.status, h.candidate, h.agreeing = judged, "", 0
	case h.status.State == "", judged.State == Failed, h.status.State == Failed && s.Err == nil:
		enter()
	case judged.State == Passing && within(s.ProbeAnswered, proofLife, s.Time):
		enter()
	case h.status.State == Passing:
		enter() // 30 s without proof were hysteresis enough, and passing is never said longer than it is true
	default:
		if judged.State != h.candidate {
			h.candidate, h.agreeing = judged.State, 0
		}
		if h.agreeing++; h.agreeing >= samplesToAgree {
			enter()
		}
	}
}

// Stuck reports whether the peer hangs in its handshake and is to be reset (Driver.ResetPeer): over 180 s + 30 s without a session, packets
// wait for one (initiations leave, or a probe does), and nothing at all comes in. A device that has lost its way in the handshake looks
// like a far side that is off; a reset helps the first and does the second no harm, so it is tried, but only once in that time.
func (h *Health) Stuck() bool {
	s := h.last
	if !h.baseline || !s.Link || !s.Peer || s.Err != nil || hasSession(s) || within(h.resetAt, stuckAfter, s.Time) {
		return false
	}
	waiting := within(h.tried, proofLife, s.Time) || s.ProbeSent.After(s.ProbeAnswered) && within(s.ProbeSent, proofLife, s.Time)
	if !waiting || within(h.heard, stuckAfter, s.Time) {
		return false
	}
	since := h.trying
	if !s.LastHandshake.IsZero() {
		since = s.LastHandshake
	}
	return overdue(since, stuckAfter, s.Time)
}

// Reset notes that the peer was reset, or that it was tried: Stuck is false for a while.
func (h *Health) Reset(now time.Time) { h.resetAt = now }

func age(t, now time.Time) time.Duration {
	return max(0, now.Sub(t)).Round(time.Second)
}
