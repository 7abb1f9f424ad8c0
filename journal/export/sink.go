package export

import (
	"context"

	"shekara/journal"
)

// Protocols.
const (
	SyslogTLS = "syslog-tls"
	SyslogTCP = "syslog-tcp"
	SyslogUDP = "syslog-udp"
	File      = "file"
	NATS      = "nats"
	HTTPS     = "https"
	OTLP      = "otlp"
)

// Formats of syslog messages.
const (
	JSON = "json"
	Text = "text"
	CEF  = "cef"
	NK52 = "52nk" // of the Rules 52/НҚ, by a mapping that nobody has compared with their annex
)

// Sink is a monitoring centre, or a file.
type Sink struct {
	Name        string // of its document, a DNS label
	Site        string // whose journal it is
	Protocol    string
	Address     string // host and port
	URL         string // of HTTPS and OTLP
	ServerName  string // in the collector's certificate; "": the host of Address or URL
	CA          string // files in PEM
	Certificate string
	Key         string
	Format      string // JSON, Text, CEF or NK52
	Version     string // of Shekara, which CEF and OTLP name
	Path        string // of a file
	Subject     string // of NATS
	Filter      journal.Filter
	NewOnly     bool // begin with what is recorded after the sink is first seen
}

// Source is whoever writes the journal. Errors are retried.
type Source interface {
	// Sinks are those in force, by name.
	Sinks(context.Context) ([]Sink, error)
	// Last is the newest sequence.
	Last(context.Context) (uint64, error)
	// Lines gives at most limit acknowledged records, as they stand in the files, with sequences above after, oldest first. If there is none it
	// waits for some seconds, and may then give none.
	Lines(ctx context.Context, after uint64, limit int) ([][]byte, error)
}

// record is one record on its way.
type record struct {
	event journal.Event
	line  []byte // as it stands in the file, without its end
}

// chosen says whether a sink gets an event. Checkpoints go to every sink: whoever holds one can tell whether the journal was changed since.
func (s Sink) chosen(e journal.Event) bool {
	return e.Type == journal.JournalCheckpoint || s.Filter.Matches(e)
}
