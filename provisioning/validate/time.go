package validate

import (
	"cmp"
	"fmt"
	"math"
	"net/netip"
	"slices"
	"strings"
	"time"

	"shekara/provisioning/document"
	"shekara/timesync"
)

const (
	maxTimeSources = 16
	// A root distance beyond 16 s no NTP packet can state, and below 1 ms no clock over a network keeps it.
	minSpan, maxSpan = time.Millisecond, 16 * time.Second
)

func (c *checker) timeService(t *document.TimeService) {
	if c.reference("spec.site", document.KindSite, t.Site) {
		if name, first := c.set.TimeServiceOf(t.Site); first != nil && name != c.doc.Name && c.later(document.Ref{Kind: document.KindTimeService, Name: name}) {
			c.add("spec.site", "site has two time services", t.Site, "TimeService "+name+" is of the same site: put both into one", "")
		}
	}
	c.span("spec.maxDistance", t.MaxDistance)
	c.span("spec.warnOffset", t.WarnOffset)
	if t.Unsynchronised != "" {
		c.oneOf("spec.unsynchronised", t.Unsynchronised, "answer", "withhold")
	}
	if t.KeyFile != "" {
		c.file("spec.keyFile", t.KeyFile)
	}
	if t.NTS != nil {
		c.file("spec.nts.certificate", t.NTS.Certificate)
		c.file("spec.nts.key", t.NTS.Key)
		if len(t.Addresses) == 0 {
			c.add("spec.nts", "nts without addresses", "", "list the addresses to serve at, or remove nts", "")
		}
	}
	c.timeSources(t)
	c.timeAddresses(t)
	c.timeZones(t)
	c.timeClients(t)
	if t.Engine != "" && c.oneOf("spec.engine", t.Engine, string(timesync.EngineOwn), string(timesync.EngineChrony)) && t.Engine == string(timesync.EngineChrony) {
		c.chrony(t)
	}
}

// chrony refuses what chronyd cannot do. Package timesync/chrony refuses the same when it makes chronyd's configuration.
func (c *checker) chrony(t *document.TimeService) {
	const instead = "; or let engine be own"
	if t.Unsynchronised == "withhold" {
		c.add("spec.unsynchronised", "chronyd does not withhold", t.Unsynchronised, "it answers while the clock is not synchronised, and says that it is not: remove the line"+instead, "")
	}
	hosts := map[string]bool{}
	for i, s := range t.Sources {
		at := document.Index("spec.sources", i)
		host := timesync.Source{Address: s.Address}.Host()
		if hosts[host] && host != "" { // one that cannot be read is refused elsewhere
			c.add(at+".address", "chronyd asks a host once", s.Address, "another source is on this host: remove one of them"+instead, "")
		}
		hosts[host] = true
		if s.ServerName != "" && s.ServerName != host {
			c.add(at+".serverName", "chronyd wants the host of address in the certificate", s.ServerName, "write the address by that name"+instead, "")
		}
		c.chronyWord(at+".ca", s.CA)
	}
	families := map[bool]bool{}
	for i, written := range t.Addresses {
		if a, err := document.ParseAddress(written); err == nil {
			if families[a.Is4()] {
				c.add(document.Index("spec.addresses", i), "chronyd serves at one address of each family", written, "remove all but one"+instead, "")
			}
			families[a.Is4()] = true
		}
	}
	for i, client := range t.Clients {
		c.add(document.Index("spec.clients", i), "chronyd does not refuse who does not authenticate", client.System, "it answers whoever it allows: remove the client from the list"+instead, "")
	}
	c.chronyWord("spec.keyFile", t.KeyFile)
	if t.NTS != nil {
		c.chronyWord("spec.nts.certificate", t.NTS.Certificate)
		c.chronyWord("spec.nts.key", t.NTS.Key)
	}
}

