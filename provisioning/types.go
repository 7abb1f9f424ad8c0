package provisioning

import (
	"fmt"
	"time"

	"shekara/journal"
	"shekara/provisioning/contour"
	"shekara/provisioning/document"
)

// Request is documents to plan or apply, and on what terms.
type Request struct {
	Files         []document.File // names are for messages; the bytes are the input
	Whole         bool            // also remove what is absent; else merge by kind and name
	Base          int             // revision that the caller saw, or NoRevision; 0: whichever is newest
	ConfirmWithin time.Duration   // 0: no window, unless the change is risky (then 120 s)
	Actor         journal.Actor
	Message       string // why, for the history
}

// NoRevision is the Base of a caller who saw that nothing was applied yet.
const NoRevision = -1

// Plan is the difference between what is and what would be. It is pure data: printable, comparable, and stale once Base is not the newest revision.
type Plan struct {
	ID      string    `json:"id"`   // first 12 hexadecimal digits of the SHA-256 of base and changes
	Base    int       `json:"base"` // revision that it was computed from
	Site    string    `json:"site"`
	Changes []Change  `json:"changes"`           // of documents
	Steps   []Step    `json:"steps"`             // on the host, in the order in which they would be done
	Omitted []Omitted `json:"omitted,omitempty"` // of a brief plan: what Changes and Steps leave out
	Risks   []string  `json:"risks,omitempty"`   // why a confirm window of 120 s opens by itself: the author may lock himself out, or a rule is waived
}

// Empty reports whether there is nothing to do: neither documents nor host differ.
func (p Plan) Empty() bool { return len(p.Changes) == 0 && len(p.Steps) == 0 }

// Change is one document that is added, changed or removed.
type Change struct {
	Verb   string        `json:"verb"` // add, change, remove
	Kind   document.Kind `json:"kind"`
	Name   string        `json:"name"`
	Before string        `json:"before,omitempty"` // canonical YAML
	After  string        `json:"after,omitempty"`
}

// Step is one thing done on the host.
type Step struct {
	Phase  string `json:"phase"`            // filter-deny, devices, peers, routes, filter, sysctls
	Tunnel string `json:"tunnel,omitempty"` // whose it is; "" for the site's
	Text   string `json:"text"`             // "add peer ... to sk-agencies"; never a secret
}

// Result is what an apply, a confirmation or a rollback did.
type Result struct {
	Revision         int           `json:"revision"` // now in force
	Plan             Plan          `json:"plan"`
	Failed           []Failed      `json:"failed,omitempty"`    // tunnels that have an error of their own; everything else is in force
	ConfirmBy        *time.Time    `json:"confirmBy,omitempty"` // undone unless confirmed by then
	Took             time.Duration `json:"took"`                // nanoseconds
	RevisionToRevert int           `json:"revisionToRevert,omitempty"`
}

// Failed is a tunnel, or "" for the site, that could not be made real.
type Failed struct {
	Tunnel string `json:"tunnel"`
	Error  string `json:"error"`
	Hint   string `json:"hint,omitempty"`
}

// Revision is one state of the documents, kept.
type Revision struct {
	ID        int           `json:"id"` // from 1
	Parent    int           `json:"parent"`
	Time      time.Time     `json:"time"`
	Actor     journal.Actor `json:"actor"`
	Message   string        `json:"message,omitempty"`
	State     RevisionState `json:"state"`
	Added     int           `json:"added"`
	Changed   int           `json:"changed"`
	Removed   int           `json:"removed"`
	ConfirmBy *time.Time    `json:"confirmBy,omitempty"`
}

// RevisionState is where a revision stands.
type RevisionState string

const (
	Pending     RevisionState = "pending"     // intent is on disk, steps under way
	Unconfirmed RevisionState = "unconfirmed" // in force until ConfirmBy
	Confirmed   RevisionState = "confirmed"
	Reverted    RevisionState = "reverted"
)

