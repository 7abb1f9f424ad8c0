package validate

import (
	"cmp"
	"fmt"
	"net"
	"net/url"
	"path"
	"slices"
	"strconv"
	"strings"
	"unicode"

	"shekara/journal"
	"shekara/provisioning/document"
)

// maxSinks bounds how often one box reads its journal at a time.
const maxSinks = 16

func (c *checker) sink(s *document.EventSink) {
	c.sinkSites(s)
	if !c.oneOf("spec.protocol", s.Protocol, "syslog-tls", "syslog-tcp", "syslog-udp", "nats", "https", "otlp", "file") {
		return
	}
	file, https := s.Protocol == "file", s.Protocol == "https" || s.Protocol == "otlp"
	tls := s.Protocol == "syslog-tls" || s.Protocol == "nats" || https
	c.goesWith("spec.address", s.Address, !file && !https, s.Protocol, "write the collector's address with its port, as soc.example.org:6514")
	c.goesWith("spec.path", s.Path, file, s.Protocol, "write the file's path, as /var/log/shekara/journal.jsonl")
	if s.Address != "" && !hostPort(s.Address) {
		c.add("spec.address", "not a host with a port", s.Address, "write soc.example.org:6514, 192.0.2.7:6514 or [2001:db8::7]:6514", "")
	}
	c.goesWith("spec.url", s.URL, https, s.Protocol, "write where to send to, as https://soc.example.org/journal")
	if s.URL != "" && !secureURL(s.URL) {
		c.add("spec.url", "not an address of https", s.URL, "write it as https://soc.example.org/journal, without a user and without #", "")
	}
	if s.Path != "" {
		c.file("spec.path", s.Path)
	}
	switch {
	case s.TLS == nil && tls:
		c.add("spec.tls", s.Protocol+" without tls", "", "write tls: with ca, certificate and key: files on the appliance", "")
	case s.TLS != nil && !tls:
		c.add("spec.tls", "tls with protocol "+s.Protocol, "", "remove tls, or write protocol: syslog-tls, nats, https or otlp", "")
	case tls:
		c.file("spec.tls.ca", s.TLS.CA)
		c.file("spec.tls.certificate", s.TLS.Certificate)
		c.file("spec.tls.key", s.TLS.Key)
		if n := s.TLS.ServerName; n != "" && net.ParseIP(n) == nil && !hostName(n) {
			c.add("spec.tls.serverName", "not a host name", n, "write the name or address in the collector's certificate", "")
		}
	}
	switch {
	case s.Format != "" && !strings.HasPrefix(s.Protocol, "syslog-"):
		c.add("spec.format", "format with protocol "+s.Protocol, s.Format, "remove it: records go as they stand in the journal", "")
	case s.Format != "":
		c.oneOf("spec.format", s.Format, "json", "text", "cef", "52nk")
	}
	switch {
	case s.Subject != "" && s.Protocol != "nats":
		c.add("spec.subject", "subject with protocol "+s.Protocol, s.Subject, "remove it", "")
	case s.Subject != "" && !subject(s.Subject):
		c.add("spec.subject", "not a subject", s.Subject, "write words of letters, digits, _ and - with dots between, as shekara.journal.owner", "")
	}
	c.sinkEvents(s.Events)
}

// subject says whether messages may be published on it: NATS lets more stand in one, but not everywhere.
func subject(s string) bool {
	for word := range strings.SplitSeq(s, ".") {
		if word == "" || strings.Trim(word, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-") != "" {
			return false
		}
	}
	return len(s) <= 255
}

// goesWith reports a field that the protocol needs and that is not there, or the other way round.
func (c *checker) goesWith(field, value string, needed bool, protocol, hint string) {
	name := strings.TrimPrefix(field, "spec.")
	switch {
	case needed && value == "":
		c.add(field, protocol+" without "+name, "", hint, "")
	case !needed && value != "":
		c.add(field, name+" with protocol "+protocol, value, "remove it", "")
	}
}

func (c *checker) file(field, value string) {
	if !path.IsAbs(value) || path.Clean(value) != value || value == "/" || len(value) > 1024 || strings.ContainsFunc(value, unicode.IsControl) {
		c.add(field, "not the path of a file", value, "write it whole, as /etc/shekara/export/soc-ca.pem", "")
	}
}

// secureURL says whether requests can be sent to it as it stands. A password has no place in a document.
func secureURL(s string) bool {
	to, err := url.Parse(s)
	if err != nil || to.Scheme != "https" || to.Host == "" || to.User != nil || strings.Contains(s, "#") || len(s) > 1024 {
		return false
	}
	port := cmp.Or(to.Port(), "443")
	return hostPort(net.JoinHostPort(to.Hostname(), port)) && !strings.HasSuffix(to.Host, ":")
}

func hostPort(s string) bool {
	host, port, err := net.SplitHostPort(s)
	if err != nil {
		return false
	}
	if number, err := strconv.ParseUint(port, 10, 16); err != nil || number == 0 {
		return false
	}
	if _, err := document.ParseAddress(host); err == nil {
		return true
	}
	return hostName(host)
}

func (c *checker) sinkSites(s *document.EventSink) {
	if len(s.Sites) == 0 {
		c.add("spec.sites", "sink without sites", "", "list the Sites whose journals it gets", "")
	}
	for i, site := range s.Sites {
		at := document.Index("spec.sites", i)
		if !c.reference(at, document.KindSite, site) {
			continue
		}
		if slices.Contains(s.Sites[:i], site) {
			c.add(at, "site is listed twice", site, "remove one of them", "")
			continue
		}
		before := 0
		for h := range c.set.References(document.Ref{Kind: document.KindSite, Name: site}, document.KindEventSink) {
			if h.Name == c.doc.Name || !c.later(h.Ref) {
				continue
			}
			before++
			if s.Path != "" && s.Path == c.set.EventSink(h.Name).Path {
				c.add("spec.path", "file is of two sinks", s.Path, fmt.Sprintf("sink %s of the same site writes it too: give each its own", h.Name), "")
			}
		}
		if before >= maxSinks {
			c.add(at, "site has too many sinks", site, fmt.Sprintf("a site has at most %d: let a collector hand the records on", maxSinks), "")
		}
	}
}

func (c *checker) sinkEvents(e document.SinkEvents) {
	types := []string{}
	for _, entry := range journal.Catalogue() {
		types = append(types, string(entry.Type))
	}
	for i, t := range e.Types {
		if (journal.Filter{Types: []journal.Type{journal.Type(t)}}).Check() == nil {
			continue
		}
		hint := "docs/events.md lists them; drift.* is all of a noun"
		if near := document.Nearest(t, types); near != "" {
			hint = "did you mean " + near + "?"
		}
		c.add(document.Index("spec.events.types", i), "there is no event of this type", t, hint, "")
	}
	var severities []string
	for _, severity := range journal.Severities() {
		severities = append(severities, string(severity))
	}
	for i, severity := range e.Severities {
		c.oneOf(document.Index("spec.events.severities", i), severity, severities...)
	}
}
