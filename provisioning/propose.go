package provisioning

import (
	"context"
	"fmt"
	"maps"
	"reflect"
	"slices"

	"shekara/provisioning/compile"
	"shekara/provisioning/document"
	"shekara/provisioning/validate"
)

// The verbs of a Change.
const (
	verbAdd    = string(document.Add)
	verbChange = string(document.Modify)
	verbRemove = string(document.Remove)
)

func decode(files []document.File) ([]*document.Document, error) {
	documents, problems := document.Decode(files)
	if len(problems) > 0 {
		return nil, &InvalidError{Problems: problems}
	}
	return documents, nil
}

// propose judges a request against the documents in force. The caller holds writing.
func (e *Engine) propose(ctx context.Context, r Request, documents []*document.Document) (*proposal, error) {
	p := e.store.now()
	if p.Window != nil {
		return nil, e.pendingConflict(p)
	}
	if saw := max(r.Base, 0); r.Base != 0 && saw != p.Current {
		conflict := &ConflictError{Saw: saw, Newest: p.Current}
		if current, err := e.store.get(p.Current); err == nil {
			conflict.Actor = current.Actor
		}
		return nil, conflict
	}
	e.mu.Lock()
	now := e.documents
	e.mu.Unlock()
	var next *document.Set
	var changes []document.Change
	if r.Whole {
		next, changes = now.Replace(documents)
	} else {
		next, changes = now.Merge(documents)
	}
	prop, err := e.proposal(ctx, next, changes, p.Current)
	if err != nil {
		return nil, err
	}
	prop.actor, prop.message, prop.within = r.Actor, r.Message, r.ConfirmWithin
	return prop, nil
}

// proposal judges and compiles a set of documents that differs from the one in force by changes.
func (e *Engine) proposal(_ context.Context, next *document.Set, changes []document.Change, base int) (*proposal, error) {
	affected := next.Affected(changes)
	if next.Len() > 0 { // without any document nothing is asked of this box
		if problems := validate.Check(next, validate.Options{Site: e.options.Site, Scope: affected}); len(problems) > 0 {
			return nil, &InvalidError{Problems: problems}
		}
	}
	patch, scope, err := e.patchTo(next, changes, affected)
	if err != nil {
		return nil, err
	}
	failed, err := CheckAssertions(next, e.options.Site)
	if err != nil {
		return nil, err
	}
	if len(failed) > 0 {
		return nil, &InvalidError{Problems: failed}
	}
	prop := &proposal{base: base, next: next, patch: patch, scope: scope, changes: changesOf(changes)}
	e.mu.Lock()
	prop.risks = risksOf(&e.intent, patch, changes, e.options.Site)
	now := e.documents
	e.mu.Unlock()
	prop.waived = e.newlyWaived(now, next)
	prop.risks = append(prop.risks, prop.waived...)
	return prop, nil
}

func changeOf(c document.Change) Change {
	change := Change{Verb: string(c.Verb), Kind: c.Ref.Kind, Name: c.Ref.Name}
	if c.Before != nil {
		change.Before = c.Before.Canonical()
	}
	if c.After != nil {
		change.After = c.After.Canonical()
	}
	return change
}

// risksOf says in what a change could lock its author out.
func risksOf(i *intent, p patch, changes []document.Change, site string) []string {
	var risks []string
	for _, c := range changes {
		if c.Ref == (document.Ref{Kind: document.KindSite, Name: site}) {
			risks = append(risks, fmt.Sprintf("the Site document itself: %s", c.Verb))
		}
	}
	if p.base == nil {
		return risks
	}
	next := *p.base
	if !reflect.DeepEqual(i.base.Management, next.Management) {
		risks = append(risks, "who may reach the box itself (management)")
	}
	if p.present && len(next.Management.From) == 0 && (!i.present || len(i.base.Management.From) > 0) {
		risks = append(risks, "no management: nobody reaches the box itself over the network, not by SSH either")
	}
	if !reflect.DeepEqual(i.base.Interfaces, next.Interfaces) {
		risks = append(risks, "the interfaces and their zones")
	}
	if zonesOfInterfaces(i.base) != zonesOfInterfaces(next) {
		risks = append(risks, "the prefixes of a zone that an interface is in")
	}
	if i.present && p.present && !reflect.DeepEqual(i.base.Network.Routes, next.Network.Routes) {
		risks = append(risks, "an uplink or its gateway")
	}
	return risks
}

