package provisioning

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"golang.org/x/sync/errgroup"

	"shekara/journal"
	"shekara/tunnels"
)

const (
	sampleEvery = 2 * time.Second // each tunnel is judged
	peersEvery  = time.Second     // the devices are looked at: no notification tells that somebody changed a peer by wg(8)
	// sampleShare bounds what looking costs: a look that takes 200 ms is repeated every 4 s, not every 2.
	sampleShare  = 20
	probesAtOnce = 256
	probesKept   = 20
	probeTimeout = 3 * time.Second
)

// vitals is what samples say of one tunnel.
type vitals struct {
	health tunnels.Health
	probe  probes
	roam   roaming
}

// probes are the last ones of one tunnel.
type probes struct {
	busy     bool
	sent     time.Time
	answered time.Time
	results  []time.Duration // of the last probesKept; negative: lost
	err      error
}

func (p *probes) add(latency time.Duration, err error) {
	p.err = err
	if err != nil {
		latency = -1
	} else {
		p.answered = time.Now()
	}
	p.results = append(p.results, latency)
	p.results = p.results[max(0, len(p.results)-probesKept):]
}

// status is nil if nothing was sent.
func (p *probes) status(target netip.Addr) *ProbeStatus {
	if p.sent.IsZero() {
		return nil
	}
	s := &ProbeStatus{Target: target.String(), Sent: len(p.results)}
	var answered []time.Duration
	for _, latency := range p.results {
		if latency < 0 {
			s.Lost++
		} else {
			answered = append(answered, latency)
		}
	}
	if len(answered) > 0 {
		slices.Sort(answered)
		s.Latency = answered[len(answered)/2]
	}
	s.Answered = timePointer(p.answered)
	if p.err != nil {
		s.Error = p.err.Error()
	}
	return s
}

func timePointer(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	t = t.UTC()
	return &t
}

// keepSampling looks at all devices every second, cheaply, for what others changed, and judges each tunnel every two.
func (e *Engine) keepSampling(ctx context.Context) {
	wait, judge := peersEvery, time.Now().Add(sampleEvery)
	for {
		timer := time.NewTimer(wait)
		select {
		case <-ctx.Done():
			timer.Stop()
			return
		case <-timer.C:
		}
		began := time.Now()
		due := !began.Before(judge)
		if due {
			judge = began.Add(sampleEvery)
		}
		e.sample(ctx, due)
		wait = max(peersEvery, sampleShare*time.Since(began))
	}
}

// stuckPeer is a peer that hangs in its handshake.
type stuckPeer struct {
	tunnel, device string
	key            tunnels.PublicKey
}

// sample looks at the devices. A change that is not ours makes the loop look at the whole host, which says what and repairs it.
func (e *Engine) sample(ctx context.Context, judge bool) {
	e.mu.Lock()
	writes := e.writes
	e.mu.Unlock()
	states, err := e.options.Tunnels.Observe(ctx)
	if err != nil {
		return // the loop reports it
	}
	e.mu.Lock()
	if writes == e.writes {
		if !sameSettings(e.world.devices, states) {
			e.look.poke()
		}
		e.sights++
		e.world.setDevices(states)
	}
	e.mu.Unlock()
	if judge {
		e.judgeTunnels(ctx)
	}
}

// sameSettings says whether devices and peers are set as before, whatever passed through them and wherever the far ends are now.
func sameSettings(before map[string]tunnels.DeviceState, after []tunnels.DeviceState) bool {
	if len(before) != len(after) {
		return false
	}
	for _, d := range after {
		old, there := before[d.Name]
		if !there || d.Port != old.Port || d.Mark != old.Mark || d.MTU != old.MTU || d.Up != old.Up || d.PublicKey != old.PublicKey ||
			(d.Err == nil) != (old.Err == nil) || len(d.Peers) != len(old.Peers) {
			return false
		}
		for key, peer := range d.Peers {
			was, there := old.Peers[key]
			if !there || peer.Keepalive != was.Keepalive || !peer.PresharedKey.Equal(was.PresharedKey) || !slices.Equal(peer.AllowedIPs, was.AllowedIPs) {
				return false
			}
		}
	}
	return true
}

func (e *Engine) judgeTunnels(ctx context.Context) {
	now := time.Now()
	var events []journal.Event
	var stuck []stuckPeer
	e.mu.Lock()
	for name, t := range e.intent.tunnels {
		v := e.health[name]
		if v == nil {
			v = &vitals{}
			e.health[name] = v
		}
		s := tunnels.SampleOf(now, e.world.devices[t.Spec.Device], t.Spec.PublicKey)
		s.ProbeSent, s.ProbeAnswered = v.probe.sent, v.probe.answered
		if trouble := e.troubles[name]; trouble != nil {
			s.Err = trouble.err
		}
		before := v.health.Status().State
		after := v.health.Observe(s)
		// Where a tunnel begins is no change; what it becomes is.
		if before != after.State && before != "" {
			events = append(events, stateEvent(name, before, after))
		}
		if event, roamed := v.roam.observe(now, name, t.Spec.Endpoint, e.world.devices[t.Spec.Device].Peers[t.Spec.PublicKey]); roamed {
			events = append(events, event)
		}
		if v.health.Stuck() {
			stuck = append(stuck, stuckPeer{name, t.Spec.Device, t.Spec.PublicKey})
		}
	}
	for name := range e.health {
		if _, there := e.intent.tunnels[name]; !there {
			delete(e.health, name)
		}
	}
	e.mu.Unlock()
	e.recordAll(ctx, events)
	e.reset(ctx, stuck)
}

