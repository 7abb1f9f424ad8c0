package provisioning

import (
	"cmp"
	"context"
	"slices"
	"strings"
	"time"

	"shekara/provisioning/document"
)

// Sink is a monitoring centre that gets this box's journal, as its document says. Files are named, never read here.
type Sink struct {
	Name        string   `json:"name"`
	Protocol    string   `json:"protocol"`          // syslog-tls, syslog-tcp, syslog-udp, nats, https, otlp or file
	Address     string   `json:"address,omitempty"` // host and port
	URL         string   `json:"url,omitempty"`
	ServerName  string   `json:"serverName,omitempty"`
	CA          string   `json:"ca,omitempty"`
	Certificate string   `json:"certificate,omitempty"`
	Key         string   `json:"key,omitempty"`
	Format      string   `json:"format,omitempty"` // json, text, cef or 52nk
	Path        string   `json:"path,omitempty"`
	Subject     string   `json:"subject,omitempty"`
	Types       []string `json:"types,omitempty"`
	Severities  []string `json:"severities,omitempty"`
	Object      string   `json:"object,omitempty"`
	Text        string   `json:"text,omitempty"`
	NewOnly     bool     `json:"newOnly,omitempty"`
}

// SinkStatus is how far shekarad export got with a sink.
type SinkStatus struct {
	Name      string    `json:"name"`
	Connected bool      `json:"connected"`
	Sequence  uint64    `json:"sequence"`          // newest record that it was sent, or that its filter passed over
	Behind    uint64    `json:"behind"`            // records in the journal after it
	Oldest    time.Time `json:"oldest,omitzero"`   // when the first of these was recorded
	Sent      uint64    `json:"sent"`              // records sent so far, those sent again included
	Refused   uint64    `json:"refused,omitempty"` // of these, by the word of the sink, which threw them away
	Failures  uint64    `json:"failures"`          // connections that failed so far
	Error     string    `json:"error,omitempty"`   // why nothing is sent
	Since     time.Time `json:"since,omitzero"`    // of Error
}

// Sinks are the sinks of this box by the documents in force, by name.
func (e *Engine) Sinks(context.Context) ([]Sink, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	sinks := []Sink{}
	for h := range e.documents.References(document.Ref{Kind: document.KindSite, Name: e.options.Site}, document.KindEventSink) {
		d := e.documents.EventSink(h.Name)
		s := Sink{Name: h.Name, Protocol: d.Protocol, Address: d.Address, URL: d.URL, Path: d.Path, Types: slices.Clone(d.Events.Types), Severities: slices.Clone(d.Events.Severities),
			Object: d.Events.Object, Text: d.Events.Text, NewOnly: d.NewOnly}
		switch d.Protocol {
		case "nats":
			s.Subject = cmp.Or(d.Subject, "shekara.journal."+e.options.Site)
		case "https", "otlp", "file":
		default:
			s.Format = cmp.Or(d.Format, "json")
		}
		if d.TLS != nil {
			s.CA, s.Certificate, s.Key, s.ServerName = d.TLS.CA, d.TLS.Certificate, d.TLS.Key, d.TLS.ServerName
		}
		sinks = append(sinks, s)
	}
	slices.SortFunc(sinks, func(a, b Sink) int { return strings.Compare(a.Name, b.Name) })
	return sinks, nil
}
