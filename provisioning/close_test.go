package provisioning

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"shekara/firewall"
	"shekara/journal"
)

// closedFilter is a packet filter at boot that takes no ruleset but one, and says what it was given last.
type closedFilter struct {
	refuses error // every ruleset that lets in management
	there   bool  // something of ours
	loaded  firewall.Ruleset
}

func (f *closedFilter) LoadIfAbsent(_ context.Context, r firewall.Ruleset) (bool, error) {
	if f.refuses != nil && !r.IsForwardingClosed() {
		return false, f.refuses
	}
	if f.there {
		return false, nil
	}
	f.there, f.loaded = true, r
	return true, nil
}

// TestCloseWithoutARevisionThatLoads: a revision that cannot be read, and one that the packet filter refuses, close forwarding all the same, and say why.
func TestCloseWithoutARevisionThatLoads(t *testing.T) {
	b := established(t, 1)
	b.kill()
	options := Options{Site: "owner", StateDir: b.dir, Log: discard()}
	closes := func(f *closedFilter) (bool, *journal.Event, error) {
		var recorded *journal.Event
		closed, err := Close(t.Context(), options, f, func(e journal.Event) error { recorded = &e; return nil })
		return closed, recorded, err
	}
	if closed, event, err := closes(&closedFilter{}); !closed || err != nil || event == nil || event.Severity != journal.Notice {
		t.Errorf("the control, a revision that loads: %v, %+v, %v", closed, event, err)
	}
	refuses := errors.New("the filter cannot hold 127 places")
	f := &closedFilter{refuses: refuses}
	closed, event, err := closes(f)
	if !closed || !errors.Is(err, refuses) || !f.loaded.IsForwardingClosed() || event == nil || event.Severity != journal.Alert || !strings.Contains(event.Message, "127 places") {
		t.Errorf("a revision that is refused: %v, %v, %+v", closed, err, event)
	}
	if closed, event, err := closes(&closedFilter{refuses: refuses, there: true}); closed || !errors.Is(err, refuses) || event != nil {
		t.Errorf("one that is loaded in part: %v, %v, %+v", closed, err, event)
	}
	if err := os.WriteFile(filepath.Join(b.dir, "revisions", "POINTERS"), []byte("nonsense"), 0o600); err != nil {
		t.Fatal(err)
	}
	f = &closedFilter{refuses: refuses}
	if closed, event, err := closes(f); !closed || err == nil || !f.loaded.IsForwardingClosed() || event == nil || event.Severity != journal.Alert {
		t.Errorf("a revision that cannot be read: %v, %+v, %v", closed, event, err)
	}
}