// chronyWord refuses the path that would be more than a word of chrony.conf(5), which knows no quotes.
func (c *checker) chronyWord(field, path string) {
	if strings.ContainsFunc(path, func(r rune) bool { return r <= ' ' || r > '~' || strings.ContainsRune("#%!;", r) }) {
		c.add(field, "chronyd cannot be given such a path", path, "use printable characters without spaces and #%!;, as in /etc/shekara/time/keys", "")
	}
}

func (c *checker) span(path, text string) {
	if text == "" {
		return
	}
	if d, err := time.ParseDuration(text); err != nil || d < minSpan || d > maxSpan {
		c.add(path, "not a length of time", text, fmt.Sprintf("write it as 10ms or 1s, from %s to %s", minSpan, maxSpan), "")
	}
}

func (c *checker) timeSources(t *document.TimeService) {
	agreeing := t.MustAgree()
	switch {
	case agreeing < 1 || agreeing > maxTimeSources:
		c.add("spec.agreeing", "not a number of sources", fmt.Sprint(t.Agreeing), fmt.Sprintf("write 1 to %d", maxTimeSources), "TIM-01")
	case len(t.Sources) > maxTimeSources:
		c.add("spec.sources", "too many sources", fmt.Sprint(len(t.Sources)), fmt.Sprintf("a site asks at most %d", maxTimeSources), "")
	case len(t.Sources) < agreeing:
		c.add("spec.sources", "fewer sources than must agree", fmt.Sprint(len(t.Sources)),
			fmt.Sprintf("%d must agree: list as many, better one more, so that one may fail; or write a smaller agreeing: on purpose", agreeing), "TIM-01")
	}
	for i, s := range t.Sources {
		at := document.Index("spec.sources", i)
		switch {
		case !hostPort(s.Address):
			c.add(at+".address", "not a host with a port", s.Address, "write time.example.org:123, 192.0.2.123:123 or [2001:db8::123]:123; with nts the port is 4460", "")
		case slices.ContainsFunc(t.Sources[:i], func(o document.TimeSource) bool { return o.Address == s.Address }):
			c.add(at+".address", "source is listed twice", s.Address, "remove one of them: it would agree with itself", "TIM-01")
		}
		if s.NTS && s.Key != 0 {
			c.add(at+".key", "source with nts and with a key", fmt.Sprint(s.Key), "remove one of them", "")
		}
		if !s.NTS && (s.CA != "" || s.ServerName != "") {
			c.add(at, "ca and serverName without nts", cmp.Or(s.CA, s.ServerName), "write nts: true, or remove them", "")
		}
		if s.CA != "" {
			c.file(at+".ca", s.CA)
		}
		if s.ServerName != "" && !hostPort(s.ServerName+":1") {
			c.add(at+".serverName", "not a host name", s.ServerName, "write the name in the server's certificate", "")
		}
		c.timeKey(at+".key", s.Key, t.KeyFile)
	}
}

func (c *checker) timeKey(path string, key int, file string) {
	switch {
	case key < 0 || key > math.MaxUint32:
		c.add(path, "not the number of a key", fmt.Sprint(key), "write 1 to 4294967295", "")
	case key != 0 && file == "":
		c.add(path, "key without keyFile", fmt.Sprint(key), "write keyFile: the file on the appliance that holds it", "")
	}
}

// timeAddresses must be the appliance's own: a server can bind to no other, and the filter opens them.
func (c *checker) timeAddresses(t *document.TimeService) {
	site := c.set.Site(t.Site)
	if len(t.Addresses) == 0 && len(t.Zones) > 0 {
		c.add("spec.addresses", "zones without addresses", "", "list the appliance's own addresses to serve at", "")
	}
	for i, written := range t.Addresses {
		at := document.Index("spec.addresses", i)
		a, err := document.ParseAddress(written)
		if err != nil {
			c.syntax(at, written, err)
			continue
		}
		if slices.ContainsFunc(t.Addresses[:i], func(o string) bool { return sameAddress(o, a) }) {
			c.add(at, "address is listed twice", written, "remove one of them", "")
			continue
		}
		if site == nil {
			continue
		}
		on := interfaceOf(site, a)
		if on == nil && readable(site) {
			c.add(at, "address is on no interface of the site", written, "list it in addresses: of an interface of Site "+t.Site, "")
		}
		if on == nil {
			continue
		}
		if z := c.set.Zone(on.Zone); z != nil && z.Kind == "internet" {
			c.add(at, "address is on the Internet's side", written, fmt.Sprintf("interface %s is in zone %s: time is served on the inner side alone, write an address there", on.Name, on.Zone), "TIM-02")
		}
	}
}

