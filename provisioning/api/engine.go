package api

import (
	"context"
	"io"
	"time"

	"shekara/journal"
	"shekara/provisioning"
	"shekara/provisioning/verification"
	"shekara/timesync/server"
)

// Engine is what the API needs of the provisioning engine. Errors are typed: InvalidError, ConflictError, fs.ErrNotExist;
// one with a method Hint() string says the next step itself.
type Engine interface {
	changer
	historian
	looker
	explainer
	keeper
}

type changer interface {
	Plan(context.Context, provisioning.Request) (provisioning.Plan, error)
	Apply(context.Context, provisioning.Request) (provisioning.Result, error)
	Confirm(context.Context, journal.Actor) (provisioning.Result, error)
	// Rollback goes back to a revision; 0: the one before.
	Rollback(context.Context, int, journal.Actor) (provisioning.Result, error)
	// Hold keeps drift from being repaired for that long; 0 ends it. It answers until when.
	Hold(context.Context, time.Duration, journal.Actor) (time.Time, error)
}

type historian interface {
	History(context.Context) ([]provisioning.Revision, error) // newest first
	Compare(ctx context.Context, from, to int) ([]provisioning.Change, error)
	Documents(ctx context.Context, revision int) ([]byte, error) // canonical YAML; 0: the one in force
	// Flows says what flows carried, by name.
	Flows(context.Context, provisioning.FlowQuery) (provisioning.FlowReport, error)
	// Sinks are to whom this box's journal goes, by name.
	Sinks(context.Context) ([]provisioning.Sink, error)
}

// looker says how the box is.
type looker interface {
	observer
	timekeeper
}

type timekeeper interface {
	// TimeService is what shekarad time is to do.
	TimeService(context.Context) (provisioning.TimeService, error)
	// TimeStatus is how the box stands with the time; nil where no TimeService is in force.
	TimeStatus(context.Context) (*provisioning.TimeStatus, error)
	// TimeClients are at most limit addresses that asked for the time, those after one, by address.
	TimeClients(ctx context.Context, after string, limit int) ([]server.Client, error)
}

type observer interface {
	Status(context.Context) (provisioning.Status, error)
	Tunnels(context.Context) ([]provisioning.TunnelStatus, error)
	Tunnel(ctx context.Context, name string) (provisioning.TunnelStatus, error)
	// PeerExport is this box's Peer documents, with public keys.
	PeerExport(context.Context) ([]byte, error)
	// Alive is when the engine's loop last turned.
	Alive() time.Time
}

type explainer interface {
	// Explain says what becomes of a packet: by what is in force, or with documents in the request by what would be.
	Explain(context.Context, provisioning.Question, provisioning.Request) (provisioning.Explanation, error)
	// Matrix says who may open connections to whom, by the same.
	Matrix(context.Context, provisioning.Request) (provisioning.Matrix, error)
	// Verify holds what is loaded now against what the documents in force ask.
	Verify(context.Context) (verification.Report, error)
	// Incidents are what events come to by the rules.
	Incidents(context.Context) (provisioning.IncidentReport, error)
}

type keeper interface {
	Secrets(context.Context) ([]string, error)
	NewSecret(ctx context.Context, name string, by journal.Actor) error
	ImportSecret(ctx context.Context, name string, value []byte, by journal.Actor) error
	ExportSecret(ctx context.Context, name, recipient string, by journal.Actor) ([]byte, error)
	// Recipient is to whom others seal what is meant for this box.
	Recipient(context.Context) (string, error)
}

// Journal is what the API needs of the record of events.
type Journal interface {
	reader
	signer
	// Prove makes the proof that a record is among those of a signed checkpoint.
	Prove(ctx context.Context, sequence uint64) (journal.Proof, error)
	// Export writes the records of one tunnel or legal entity, and the proof of the last.
	Export(ctx context.Context, of string, to io.Writer) (records int, err error)
	// Stats is what it takes on its disk.
	Stats() (journal.Stats, error)
}

type signer interface {
	// Settle makes and gives the newest signed checkpoint; "": nobody signs.
	Settle() string
	// PublicKey is of the key that signs; "": nobody does.
	PublicKey() string
	// RotateKey goes on with a new key, and gives its public half.
	RotateKey(ctx context.Context, lost bool, by journal.Actor) (public string, err error)
}

type reader interface {
	// Query gives at most limit events that a filter chooses, with sequences above after, oldest first, and how far it looked.
	Query(ctx context.Context, after uint64, limit int, filter journal.Filter) (events []journal.Event, looked uint64, err error)
	// Last is the newest sequence; 0: nothing happened yet.
	Last() uint64
	// Wait returns when there are events above after, or with the context's error.
	Wait(ctx context.Context, after uint64) error
	// Lines gives at most limit records as they stand in the files, with sequences above after, oldest first.
	Lines(ctx context.Context, after uint64, limit int) ([][]byte, error)
}
