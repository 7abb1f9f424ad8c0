package provisioning

import (
	"context"
	"fmt"
	"io/fs"
	"maps"
	"slices"
	"time"

	"shekara/firewall/proof"
	"shekara/provisioning/compile"
	"shekara/provisioning/document"
	"shekara/provisioning/validate"
	"shekara/tunnels"
)

// History is the revisions that are kept, newest first.
func (e *Engine) History(context.Context) ([]Revision, error) { return e.store.list(), nil }

// Compare gives the documents that differ between two revisions; 0 is the empty set before the first.
func (e *Engine) Compare(_ context.Context, from, to int) ([]Change, error) {
	before, err := e.store.documents(from)
	if err != nil {
		return nil, err
	}
	after, err := e.store.documents(to)
	if err != nil {
		return nil, err
	}
	return compareSets(before, after), nil
}

// Documents is a revision as canonical YAML; 0 is the one in force.
func (e *Engine) Documents(_ context.Context, revision int) ([]byte, error) {
	if revision == 0 {
		revision = e.store.now().Current
	}
	set, err := e.store.documents(revision)
	if err != nil {
		return nil, err
	}
	var text []byte
	for i, k := range sortedKeys(set) {
		if i > 0 {
			text = append(text, "---\n"...)
		}
		text = append(text, set[k]...)
	}
	return text, nil
}

// Status is the box at a glance.
func (e *Engine) Status(context.Context) (Status, error) {
	p := e.store.now()
	e.mu.Lock()
	defer e.mu.Unlock()
	s := Status{
		Site: e.options.Site, Version: e.options.Version, Started: e.started.UTC(),
		Revision: p.Current, State: p.Phase, Tunnels: map[string]int{}, Engine: e.engineName(),
		Drift: slices.Clone(e.repairs.differs), DriftBy: slices.Clone(e.repairs.by), Alarms: slices.Clone(p.Alarms), Problems: slices.Clone(e.problems),
		LastObserved: e.world.seen.UTC(), Clock: e.clock, Incidents: e.openIncidents(),
	}
	s.Waivers = validate.Waivers(e.documents, validate.Options{Site: e.options.Site})
	if e.world.seen.IsZero() {
		s.LastObserved = time.Time{}
	}
	if p.Window != nil {
		s.ConfirmBy = &p.Window.Deadline
	}
	if e.repairs.held() {
		s.HoldUntil = timePointer(e.repairs.holdUntil)
	}
	for name := range e.intent.tunnels {
		s.Tunnels[e.stateOf(name)]++
	}
	s.AtLimit = e.atLimit()
	s.Failed = e.siteFailures()
	for _, name := range slices.Sorted(maps.Keys(e.troubles)) {
		err := e.troubles[name].err
		s.Failed = append(s.Failed, Failed{Tunnel: name, Error: err.Error(), Hint: hintOf(err)})
	}
	for _, other := range slices.Concat(e.world.shadowing, e.foreign) {
		s.Drift = append(s.Drift, notOursSay+other)
	}
	if e.repairs.stopped {
		s.Alarms = append(s.Alarms, "repairs stopped: somebody keeps changing this box. Find who; shekara apply or shekara hold 0s lets repairs go on")
	}
	if err := e.repairs.observing; err != nil {
		s.Alarms = append(s.Alarms, "the host cannot be looked at or configured: "+err.Error())
	}
	if s.Proof = e.proofStatus(); s.Proof != nil && s.Proof.Verdict == proof.Violated {
		s.Alarms = append(s.Alarms, "what is loaded is not what the documents allow: "+s.Proof.Finding+". shekara verify shows all")
	}
	health := e.options.Journal.Health()
	s.Journal, s.Units = journalStatus(health), e.unitsUnread
	if err := e.store.trouble(); err != nil {
		s.Alarms = append(s.Alarms, "revisions cannot be written: "+err.Error()+". Free room on the disk of the state folder, or see the daemon's log")
	}
	s.Alarms = append(s.Alarms, journalAlarms(health, e.stopped)...)
	s.Time = e.time
	s.Alarms = append(s.Alarms, timeAlarms(e.time, time.Now())...)
	for _, alarm := range []string{e.overloaded, e.deaf} {
		if alarm != "" {
			s.Alarms = append(s.Alarms, alarm)
		}
	}
	return s, nil
}