// zonesOfInterfaces is the prefixes of the zones that the box has an interface in: anti-spoofing drops what lies outside them.
func zonesOfInterfaces(b compile.Base) string {
	var text string
	for _, zone := range b.Zones {
		for _, i := range b.Interfaces {
			if i.Zone == zone.Name {
				text += fmt.Sprintln(i.Name, zone.Name, zone.Prefixes)
			}
		}
	}
	return text
}

// intentOf compiles a whole set. Mu is held, or nobody else knows the engine yet. Without a Site document for this box, or without any document, nothing of ours should be on the host.
func (e *Engine) intentOf(set *document.Set) (intent, error) {
	if set.Site(e.options.Site) == nil {
		return intent{}, nil
	}
	desired, err := compile.Compile(set, e.options.Site)
	if err != nil {
		return intent{}, err
	}
	if e.stopped {
		for name, t := range desired.Tunnels {
			desired.Tunnels[name] = e.withhold(t)
		}
		desired.Flows = map[string]compile.Flow{}
	}
	return intent{present: true, base: desired.Base, tunnels: desired.Tunnels, flows: desired.Flows}, nil
}

// patchTo compiles what the changes that led to a set touch: a tunnel's change looks at no other tunnel.
func (e *Engine) patchTo(next *document.Set, changes []document.Change, affected []document.Ref) (patch, scope, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.touchesBase(next, changes, affected) {
		after, err := e.intentOf(next)
		if err != nil {
			return patch{}, scope{}, err
		}
		p := e.intent.difference(after)
		return p, scope{base: p.base != nil, tunnels: slices.Sorted(maps.Keys(p.tunnels))}, nil
	}
	p := patch{tunnels: map[string]*compile.Tunnel{}, flows: map[string]*compile.Flow{}}
	resolver, err := compile.For(next, e.options.Site)
	if err != nil {
		return patch{}, scope{}, err
	}
	for _, c := range changes {
		if c.Verb == document.Remove {
			affected = append(affected, c.Ref)
		}
	}
	for _, ref := range affected {
		switch ref.Kind {
		case document.KindTunnel:
			t, here, err := resolver.Tunnel(ref.Name)
			if err != nil {
				return patch{}, scope{}, err
			}
			patchOne(p.tunnels, e.intent.tunnels, ref.Name, e.withhold(t), here)
		case document.KindFlow:
			f, here, err := resolver.Flow(ref.Name)
			if err != nil {
				return patch{}, scope{}, err
			}
			patchOne(p.flows, e.intent.flows, ref.Name, f, here && !e.stopped)
		}
	}
	return p, scope{tunnels: slices.Sorted(maps.Keys(p.tunnels))}, nil
}

func patchOne[T any](into map[string]*T, now map[string]T, name string, next T, here bool) {
	was, had := now[name]
	switch {
	case !here && had:
		into[name] = nil
	case here && (!had || !reflect.DeepEqual(was, next)):
		into[name] = &next
	}
}

// touchesBase reports whether a change may reach what is not one tunnel's: the Site, its own peers, the zones.
func (e *Engine) touchesBase(next *document.Set, changes []document.Change, affected []document.Ref) bool {
	site := next.Site(e.options.Site)
	if site == nil || !e.intent.present {
		return true
	}
	for _, c := range changes {
		switch c.Ref.Kind {
		case document.KindSite, document.KindZone:
			return true
		case document.KindTunnel: // of a translated one the device has a part
			for _, d := range []*document.Document{c.Before, c.After} {
				if d != nil && d.Spec.(*document.Tunnel).Translated() {
					return true
				}
			}
		case document.KindPeer:
			if slices.Contains(site.Peers, c.Ref.Name) {
				return true
			}
		}
	}
	return slices.ContainsFunc(affected, func(r document.Ref) bool { return r == document.Ref{Kind: document.KindSite, Name: e.options.Site} })
}

// read gives the documents of a revision that are valid, and what is wrong with the others. A newer program may judge what an older
// one took: a box must come up all the same with the rest.
func (e *Engine) read(id int) (*document.Set, []document.Problem, error) {
	texts, err := e.store.documents(id)
	if err != nil {
		return nil, nil, err
	}
	files := make([]document.File, 0, len(texts))
	for _, k := range sortedKeys(texts) {
		files = append(files, document.File{Name: fmt.Sprintf("revision %d: %s %s", id, k.kind, k.name), Data: []byte(texts[k])})
	}
	documents, problems := document.Decode(files)
	set := document.NewSet(documents...)
	if len(files) == 0 {
		return set, nil, nil
	}
	set, problems = validate.Valid(set, validate.Options{Site: e.options.Site}, problems)
	return set, problems, nil
}