// beginHealth takes a peer that was just added for the first sample: its counters began at zero, so what they say at the next one was
// sent since. Else the data that passed before the first look would prove nothing. Mu is held.
func (e *Engine) beginHealth(peer tunnels.Spec) {
	v := e.health[peer.Tunnel]
	if v == nil {
		v = &vitals{}
		e.health[peer.Tunnel] = v
	}
	v.health.Observe(tunnels.SampleOf(time.Now(), e.world.devices[peer.Device], peer.PublicKey))
}

func stateEvent(name string, before tunnels.State, after tunnels.Status) journal.Event {
	severity := journal.Notice
	switch after.State {
	case tunnels.OneWay, tunnels.Stale:
		severity = journal.Warning
	case tunnels.Down, tunnels.Failed:
		severity = journal.Error
	}
	return journal.Event{Type: journal.TunnelState, Severity: severity, Object: "tunnel/" + name,
		Message: fmt.Sprintf("%s, was %s: %s", after.State, before, shorten(after.Reason)),
		Fields:  fieldsOf("before", string(before), "after", string(after.State))}
}

// reset starts peers anew that hang in their handshake, each alone. If somebody changes the host just now, the next sample asks again.
func (e *Engine) reset(ctx context.Context, stuck []stuckPeer) {
	if len(stuck) == 0 {
		return
	}
	select {
	case e.writing <- struct{}{}:
	default:
		return
	}
	defer e.unlock()
	for _, peer := range stuck {
		e.mu.Lock()
		held := e.repairs.held()
		e.mu.Unlock()
		if held {
			return
		}
		err := e.options.Tunnels.ResetPeer(ctx, peer.device, peer.key)
		e.mu.Lock()
		if v := e.health[peer.tunnel]; v != nil {
			v.health.Reset(time.Now())
		}
		e.mu.Unlock()
		event := journal.Event{Type: journal.TunnelReset, Severity: journal.Warning, Object: "tunnel/" + peer.tunnel,
			Message: "no handshake for over 210 seconds while packets wait: the peer was reset"}
		if err != nil {
			event.Severity, event.Message = journal.Error, "the peer hangs in its handshake and could not be reset: "+err.Error()
		}
		e.record(ctx, event)
	}
	e.look.poke()
}

// keepProbing sends echo requests through the tunnels that ask for them.
func (e *Engine) keepProbing(ctx context.Context) {
	if e.options.Prober == nil {
		return
	}
	var group errgroup.Group
	group.SetLimit(probesAtOnce)
	defer func() { _ = group.Wait() }()
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		for _, due := range e.probesDue() {
			if !group.TryGo(func() error {
				e.probe(ctx, due)
				return nil
			}) {
				e.endProbe(due.name, func(p *probes) {}) // too many at once: at the next tick
			}
		}
	}
}

type dueProbe struct {
	name          string
	local, remote netip.Addr
}

func (e *Engine) probesDue() []dueProbe {
	e.mu.Lock()
	defer e.mu.Unlock()
	var due []dueProbe
	now := time.Now()
	for name, t := range e.intent.tunnels {
		v := e.health[name]
		if v == nil || t.Probe == nil || !t.Probe.Remote.IsValid() || t.ProbeEvery <= 0 || v.probe.busy {
			continue
		}
		if now.Sub(v.probe.sent) < time.Duration(t.ProbeEvery)*time.Second {
			continue
		}
		v.probe.busy = true
		local := t.Probe.Local
		if !e.world.holds(local) {
			local = netip.Addr{} // a host behind us has it: the kernel chooses ours
		}
		due = append(due, dueProbe{name, local, t.Probe.Remote})
	}
	return due
}

func (e *Engine) probe(ctx context.Context, due dueProbe) {
	ctx, cancel := context.WithTimeout(ctx, probeTimeout)
	defer cancel()
	e.mu.Lock()
	if v := e.health[due.name]; v != nil {
		v.probe.sent = time.Now()
	}
	e.mu.Unlock()
	latency, err := e.options.Prober.Probe(ctx, due.local, due.remote)
	e.endProbe(due.name, func(p *probes) { p.add(latency, err) })
}

func (e *Engine) endProbe(name string, note func(*probes)) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if v := e.health[name]; v != nil {
		v.probe.busy = false
		note(&v.probe)
	}
}
