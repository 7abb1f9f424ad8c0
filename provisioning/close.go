package provisioning

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strconv"

	"shekara/firewall"
	"shekara/journal"
)

// ClosedFilter is the loader of the packet filter at boot: engine.Loader.
type ClosedFilter interface {
	// LoadIfAbsent loads the ruleset unless one of ours is there, and says whether it did.
	LoadIfAbsent(ctx context.Context, r firewall.Ruleset) (bool, error)
}

// Close closes the border until the daemon has loaded its policy: if there is no ruleset of ours it loads one that forwards nothing and lets
// in what the last confirmed revision lets manage the box. The daemon's first ruleset takes its place in one transaction. Of options it
// needs Site and StateDir; record puts what was done on record, and is called after it is done.
//
// A box of which nothing was ever asked is left as it is. Where the revision cannot be read or loaded, nothing is forwarded and the box itself
// stays open, so that somebody can see to it; the error says why.
func Close(ctx context.Context, o Options, filter ClosedFilter, record func(journal.Event) error) (closed bool, err error) {
	ruleset, asked, revision, why := closedRuleset(o)
	if !asked {
		return false, nil
	}
	if closed, err = filter.LoadIfAbsent(ctx, ruleset); err != nil && why == nil {
		why = err // a revision that cannot be loaded is as one that cannot be read
		if closed, err = filter.LoadIfAbsent(ctx, firewall.ForwardingClosed()); err == nil && !closed {
			return false, fmt.Errorf("close the border: %w", why) // part of it was loaded
		}
	}
	if err != nil {
		return false, errors.Join(fmt.Errorf("close the border: %w", err), why)
	}
	if !closed {
		return false, nil
	}
	event := journal.Event{Type: journal.FilterClose, Severity: journal.Notice, Object: revisionObject(revision),
		Message: "nothing is forwarded until the daemon has loaded its policy; management of revision " + strconv.Itoa(revision) + " is let in"}
	if why != nil {
		event.Severity = journal.Alert
		event.Message = shorten("nothing is forwarded, and the box itself is open, as it is not known who may manage it: " + why.Error())
	}
	return true, errors.Join(why, record(event))
}

// closedRuleset is the last confirmed revision's, without what tunnels and flows put into it.
func closedRuleset(o Options) (r firewall.Ruleset, asked bool, revision int, why error) {
	fallback := firewall.ForwardingClosed()
	s, err := openStore(filepath.Join(o.StateDir, "revisions"), realDisk{})
	if err != nil {
		return fallback, true, 0, err
	}
	defer func() { why = errors.Join(why, s.close()) }()
	p := s.now()
	if p.Newest == 0 {
		return firewall.Ruleset{}, false, 0, nil
	}
	e := newEngine(o, s)
	set, _, err := e.read(p.Confirmed)
	if err != nil {
		return fallback, true, p.Confirmed, err
	}
	next, err := e.intentOf(set)
	if err == nil && !next.present {
		err = fmt.Errorf("revision %d does not describe the Site %q", p.Confirmed, o.Site)
	}
	if err != nil {
		return fallback, true, p.Confirmed, err
	}
	base, err := firewall.CompileBase(policyOf(next.base))
	if err != nil {
		return fallback, true, p.Confirmed, err
	}
	if r, err = base.Ruleset(nil); err != nil {
		return fallback, true, p.Confirmed, err
	}
	return r, true, p.Confirmed, nil
}
