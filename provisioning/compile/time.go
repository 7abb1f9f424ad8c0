package compile

import (
	"cmp"
	"maps"
	"net/netip"
	"slices"
	"time"

	"shekara/firewall"
	"shekara/provisioning/document"
	"shekara/timesync"
)

// What a TimeService leaves out; docs/documents.md names them.
const (
	maxDistance = 100 * time.Millisecond
	warnOffset  = 10 * time.Millisecond
)

// time is of whom the box learns the time, and whom it serves: the registered systems of the zones that are named.
func (r *Resolver) time() (*timesync.Spec, error) {
	name, written := r.set.TimeServiceOf(r.name)
	if written == nil {
		return nil, nil
	}
	spec := &timesync.Spec{Name: name, Engine: timesync.Engine(cmp.Or(written.Engine, string(timesync.EngineOwn))), Agreeing: written.MustAgree(), Withhold: written.Unsynchronised == "withhold", KeyFile: written.KeyFile}
	var err error
	if spec.MaxDistance, err = span(written.MaxDistance, maxDistance); err != nil {
		return nil, err
	}
	if spec.WarnOffset, err = span(written.WarnOffset, warnOffset); err != nil {
		return nil, err
	}
	for _, s := range written.Sources {
		spec.Sources = append(spec.Sources, timesync.Source{Name: s.Address, Address: s.Address, NTS: s.NTS, CA: s.CA, ServerName: s.ServerName, Key: uint32(s.Key)})
	}
	for _, s := range written.Addresses {
		a, err := document.ParseAddress(s)
		if err != nil {
			return nil, err
		}
		spec.Addresses = append(spec.Addresses, a)
	}
	if written.NTS != nil {
		spec.NTS = &timesync.NTS{Certificate: written.NTS.Certificate, Key: written.NTS.Key}
	}
	for d := range r.set.Of(document.KindSystem) {
		system := r.set.System(d.Name)
		if !slices.Contains(written.Zones, system.Zone) {
			continue
		}
		client := timesync.Client{System: d.Name}
		if client.Prefixes, err = prefixes(system.Prefixes); err != nil {
			return nil, err
		}
		for _, c := range written.Clients {
			if c.System == d.Name {
				client.Key, client.NTS = uint32(c.Key), c.NTS
			}
		}
		spec.Clients = append(spec.Clients, client)
	}
	return spec, nil
}

func span(text string, standard time.Duration) (time.Duration, error) {
	if text == "" {
		return standard, nil
	}
	return time.ParseDuration(text)
}

// Ports of NTP (RFC 5905) and of NTS key establishment (RFC 8915 section 4).
const (
	portNTP = 123
	portNTS = 4460
)

// offers open the filter to who is served: the systems of each zone, at its devices and its interfaces. Not at a device whose far side is mapped: what a server on the
// box answers would be routed by the true range, which the table of that device alone knows (decision 6).
func (r *Resolver) offers(spec *timesync.Spec, devices map[string]Device) (offers []firewall.Offer) {
	if spec == nil || len(spec.Addresses) == 0 {
		return nil
	}
	services := []firewall.Service{{Protocol: firewall.UDP, FirstPort: portNTP, LastPort: portNTP}}
	if spec.NTS != nil {
		services = append(services, firewall.Service{Protocol: firewall.TCP, FirstPort: portNTS, LastPort: portNTS})
	}
	sources := map[string][]netip.Prefix{}
	for _, c := range spec.Clients {
		zone := r.set.System(c.System).Zone
		sources[zone] = append(sources[zone], c.Prefixes...)
	}
	offer := func(from firewall.Place, zone string) {
		if len(sources[zone]) > 0 {
			offers = append(offers, firewall.Offer{Name: spec.Name, From: from, Sources: sources[zone], Addresses: spec.Addresses, Services: services})
		}
	}
	for _, link := range slices.Sorted(maps.Keys(devices)) {
		if d := devices[link].Filter; d.Translation == nil || len(d.Translation.Far) == 0 {
			offer(firewall.Place{Device: link}, d.FarZone)
		}
	}
	var seen []string
	for _, n := range r.site.Interfaces {
		if !slices.Contains(seen, n.Zone) {
			seen = append(seen, n.Zone)
			offer(firewall.Place{Zone: n.Zone}, n.Zone)
		}
	}
	return offers
}
