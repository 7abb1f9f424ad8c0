package journal

import (
	"time"

	"shekara/netctl/clock"
)

// Clock says how far the box's clock can be believed. It is asked for each record, so it must answer at once.
type Clock func() (clock.State, error)

// Event is one thing that happened. Append and Post fill Sequence, Time, ClockErrorMicroseconds and Links.
type Event struct {
	Sequence uint64    `json:"sequence"` // from 1, no gaps
	Time     time.Time `json:"time"`     // UTC, by the box's clock; order is by Sequence
	// ClockErrorMicroseconds is how wrong Time may be, by the journal's Clock; 0: nobody keeps the clock, and nothing is known.
	ClockErrorMicroseconds int64    `json:"clockErrorMicroseconds,omitempty"`
	Type                   Type     `json:"type"`
	Severity               Severity `json:"severity"`
	Actor                  Actor    `json:"actor,omitzero"`
	Object                 string   `json:"object,omitempty"` // "tunnel/agency-a", "revision/12", "device/sk-agencies"
	// Organisation is the legal entity whose it is; "": nobody's alone.
	Organisation string `json:"organisation,omitempty"`
	// Systems are the registered systems that it concerns, sorted, MaxSystems at most; none: it concerns none, or the record is older than this.
	Systems []string          `json:"systems,omitempty"`
	Message string            `json:"message"`          // one sentence for people
	Fields  map[string]string `json:"fields,omitempty"` // facts for programs; never a secret
	Links   []Link            `json:"links,omitempty"`  // to those before it of its tunnel and organisation
}

// MaxSystems is how many systems a record names at most.
const MaxSystems = 64

// stamp says when it was, just now, and how far that can be believed.
func (e *Event) stamp(now time.Time, ask Clock) {
	e.Time, e.ClockErrorMicroseconds = now.UTC(), 0
	if ask == nil {
		ask = clock.Recent
	}
	if s, err := ask(); err == nil && s.Synchronised {
		e.ClockErrorMicroseconds = max(s.MaxError.Microseconds(), 1)
	}
}

// Type is noun.verb, from the catalogue below. Append refuses a type that is not in it.
type Type string

// Severity is named as in RFC 5424, section 6.2.1.
type Severity string

const (
	Alert   Severity = "alert"
	Error   Severity = "error"
	Warning Severity = "warning"
	Notice  Severity = "notice"
	Info    Severity = "info"
)

// Actor is who asked, by the credentials of the socket's other end. Zero: the daemon itself.
type Actor struct {
	UID  uint32 `json:"uid"`
	User string `json:"user,omitempty"`
	PID  int32  `json:"pid,omitempty"`
}

// The types. What each means stands in Catalogue; docs/events.md is generated from it.
const (
	DaemonStart       Type = "daemon.start"
	DaemonStop        Type = "daemon.stop"
	DaemonOverload    Type = "daemon.overload"
	DaemonRecover     Type = "daemon.recover"
	HostFail          Type = "host.fail"
	HostClean         Type = "host.clean"
	DocumentsReject   Type = "documents.reject"
	DocumentChange    Type = "document.change"
	PlanMake          Type = "plan.make"
	ApplyStart        Type = "apply.start"
	ApplyFinish       Type = "apply.finish"
	ApplyFail         Type = "apply.fail"
	ConfirmWait       Type = "confirm.wait"
	ConfirmDone       Type = "confirm.done"
	RevisionRevert    Type = "revision.revert"
	DriftFind         Type = "drift.find"
	DriftRepair       Type = "drift.repair"
	DriftStop         Type = "drift.stop"
	DriftResume       Type = "drift.resume"
	DriftPass         Type = "drift.pass"
	ForeignFind       Type = "foreign.find"
	ForeignEnd        Type = "foreign.end"
	WatchGap          Type = "watch.gap"
	ProofHold         Type = "proof.hold"
	ProofBreak        Type = "proof.break"
	ProofDoubt        Type = "proof.doubt"
	HoldBegin         Type = "hold.begin"
	HoldEnd           Type = "hold.end"
	TunnelState       Type = "tunnel.state"
	TunnelRoam        Type = "tunnel.roam"
	TunnelFail        Type = "tunnel.fail"
	TunnelRecover     Type = "tunnel.recover"
	TunnelReset       Type = "tunnel.reset"
	TunnelLimit       Type = "tunnel.limit"
	ClockSynchronise  Type = "clock.synchronise"
	ClockLose         Type = "clock.lose"
	ClockStep         Type = "clock.step"
	TimeState         Type = "time.state"
	TimeSource        Type = "time.source"
	TimeWarn          Type = "time.warn"
	TimeServe         Type = "time.serve"
	TimeFail          Type = "time.fail"
	TimeRecover       Type = "time.recover"
	FilterClose       Type = "filter.close"
	ConnectionStart   Type = "connection.start"
	ConnectionEnd     Type = "connection.end"
	ConnectionSum     Type = "connection.sum"
	ForwardStop       Type = "forward.stop"
	ForwardResume     Type = "forward.resume"
	FlowRevoke        Type = "flow.revoke"
	FlowEnd           Type = "flow.end"
	FlowMiss          Type = "flow.miss"
	PacketDrop        Type = "packet.drop"
	PacketMiss        Type = "packet.miss"
	UnitMessage       Type = "unit.message"
	UnitMiss          Type = "unit.miss"
	UnitResume        Type = "unit.resume"
	SinkFail          Type = "sink.fail"
	SinkRecover       Type = "sink.recover"
	IncidentOpen      Type = "incident.open"
	IncidentClose     Type = "incident.close"
	SecretMake        Type = "secret.make"
	SecretImport      Type = "secret.import"
	SecretExport      Type = "secret.export"
	AccessRefuse      Type = "access.refuse"
	JournalLook       Type = "journal.look"
	JournalExport     Type = "journal.export"
	JournalCut        Type = "journal.cut"
	JournalDamage     Type = "journal.damage"
	JournalFull       Type = "journal.full"
	JournalMiss       Type = "journal.miss"
	JournalResume     Type = "journal.resume"
	JournalCheckpoint Type = "journal.checkpoint"
	JournalUnsigned   Type = "journal.unsigned"
	JournalExpire     Type = "journal.expire"
	KeyRotate         Type = "key.rotate"
	KeyLose           Type = "key.lose"
)
