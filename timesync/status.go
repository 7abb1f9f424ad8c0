package timesync

import (
	"net/netip"
	"time"
)

// Verdict is what is thought of a source.
type Verdict string

const (
	Followed       Verdict = "followed"       // it agrees with a majority, and is the nearest of them: stratum and reference are from it
	Agrees         Verdict = "agrees"         // with a majority
	Disagrees      Verdict = "disagrees"      // with others, and there is no majority that would say who is wrong
	Falseticker    Verdict = "falseticker"    // a majority agrees, and this is not of it (RFC 5905 section 11.2.1)
	Waiting        Verdict = "waiting"        // it answers, but not yet often enough to be judged
	Unreachable    Verdict = "unreachable"    // it answered none of the last four requests
	Unserving      Verdict = "unsynchronised" // it says itself that it does not know the time
	Loop           Verdict = "loop"           // it learns the time from this box
	Distant        Verdict = "distant"        // its root distance is above Spec.MaxDistance
	RefusedByThem  Verdict = "refused"        // it told this box to stop asking (kiss-o'-death DENY or RSTR); it is not asked again before a restart
	Unconfigurable Verdict = "unusable"       // it cannot be asked as the document says: its key, its certificates
)

// SourceStatus is one source as it was measured. Offsets are what must be added to this box's clock; a source that was never heard has none.
type SourceStatus struct {
	Name           string        `json:"name"`
	Address        string        `json:"address"`       // as in the document
	Peer           netip.Addr    `json:"peer,omitzero"` // that answered
	Verdict        Verdict       `json:"verdict"`
	Authentication string        `json:"authentication"` // "nts", "key", or "none"
	Stratum        uint8         `json:"stratum"`        // its own, 0: not known
	ReferenceID    uint32        `json:"referenceID"`
	Leap           Leap          `json:"leap"`
	Reach          uint8         `json:"reach"` // the last eight requests, the newest lowest: 1 was answered
	Offset         time.Duration `json:"offset"`
	Delay          time.Duration `json:"delay"`      // there and back
	Jitter         time.Duration `json:"jitter"`     // root mean square of what the last eight differ by
	Dispersion     time.Duration `json:"dispersion"` // of the measurement: how well clocks can be read, and drift since
	Distance       time.Duration `json:"distance"`   // root distance: the offset is right to that, if the source is honest
	Poll           time.Duration `json:"poll"`       // between two requests, now
	LastHeard      time.Time     `json:"lastHeard,omitzero"`
	Error          string        `json:"error,omitempty"` // of the last request, "" where it was answered
}

// WarningKind says what a warning is about (TIM-01).
type WarningKind string

const (
	WarnOffset          WarningKind = "offset"          // the clock is wrong by more than Spec.WarnOffset
	WarnFewSources      WarningKind = "few-sources"     // fewer than three answer
	WarnFalseticker     WarningKind = "falseticker"     // a source tells another time than the majority
	WarnNoMajority      WarningKind = "no-majority"     // sources answer, and too few of them agree
	WarnUnauthenticated WarningKind = "unauthenticated" // a source that anybody on the way can speak for
	WarnLoop            WarningKind = "loop"            // a source follows this box
	WarnRefused         WarningKind = "refused"         // a source does not want to be asked
	WarnUnusable        WarningKind = "unusable"        // a source cannot be asked as the document says
	WarnBehind          WarningKind = "clock-behind"    // the clock is before a time that is known to be over
	WarnLeap            WarningKind = "leap"            // sources announce a leap second that the kernel was not told of
	WarnEngine          WarningKind = "engine"          // what should keep or tell the time does not run
)

// Warning is something that somebody should look after. It is there as long as its cause is.
type Warning struct {
	Kind    WarningKind `json:"kind"`
	Source  string      `json:"source,omitempty"` // name, where it is about one
	Message string      `json:"message"`
}

// Kernel is what the host's kernel was told of the clock by whoever disciplines it.
type Kernel struct {
	Synchronised bool          `json:"synchronised"`
	Leap         Leap          `json:"leap"`     // at the end of the day it will insert a second, or leave one out
	MaxError     time.Duration `json:"maxError"` // means nothing where Synchronised is false
}

// Status is all that is known of the time on this box.
type Status struct {
	Standing Standing       `json:"standing"`
	Sources  []SourceStatus `json:"sources"` // in the order of the document
	Warnings []Warning      `json:"warnings,omitempty"`
	Kernel   Kernel         `json:"kernel"`
	// Behind is by how much the clock must be in the past at least, since a later time was known to be good before. 0: nothing shows that.
	Behind time.Duration `json:"behind,omitempty"`
	// Steps is how often somebody set the clock since this was started, and LastStep by how much at last.
	Steps    uint64        `json:"steps"`
	LastStep time.Duration `json:"lastStep,omitempty"`
}