// TunnelStatus is one tunnel as it truly is.
type TunnelStatus struct {
	Name           string        `json:"name"`
	State          string        `json:"state"` // tunnels.Health
	Reason         string        `json:"reason,omitempty"`
	Hint           string        `json:"hint,omitempty"`
	Since          time.Time     `json:"since"`
	Environment    string        `json:"environment"`
	Protocol       string        `json:"protocol"`
	Device         string        `json:"device"`
	Engine         string        `json:"engine,omitempty"`
	LocalPeer      string        `json:"localPeer"`
	RemotePeer     string        `json:"remotePeer"`
	LocalIP        string        `json:"localIP"`
	PublicKey      string        `json:"publicKey,omitempty"` // the far peer's, base64
	Endpoint       string        `json:"endpoint,omitempty"`
	LocalPrefixes  []string      `json:"localPrefixes"`
	RemotePrefixes []string      `json:"remotePrefixes"`
	LocalShown     []string      `json:"localShown,omitempty"`    // what stands in the tunnel instead of LocalPrefixes
	RemoteKnown    []string      `json:"remoteKnown,omitempty"`   // how this side writes RemotePrefixes, where differently
	ConntrackZone  uint16        `json:"conntrackZone,omitempty"` // of a far side that is mapped
	RouteTable     uint32        `json:"routeTable"`
	Limits         *TunnelLimits `json:"limits,omitempty"`
	LastHandshake  *time.Time    `json:"lastHandshake,omitempty"`
	ReceivedBytes  uint64        `json:"receivedBytes"`
	SentBytes      uint64        `json:"sentBytes"`
	Probe          *ProbeStatus  `json:"probe,omitempty"`
	NextRetry      *time.Time    `json:"nextRetry,omitempty"`
}

// ProbeStatus is what echo through the tunnel measured over the last 20 probes.
type ProbeStatus struct {
	Target   string        `json:"target"`
	Sent     int           `json:"sent"`
	Lost     int           `json:"lost"`
	Latency  time.Duration `json:"latency"` // median, nanoseconds; 0: none answered
	Answered *time.Time    `json:"answered,omitempty"`
	Error    string        `json:"error,omitempty"`
}

// Status is the box at a glance.
type Status struct {
	Site         string           `json:"site"`
	Version      string           `json:"version"`
	Started      time.Time        `json:"started"`
	Revision     int              `json:"revision"`
	State        RevisionState    `json:"revisionState"`
	ConfirmBy    *time.Time       `json:"confirmBy,omitempty"`
	HoldUntil    *time.Time       `json:"holdUntil,omitempty"`
	Tunnels      map[string]int   `json:"tunnels"`           // state -> how many
	AtLimit      []string         `json:"atLimit,omitempty"` // tunnels of which something was dropped within the last minute because it was more than their limits
	Failed       []Failed         `json:"failed,omitempty"`
	Drift        []string         `json:"drift,omitempty"`    // what differs now and is not repaired
	DriftBy      []string         `json:"driftBy,omitempty"`  // who made it so, as far as the kernel tells: one line for each kind of thing that differs
	Alarms       []string         `json:"alarms,omitempty"`   // loud things: reverted, repairs stopped, the proof is violated, journal cannot write
	Problems     []string         `json:"problems,omitempty"` // documents that are not in force because they are invalid
	Sinks        []SinkStatus     `json:"sinks,omitempty"`    // how far the journal got on its way to each monitoring centre
	Engine       string           `json:"engine"`
	Proof        *ProofStatus     `json:"proof,omitempty"`   // what the last verification came to
	Waivers      []contour.Waived `json:"waivers,omitempty"` // in force: flows that pass only by one
	LastObserved time.Time        `json:"lastObserved"`
	Journal      JournalStatus    `json:"journal"`
	Units        string           `json:"units,omitempty"` // why messages of the host's units are not put on record; absent: they are, or the Site wants none
	Clock        *ClockStatus     `json:"clock,omitempty"`
	Time         *TimeStatus      `json:"time,omitempty"` // absent: no TimeService is in force
	// Incidents are how many are open, by severity.
	Incidents map[journal.Severity]int `json:"incidents,omitempty"`
}

// JournalStatus is whether events are recorded.
type JournalStatus struct {
	Error    string     `json:"error,omitempty"` // why they cannot be; changes are refused meanwhile
	Since    *time.Time `json:"since,omitempty"` // since when
	Waiting  int        `json:"waiting"`         // events that wait in memory
	Missed   uint64     `json:"missed"`          // events that are lost, since the daemon started
	Unsigned bool       `json:"unsigned,omitempty"`
}

// ConflictError is what the second of two appliers gets.
type ConflictError struct {
	Saw, Newest int
	Pending     bool // a confirm window is open
	Actor       journal.Actor
}

func (e *ConflictError) Error() string {
	if e.Pending {
		return fmt.Sprintf("revision %d waits for its confirmation: confirm it or roll it back first", e.Newest)
	}
	if e.Newest < e.Saw {
		return fmt.Sprintf("revision %d, from which this plan was made, was undone and revision %d is in force: plan again", e.Saw, e.Newest)
	}
	if e.Saw == 0 {
		return fmt.Sprintf("revision %d was applied meanwhile, and this plan was made when there was none: plan again", e.Newest)
	}
	return fmt.Sprintf("revision %d is newer than %d, from which this plan was made: plan again", e.Newest, e.Saw)
}

// InvalidError carries every problem of the documents.
type InvalidError struct{ Problems []document.Problem }

func (e *InvalidError) Error() string {
	return fmt.Sprintf("%d problems in the documents", len(e.Problems))
}
