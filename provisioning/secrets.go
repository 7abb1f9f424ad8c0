package provisioning

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"

	"shekara/journal"
	"shekara/netctl/secret"
	"shekara/provisioning/document"
	"shekara/tunnels"
)

// secretName lets people name a preshared key as Tunnel documents do; a name with its kind is taken as it is.
func secretName(name string) string {
	if strings.Contains(name, "/") {
		return name
	}
	return presharedName(name)
}

// Secrets are the names of all secrets, sorted.
func (e *Engine) Secrets(context.Context) ([]string, error) { return e.options.Secrets.List() }

// NewSecret makes a secret on the box; fs.ErrExist if there is one of that name.
func (e *Engine) NewSecret(ctx context.Context, name string, by journal.Actor) error {
	if err := e.evidence(); err != nil {
		return err
	}
	name = secretName(name)
	if _, err := e.options.Secrets.New(name, false); err != nil {
		return err
	}
	e.secretArrived(ctx, journal.SecretMake, name, by)
	return nil
}

// ImportSecret keeps a secret that came from elsewhere: sealed to this box's Recipient, or as wg(8) writes a key. fs.ErrExist if
// another one has the name.
func (e *Engine) ImportSecret(ctx context.Context, name string, value []byte, by journal.Actor) error {
	if err := e.evidence(); err != nil {
		return err
	}
	name = secretName(name)
	key, err := secret.ParseKey(value)
	if err == nil {
		err = e.options.Secrets.Import(name, key, false)
	} else {
		err = e.options.Secrets.ImportSealed(name, value, false)
	}
	if err != nil {
		return err
	}
	e.secretArrived(ctx, journal.SecretImport, name, by)
	return nil
}

// secretArrived makes the tunnels that wait for the secret due.
func (e *Engine) secretArrived(ctx context.Context, t journal.Type, name string, by journal.Actor) {
	e.mu.Lock()
	delete(e.keys, name)
	for _, trouble := range e.troubles {
		if !trouble.soft {
			trouble.next = e.started // long ago
		}
	}
	e.mu.Unlock()
	e.record(ctx, journal.Event{Type: t, Severity: journal.Notice, Actor: by, Object: "secret/" + name, Message: "a secret is on the box"})
	e.retry.poke()
}

// ExportSecret seals a secret to a recipient ("age1..."). It is recorded before it is handed out.
func (e *Engine) ExportSecret(ctx context.Context, name, recipient string, by journal.Actor) ([]byte, error) {
	name = secretName(name)
	sealed, err := e.options.Secrets.Export(name, recipient)
	if err != nil {
		return nil, err
	}
	if err := e.mustRecord(ctx, journal.Event{Type: journal.SecretExport, Severity: journal.Notice, Actor: by, Object: "secret/" + name,
		Message: "a secret was sealed to " + recipient, Fields: map[string]string{"recipient": recipient}}); err != nil {
		return nil, err
	}
	return sealed, nil
}

// Recipient is to whom others seal what is meant for this box.
func (e *Engine) Recipient(context.Context) (string, error) { return e.options.Secrets.Recipient() }

// PeerExport is this box's Peer documents with its public keys, for the far ends. Keys that are not there yet are made.
func (e *Engine) PeerExport(context.Context) ([]byte, error) {
	e.mu.Lock()
	set, base := e.documents, e.intent.base
	e.mu.Unlock()
	site := set.Site(e.options.Site)
	if site == nil {
		return nil, hinted(fmt.Errorf("site %q: %w", e.options.Site, fs.ErrNotExist), "apply documents with a Site of that name first")
	}
	var text []byte
	for _, name := range site.Peers {
		peer := set.Peer(name)
		if peer == nil {
			continue
		}
		out := *peer
		out.WireGuard = slices.Clone(peer.WireGuard)
		for i := range out.WireGuard {
			port := &out.WireGuard[i]
			for _, d := range base.Devices {
				if d.Spec.LocalPeer != name || d.Spec.FarZone != port.FarZone || d.Spec.Environment != string(port.Environment) || d.Spec.Tunnel != port.Tunnel {
					continue
				}
				private, err := e.options.Secrets.GetOrNew(d.KeyName)
				if err != nil {
					return nil, err
				}
				public, err := tunnels.PublicKeyOf(private)
				if err != nil {
					return nil, err
				}
				port.PublicKey = public.String()
			}
		}
		made, err := document.New(name, &out)
		if err != nil {
			return nil, err
		}
		if len(text) > 0 {
			text = append(text, "---\n"...)
		}
		text = append(text, made.Canonical()...)
	}
	return text, nil
}

// Cleanup removes all that bears our name from the host: devices, routes, rules, the filter table, and puts sysctls back. No daemon
// may be running. What is in the state folder stays.
func Cleanup(ctx context.Context, o Options, actor journal.Actor) error {
	devices, err := o.Tunnels.Observe(ctx)
	errs := []error{err}
	ops := tunnels.Diff(nil, nil, devices)
	for _, failure := range o.Tunnels.Apply(ctx, ops) {
		errs = append(errs, failure)
	}
	errs = append(errs, o.Network.Cleanup(ctx), o.Filter.Remove(ctx))
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("clean up: %w", err)
	}
	_, err = o.Journal.Append(ctx, journal.Event{Type: journal.HostClean, Severity: journal.Notice, Actor: actor, Message: "all that bears our name was removed from this host"})
	return err
}
