package chrony

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"shekara/timesync"
)

// Render is the whole configuration of chronyd (chrony.conf(5)) for a Spec, with its files in folders state and running. The error names all that chronyd cannot do.
func Render(spec *timesync.Spec, state, running string) ([]byte, error) {
	r := renderer{spec: spec, hosts: map[string]string{}, sets: map[string]int{}}
	r.line("# Made by Shekara from TimeService %q. What is written here by hand is lost.", spec.Name)
	for _, s := range spec.Sources {
		r.source(s)
	}
	r.line("minsources %d", max(spec.Agreeing, 1))
	// As our own engine does: all sources count alike, and that many must agree. By itself chronyd rejects a source without authentication whose interval
	// is not wholly within what those with it agree on, however right it is: among three near ones the clock was lost by that for minutes.
	r.line("authselectmode ignore")
	if spec.MaxDistance > 0 {
		r.line("maxdistance %s", seconds(spec.MaxDistance))
	}
	if spec.KeyFile != "" {
		r.line("keyfile %s", r.file("keyFile", spec.KeyFile))
	}
	r.serve()
	r.line("driftfile %s", r.file("state folder", filepath.Join(state, "drift")))
	r.line("ntsdumpdir %s", r.file("state folder", state))
	r.line("dumpdir %s", r.file("state folder", state)) // what was measured outlives a start with another configuration
	r.line("bindcmdaddress %s", r.file("run folder", socketIn(running)))
	r.line("pidfile %s", r.file("run folder", pidFile(running)))
	r.line("cmdport 0")
	r.line("makestep 1 3") // a clock that comes up wrong is set in the first three updates; after that it is slewed, so that no record goes back
	r.line("rtcsync")
	r.line("rtconutc")
	r.line("leapsectz right/UTC") // inserts leap seconds that no source announces; nothing is smeared
	if err := errors.Join(r.wrong...); err != nil {
		return nil, fmt.Errorf("render chrony.conf for TimeService %s: %w", spec.Name, err)
	}
	return []byte(r.text.String()), nil
}

func socketIn(running string) string { return filepath.Join(running, "chronyd.sock") }

type renderer struct {
	spec  *timesync.Spec
	text  strings.Builder
	wrong []error
	hosts map[string]string // the source at each host
	sets  map[string]int    // of certificates, by file
}

func (r *renderer) line(format string, args ...any) { fmt.Fprintf(&r.text, format+"\n", args...) }

func (r *renderer) refuse(format string, args ...any) {
	r.wrong = append(r.wrong, fmt.Errorf(format, args...))
}

// word refuses what would be more than a word of the configuration.
func (r *renderer) word(what, s string) string {
	if s == "" || strings.ContainsFunc(s, func(c rune) bool { return c <= ' ' || c > '~' || c == '#' || c == '%' || c == '!' || c == ';' }) {
		r.refuse("%s %q cannot be written in chrony.conf: want printable characters without spaces", what, s)
	}
	return s
}

func (r *renderer) file(what, path string) string {
	if !filepath.IsAbs(path) {
		r.refuse("%s %q is no absolute path", what, path)
	}
	return r.word(what, path)
}

func (r *renderer) source(s timesync.Source) {
	_, port, err := net.SplitHostPort(s.Address)
	if err != nil {
		r.refuse("source %s: address %q is no host and port", s.Name, s.Address)
		return
	}
	r.word("source "+s.Name+": address", s.Address)
	host := s.Host()
	if other := r.hosts[host]; other != "" {
		r.refuse("sources %s and %s are on one host, %s: chronyd asks a host once", other, s.Name, host)
	}
	r.hosts[host] = s.Name
	options := " port " + port
	if s.NTS {
		options = " nts ntsport " + port
		if s.CA != "" {
			if r.sets[s.CA] == 0 {
				r.sets[s.CA] = len(r.sets) + 1
				r.line("ntstrustedcerts %d %s", r.sets[s.CA], r.file("source "+s.Name+": ca", s.CA))
			}
			options += fmt.Sprintf(" certset %d", r.sets[s.CA])
		}
		if s.ServerName != "" && s.ServerName != host {
			r.refuse("source %s: serverName %q: chronyd wants the name that it connects to in the certificate, %q", s.Name, s.ServerName, host)
		}
	} else if s.Key != 0 {
		options += fmt.Sprintf(" key %d", s.Key)
	}
	r.line("server %s%s iburst minpoll 4 maxpoll 6", host, options)
}

// serve allows the registered systems, and nobody else: chronyd answers nobody by itself.
func (r *renderer) serve() {
	if len(r.spec.Addresses) == 0 || len(r.spec.Clients) == 0 {
		r.line("port 0")
		return
	}
	bound := map[bool]netip.Addr{}
	for _, a := range r.spec.Addresses {
		if other, twice := bound[a.Is4()]; twice {
			r.refuse("addresses %s and %s: chronyd serves at one address of each family", other, a)
		}
		bound[a.Is4()] = a
		r.line("bindaddress %s", a)
	}
	for _, loopback := range []netip.Addr{netip.AddrFrom4([4]byte{127, 0, 0, 1}), netip.IPv6Loopback()} { // else it listens everywhere in the family that is not served
		if _, served := bound[loopback.Is4()]; !served {
			r.line("bindaddress %s", loopback)
		}
	}
	if r.spec.Withhold {
		r.refuse("withhold: chronyd answers while the clock is not synchronised")
	}
	allowed := map[netip.Prefix]bool{}
	for _, c := range r.spec.Clients {
		if c.Key != 0 || c.NTS {
			r.refuse("client %s must authenticate: chronyd answers whoever it allows, authenticated or not", c.System)
		}
		for _, p := range c.Prefixes {
			if _, ok := bound[p.Addr().Is4()]; ok { // else there is no address that it could ask
				allowed[p.Masked()] = true
			}
		}
	}
	for _, p := range sorted(allowed) {
		r.line("allow %s", p)
	}
	r.line("ratelimit interval -5 burst 64") // as our own server's: a whole agency may be behind one address
	if n := r.spec.NTS; n != nil {
		r.line("ntsservercert %s", r.file("nts.certificate", n.Certificate))
		r.line("ntsserverkey %s", r.file("nts.key", n.Key))
		r.line("ntsratelimit interval -2 burst 64")
	}
}

func sorted(set map[netip.Prefix]bool) []netip.Prefix {
	var all []netip.Prefix
	for p := range set {
		all = append(all, p)
	}
	slices.SortFunc(all, func(a, b netip.Prefix) int { return a.Compare(b) })
	return all
}

func seconds(d time.Duration) string { return fmt.Sprintf("%.9g", d.Seconds()) }