// engineName is what the devices that are there run on, or what was asked for.
func (e *Engine) engineName() string {
	for _, name := range slices.Sorted(maps.Keys(e.world.devices)) {
		if engine := e.world.devices[name].Engine; engine != "" {
			return string(engine)
		}
	}
	return e.intent.base.Engine
}

func (e *Engine) stateOf(name string) string {
	if e.troubles[name] != nil {
		return string(tunnels.Failed)
	}
	if v := e.health[name]; v != nil && v.health.Status().State != "" {
		return string(v.health.Status().State)
	}
	return string(tunnels.Configured)
}

// Tunnels is every tunnel that ends here, by name.
func (e *Engine) Tunnels(context.Context) ([]TunnelStatus, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	all := make([]TunnelStatus, 0, len(e.intent.tunnels))
	for _, name := range slices.Sorted(maps.Keys(e.intent.tunnels)) {
		all = append(all, e.tunnelStatus(name, e.intent.tunnels[name]))
	}
	return all, nil
}

// Tunnel is one of them; fs.ErrNotExist if there is none of that name.
func (e *Engine) Tunnel(_ context.Context, name string) (TunnelStatus, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	t, there := e.intent.tunnels[name]
	if !there {
		return TunnelStatus{}, hinted(fmt.Errorf("tunnel %q: %w", name, fs.ErrNotExist), "shekara tunnel list shows those that end here")
	}
	return e.tunnelStatus(name, t), nil
}

func (e *Engine) tunnelStatus(name string, t compile.Tunnel) TunnelStatus {
	device := e.intent.base.Devices[t.Spec.Device].Spec
	state := e.world.devices[t.Spec.Device]
	peer := state.Peers[t.Spec.PublicKey]
	s := TunnelStatus{
		Name: name, State: e.stateOf(name), Device: t.Spec.Device, Engine: string(state.Engine), LocalPeer: device.LocalPeer,
		LocalIP: addressText(device.LocalIP.IsValid(), device.LocalIP.String()), RouteTable: routeTable(t),
		LocalPrefixes: []string{}, RemotePrefixes: []string{},
		LastHandshake: timePointer(peer.LastHandshake), ReceivedBytes: peer.ReceivedBytes, SentBytes: peer.SentBytes,
	}
	if t.Unsupported == "" {
		s.PublicKey = t.Spec.PublicKey.String()
	}
	s.Limits = e.limitsOf(name)
	if peer.Endpoint.IsValid() {
		s.Endpoint = peer.Endpoint.String()
	}
	if d := e.documents.Tunnel(name); d != nil {
		e.fromDocument(&s, d)
	}
	if v := e.health[name]; v != nil {
		health := v.health.Status()
		s.Reason, s.Hint, s.Since = health.Reason, health.Hint, health.Since.UTC()
		if t.Probe != nil {
			s.Probe = v.probe.status(t.Probe.Remote)
		}
	}
	if trouble := e.troubles[name]; trouble != nil {
		s.Reason, s.Hint, s.Since, s.NextRetry = trouble.err.Error(), hintOf(trouble.err), trouble.since.UTC(), timePointer(trouble.next)
	}
	return s
}

// endsOf are the ends of a tunnel as this box sees them. Mu is held.
func (e *Engine) endsOf(d *document.Tunnel) (local, far document.End) {
	if site := e.documents.Site(e.options.Site); site != nil && slices.Contains(site.Peers, d.Owner.Peer) {
		return d.Owner, d.Initiator
	}
	return d.Initiator, d.Owner
}

func (e *Engine) fromDocument(s *TunnelStatus, d *document.Tunnel) {
	local, far := e.endsOf(d)
	s.Environment, s.Protocol, s.LocalPeer, s.RemotePeer = string(d.Environment), d.Protocol, local.Peer, far.Peer
	s.LocalPrefixes, s.RemotePrefixes = slices.Clone(local.Prefixes), slices.Clone(far.Prefixes)
	s.LocalShown = slices.Clone(local.Hide)
	if len(far.Mapped)+len(far.Hide) > 0 {
		s.RemoteKnown = slices.Clone(far.Known())
	}
	if t := e.intent.base.Devices[s.Device].Filter.Translation; t != nil {
		s.ConntrackZone = t.Zone
	}
}

func addressText(valid bool, text string) string {
	if valid {
		return text
	}
	return ""
}

func routeTable(t compile.Tunnel) uint32 {
	if len(t.Routes) == 0 {
		return 0
	}
	return t.Routes[len(t.Routes)-1].Table // of a mapped far side that of its own range
}
