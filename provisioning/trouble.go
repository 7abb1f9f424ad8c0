package provisioning

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"math/rand/v2"
	"net/netip"
	"slices"
	"time"

	"shekara/journal"
	"shekara/netctl/secret"
	"shekara/provisioning/compile"
	"shekara/tunnels"
)

const (
	firstRetry = 2 * time.Second
	lastRetry  = 5 * time.Minute
)

// trouble is a tunnel's own error. Everything else goes on.
type trouble struct {
	err      error
	soft     bool // only the endpoint is missing: the rest of the tunnel is in force and kept so
	since    time.Time
	next     time.Time // of the next retry
	attempts int
}

func (t *trouble) due() bool { return !time.Now().Before(t.next) }

// backOff doubles from 2 s to 5 min, a quarter more or less, so that 10,000 tunnels with one cause do not come back at one moment.
func backOff(attempts int) time.Duration {
	d := lastRetry
	if attempts < 8 {
		d = min(firstRetry<<attempts, lastRetry)
	}
	return d - d/4 + rand.N(d/2)
}

// settleTroubles notes the outcome for each tunnel that was tried, and journals what is new. It expects mu not to be held.
func (e *Engine) settleTroubles(ctx context.Context, found map[string]error, soft map[string]bool) {
	var events []journal.Event
	e.mu.Lock()
	for name, err := range found {
		had := e.troubles[name]
		switch {
		case err == nil && had == nil:
		case err == nil:
			delete(e.troubles, name)
			events = append(events, journal.Event{Type: journal.TunnelRecover, Severity: journal.Notice, Object: "tunnel/" + name,
				Message: "its own error is gone: " + had.err.Error()})
		case had == nil || had.err.Error() != err.Error():
			e.troubles[name] = &trouble{err: err, soft: soft[name], since: time.Now(), next: time.Now().Add(backOff(0))}
			events = append(events, journal.Event{Type: journal.TunnelFail, Severity: journal.Error, Object: "tunnel/" + name,
				Message: err.Error(), Fields: fieldsOf("hint", hintOf(err))})
		default:
			had.attempts++
			had.soft, had.next = soft[name], time.Now().Add(backOff(had.attempts))
		}
	}
	for name := range e.troubles {
		if _, there := e.intent.tunnels[name]; !there {
			delete(e.troubles, name)
		}
	}
	e.mu.Unlock()
	for _, event := range events {
		e.record(ctx, event)
	}
	e.retry.poke()
}

// settleRefused notes which steps of the site's own the host refused. In a whole comparison a step that was not asked for any more is
// forgotten.
func (e *Engine) settleRefused(ctx context.Context, done []string, refused map[string]error, whole bool) {
	var events []journal.Event
	e.mu.Lock()
	if whole {
		maps.DeleteFunc(e.refused, func(text string, _ *trouble) bool { return refused[text] == nil })
	}
	for _, text := range done {
		delete(e.refused, text)
	}
	for text, err := range refused {
		t := e.refused[text]
		if t == nil || t.err.Error() != err.Error() {
			t = &trouble{since: time.Now(), attempts: -1}
			e.refused[text] = t
			events = append(events, journal.Event{Type: journal.HostFail, Severity: journal.Error, Object: "site", Message: shorten(text + ": " + err.Error())})
		}
		t.err = err
		t.attempts++
		t.next = time.Now().Add(backOff(t.attempts))
	}
	e.mu.Unlock()
	for _, event := range events {
		e.record(ctx, event)
	}
}

// siteFailures are the errors that belong to no single tunnel. Mu is held.
func (e *Engine) siteFailures() []Failed {
	failed := slices.Clone(e.lacking)
	for _, text := range slices.Sorted(maps.Keys(e.refused)) {
		failed = append(failed, Failed{Error: text + ": " + e.refused[text].err.Error(), Hint: "it is tried again by itself"})
	}
	return failed
}

func fieldsOf(pairs ...string) map[string]string {
	fields := map[string]string{}
	for i := 0; i+1 < len(pairs); i += 2 {
		if pairs[i+1] != "" {
			fields[pairs[i]] = pairs[i+1]
		}
	}
	return fields
}

// keepRetrying tries tunnels with an error of their own again, each at its own time.
func (e *Engine) keepRetrying(ctx context.Context) {
	for {
		timer := time.NewTimer(e.nextRetry())
		select {
		case <-ctx.Done():
			timer.Stop()
			return
		case <-e.retry:
			timer.Stop()
		case <-timer.C:
			e.retryDue(ctx)
		}
	}
}

func (e *Engine) nextRetry() time.Duration {
	e.mu.Lock()
	defer e.mu.Unlock()
	nearest := time.Hour
	for _, t := range e.troubles {
		nearest = min(nearest, time.Until(t.next))
	}
	return max(nearest, 10*time.Millisecond)
}

