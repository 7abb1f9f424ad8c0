package provisioning

import (
	"context"
	"strings"

	"shekara/journal"
)

// belonging adds to events about a tunnel which legal entity is at its far end: by both the journal links its records.
type belonging struct {
	Recorder
	engine *Engine
}

func (b belonging) Append(ctx context.Context, e journal.Event) (journal.Event, error) {
	return b.Recorder.Append(ctx, b.engine.whose(e))
}

func (b belonging) Post(e journal.Event) <-chan error { return b.Recorder.Post(b.engine.whose(e)) }

// whose asks the documents in force; of a tunnel that is gone nobody knows any more.
func (e *Engine) whose(event journal.Event) journal.Event {
	name, is := strings.CutPrefix(event.Object, "tunnel/")
	if !is {
		return event
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if d := e.documents.Tunnel(name); d != nil {
		_, far := e.endsOf(d)
		if peer := e.documents.Peer(far.Peer); peer != nil {
			event.Organisation = peer.Organisation
		}
	}
	return event
}
