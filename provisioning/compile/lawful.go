package compile

import (
	"fmt"
	"strings"

	"shekara/firewall"
	"shekara/provisioning/contour"
	"shekara/provisioning/document"
)

// lawful is the error of a contour rule that is broken. Validation refuses the same on the documents; this is the second look, on what was
// compiled from them: the prefixes, the zones and the devices that would be made real, and the registers that they lean on.
func lawful(kind document.Kind, name string, broken []contour.Finding) error {
	if len(broken) == 0 {
		return nil
	}
	return fmt.Errorf("compile %s %q: %w", strings.ToLower(string(kind)), name, broken[0])
}

// lawfulBase judges what flows and tunnels are judged by, and who manages the box.
func (r *Resolver) lawfulBase(b *Base) error {
	for _, z := range b.Zones {
		if err := lawful(document.KindZone, z.Name, r.judge.Zone(r.set.Zone(z.Name))); err != nil {
			return err
		}
	}
	for d := range r.set.Of(document.KindSystem) {
		if err := lawful(d.Kind, d.Name, r.judge.System(r.set.System(d.Name))); err != nil {
			return err
		}
	}
	for d := range r.set.Of(document.KindService) {
		if err := lawful(d.Kind, d.Name, r.judge.Service(r.set.Service(d.Name))); err != nil {
			return err
		}
	}
	return lawful(document.KindSite, r.name, r.judge.Management(b.Management.Zone))
}

// lawfulFlow judges a compiled flow; environment is its tunnel's, or "".
func (r *Resolver) lawfulFlow(made firewall.Flow, environment document.Environment, written *document.Flow) error {
	f := contour.Flow{From: contour.Side{Zone: r.zoneOf(made.From), Prefixes: made.Sources, Path: "spec.from"},
		To:     contour.Side{Zone: r.zoneOf(made.To), Prefixes: made.Destinations, Path: "spec.to"},
		Tunnel: made.Tunnel != "", Environment: environment, Services: made.Services, Service: written.Service, Waiver: written.Waiver}
	broken, _ := r.judge.Flow(&f)
	return lawful(document.KindFlow, made.Name, broken)
}

// zoneOf is the zone behind a place of the filter: behind a device, the zone of the far ends that it serves.
func (r *Resolver) zoneOf(p firewall.Place) string {
	if p.Device == "" {
		return p.Zone
	}
	for key, link := range r.links {
		if link == p.Device {
			return key.farZone
		}
	}
	return ""
}

// lawfulTunnel judges the two ends of a tunnel: the far one as it was compiled, where it was (IPsec is not yet), and what of this side
// stands in the tunnel by the translation that was compiled.
func (r *Resolver) lawfulTunnel(name string, t *document.Tunnel, e ends, made *Tunnel) error {
	far, err := prefixes(e.far.Prefixes)
	if err != nil {
		return fmt.Errorf("compile tunnel %q: %w", name, err)
	}
	near := contour.Side{Zone: e.local.Zone, Prefixes: e.inside, Shown: e.inside, Path: "spec.prefixes"}
	other := contour.Side{Zone: e.far.Zone, Prefixes: far, Shown: far, Path: "spec.prefixes"}
	if made != nil {
		other.Zone, other.Shown = r.zoneOf(firewall.Place{Device: made.Spec.Device}), made.Spec.AllowedIPs
		hidden, err := mappings(e.local.Prefixes, e.local.Hide)
		if err != nil {
			return fmt.Errorf("compile tunnel %q: %w", name, err)
		}
		near.Shown = nil
		for _, p := range e.inside {
			out, _ := firewall.Out(hidden, p)
			near.Shown = append(near.Shown, out)
		}
	}
	judged := contour.Tunnel{Initiator: near, Owner: other, CryptoModule: t.CryptoModule, IPsec: t.IPsec}
	return lawful(document.KindTunnel, name, r.judge.Tunnel(&judged))
}