func (e *Engine) retryDue(ctx context.Context) {
	if e.lock(ctx) != nil {
		return
	}
	defer e.unlock()
	var names []string
	e.mu.Lock()
	for name, t := range e.troubles {
		if t.due() {
			names = append(names, name)
		}
	}
	held := e.repairs.held()
	e.mu.Unlock()
	if len(names) == 0 {
		return
	}
	if held {
		// Somebody works by hand: nothing is changed. The retry moves on, so that this does not spin.
		e.mu.Lock()
		for _, name := range names {
			e.troubles[name].next = time.Now().Add(backOff(e.troubles[name].attempts))
		}
		e.mu.Unlock()
		return
	}
	e.resolve(ctx, names, patch{}, retryLookup)
	if _, err := e.converge(ctx, scope{tunnels: names}, patch{}); err != nil {
		e.options.Log.Warn("retry", "tunnels", len(names), "error", err)
		e.mu.Lock()
		for _, name := range names {
			if t := e.troubles[name]; t != nil {
				t.attempts++
				t.next = time.Now().Add(backOff(t.attempts))
			}
		}
		e.mu.Unlock()
	}
}

// fill completes a tunnel's spec with what documents do not hold: its preshared key, and its endpoint as an address. made says whether
// the peer may be configured; with an error and made, all of it is but what the error names. It expects mu to be held.
func (e *Engine) fill(t compile.Tunnel, base compile.Base) (spec tunnels.Spec, made bool, err error) {
	spec = t.Spec
	device, there := base.Devices[t.Spec.Device]
	if !there {
		return spec, false, fmt.Errorf("no device %s", t.Spec.Device)
	}
	spec.LocalIP = device.Spec.LocalIP
	if err := e.checkDeviceKey(device); err != nil {
		return spec, false, err
	}
	if t.PresharedKey != "" {
		spec.PresharedKey, err = e.presharedKey(presharedName(t.PresharedKey))
		if errors.Is(err, fs.ErrNotExist) {
			return spec, false, hinted(fmt.Errorf("preshared key %q is not on this box", t.PresharedKey), "shekara secret import "+t.PresharedKey)
		}
		if err != nil {
			return spec, false, fmt.Errorf("read preshared key %q: %w", t.PresharedKey, err)
		}
	}
	if !e.world.holds(device.Spec.LocalIP) {
		err = hinted(fmt.Errorf("no interface of this box has the address %s of peer %s", device.Spec.LocalIP, device.Spec.LocalPeer),
			"add the address to the uplink, or correct the Peer document")
	}
	if unreadable := e.unreadable[device.KeyName]; unreadable != nil {
		err = errors.Join(err, hinted(fmt.Errorf("private key of device %s: %w", device.Spec.Name, unreadable),
			"make the file readable again, or bring the key with shekara secret import "+device.KeyName+"; a device that runs keeps its key"))
	}
	address, endpointErr := e.endpoint(t)
	if address.IsValid() {
		spec.Endpoint = netip.AddrPortFrom(address, t.EndpointPort)
	}
	return spec, true, errors.Join(err, endpointErr)
}

// presharedName is what the store calls the secret that a Tunnel document names.
func presharedName(name string) string { return secret.Preshared + "/" + name }

// presharedKey reads a secret once. It expects mu to be held.
func (e *Engine) presharedKey(name string) (secret.Key, error) {
	if key, known := e.keys[name]; known {
		return key, nil
	}
	key, err := e.options.Secrets.Get(name)
	if err == nil {
		e.keys[name] = key
	}
	return key, err
}

// keyPair is a private key with the public key that was derived from it.
type keyPair struct {
	private secret.Key
	public  tunnels.PublicKey
}

// publicKey derives the public key of a device once: it takes 50 µs, and each tunnel of the device asks. It expects mu to be held.
func (e *Engine) publicKey(name string, private secret.Key) (tunnels.PublicKey, error) {
	if pair, known := e.pairs[name]; known && pair.private.Equal(private) {
		return pair.public, nil
	}
	public, err := tunnels.PublicKeyOf(private)
	if err == nil {
		e.pairs[name] = keyPair{private, public}
	}
	return public, err
}

// checkDeviceKey compares the private key on this box with the public key in the documents, which is what the far side expects.
func (e *Engine) checkDeviceKey(d compile.Device) error {
	private, have := e.keys[d.KeyName]
	if !have {
		return nil // it is made at apply
	}
	public, err := e.publicKey(d.KeyName, private)
	if err != nil {
		return fmt.Errorf("private key %s: %w", d.KeyName, err)
	}
	if d.PublicKey != (tunnels.PublicKey{}) && d.PublicKey != public {
		return hinted(fmt.Errorf("the private key on this box makes %s, but Peer %s says %s", public, d.Spec.LocalPeer, d.PublicKey),
			"shekara secret import "+d.KeyName+" brings the other key; shekara peer export prints the document for this one")
	}
	return nil
}