// interfaceOf is the interface that lists the address, nil if none does.
func interfaceOf(s *document.Site, a netip.Addr) *document.Interface {
	for i, n := range s.Interfaces {
		for _, written := range n.Addresses {
			if p, err := document.ParseInterfaceAddress(written); err == nil && p.Addr() == a {
				return &s.Interfaces[i]
			}
		}
	}
	return nil
}

func sameAddress(written string, a netip.Addr) bool {
	b, err := document.ParseAddress(written)
	return err == nil && a == b
}

// readable says whether every address of the site's interfaces can be read: one that cannot is to blame itself.
func readable(s *document.Site) bool {
	for _, n := range s.Interfaces {
		for _, written := range n.Addresses {
			if _, err := document.ParseInterfaceAddress(written); err != nil {
				return false
			}
		}
	}
	return true
}

func (c *checker) timeZones(t *document.TimeService) {
	if len(t.Addresses) > 0 && len(t.Zones) == 0 {
		c.add("spec.zones", "addresses without zones", "", "list the zones whose Systems are served", "")
	}
	for i, name := range t.Zones {
		at := document.Index("spec.zones", i)
		if !c.reference(at, document.KindZone, name) {
			continue
		}
		if slices.Contains(t.Zones[:i], name) {
			c.add(at, "zone is listed twice", name, "remove one of them", "")
		}
		if z := c.set.Zone(name); z.Kind == "internet" || z.Kind == "management" {
			c.add(at, "time is not served to a zone of kind "+z.Kind, name, "it is for the systems behind tunnels and inside: write their zones", "TIM-02")
		}
	}
}

func (c *checker) timeClients(t *document.TimeService) {
	for i, client := range t.Clients {
		at := document.Index("spec.clients", i)
		if !c.reference(at+".system", document.KindSystem, client.System) {
			continue
		}
		if slices.ContainsFunc(t.Clients[:i], func(o document.TimeClient) bool { return o.System == client.System }) {
			c.add(at+".system", "system is listed twice", client.System, "remove one of them", "")
		}
		if zone := c.set.System(client.System).Zone; !slices.Contains(t.Zones, zone) {
			c.add(at+".system", "system of a zone that is not served", client.System, "it is in zone "+zone+": add that to zones", "TIM-02")
		}
		switch {
		case client.NTS == (client.Key != 0):
			c.add(at, "client must authenticate by a key or by NTS", client.System, "write key: with its number, or nts: true; one that need not is not listed", "")
		case client.NTS && t.NTS == nil:
			c.add(at+".nts", "client by NTS where it is not served", client.System, "write nts: with the appliance's certificate and key", "")
		}
		c.timeKey(at+".key", client.Key, t.KeyFile)
	}
}

// servesTime says whether the site gives the time at the address by such a service: what a Flow may name though it is the appliance itself.
func (c *checker) servesTime(site string, a netip.Addr, allow []string) bool {
	_, t := c.set.TimeServiceOf(site)
	if t == nil || !slices.ContainsFunc(t.Addresses, func(o string) bool { return sameAddress(o, a) }) {
		return false
	}
	for _, service := range allow {
		if service != "udp/123" && (service != "tcp/4460" || t.NTS == nil) {
			return false
		}
	}
	return len(allow) > 0
}
