package document

// EventSink is a monitoring centre that is sent the journal (JRN-13), or a file that it is copied to.
type EventSink struct {
	Sites    []string   `yaml:"sites" doc:"names of the Sites whose journals it gets"`
	Protocol string     `yaml:"protocol" doc:"syslog-tls (RFC 5425), syslog-tcp (RFC 6587, octet counting), syslog-udp (RFC 5426), nats (JetStream), https (signed batches of lines), otlp (logs of OpenTelemetry, over HTTP) or file"`
	Address  string     `yaml:"address,omitempty" doc:"of the centre's collector, with port: soc.example.org:6514, 192.0.2.7:6514 or [2001:db8::7]:6514; for syslog and nats"`
	URL      string     `yaml:"url,omitempty" doc:"with https and otlp: where requests are sent to (POST), as https://soc.example.org/journal or https://soc.example.org:4318/v1/logs"`
	TLS      *SinkTLS   `yaml:"tls,omitempty" doc:"with syslog-tls, nats, https and otlp: by what each end knows the other; with https its key signs the batches"`
	Format   string     `yaml:"format,omitempty" doc:"of syslog messages: json (the record as it stands in the journal) text (its sentence, and its fields as structured data) cef (ArcSight Common Event Format) or 52nk (the Rules 52/НҚ, by a mapping that is unverified: their annex was not obtained)" default:"json"`
	Path     string     `yaml:"path,omitempty" doc:"with file: the file on the appliance, which gets the records as they stand in the journal; shekarad export may write below /var/log/shekara"`
	Subject  string     `yaml:"subject,omitempty" doc:"with nats: of the messages; a stream that is this Site's alone must take it" default:"shekara.journal.SITE"`
	Events   SinkEvents `yaml:"events,omitempty" doc:"what it gets; signed checkpoints it gets always"`
	NewOnly  bool       `yaml:"newOnly,omitempty" doc:"begin with what happens after the sink is first seen, not with the journal's first record"`
}

// SinkTLS names files on the appliance. They are read anew for each connection.
type SinkTLS struct {
	CA          string `yaml:"ca" doc:"file with the certificates (PEM) of whom the collector's certificate may be from"`
	Certificate string `yaml:"certificate" doc:"file with the appliance's own certificate (PEM), and those between it and its root"`
	Key         string `yaml:"key" doc:"file with its private key (PEM), which none but shekara-export may read"`
	ServerName  string `yaml:"serverName,omitempty" doc:"the name or address that the collector's certificate must be for" default:"the host of address or url"`
}

// SinkEvents choose events; all that is given must hold.
type SinkEvents struct {
	Types      []string `yaml:"types,omitempty" doc:"one of these types, as tunnel.state; drift.* is all of a noun" default:"all"`
	Severities []string `yaml:"severities,omitempty" doc:"one of these: alert, error, warning, notice, info" default:"all"`
	Object     string   `yaml:"object,omitempty" doc:"what they are about, as tunnel/agency-a; all of a sort if it ends in a slash" default:"all"`
	Text       string   `yaml:"text,omitempty" doc:"stands in the sentence, the object, the organisation, a system, the actor's name or a field's value; capital or small is one" default:"all"`
}

func sinkReference() (about string, e example) {
	return "A monitoring centre that is sent the journal, or a file. `shekarad export` carries it: every record once at least, in the order of the journal, each with its sequence number, from where it stood when " +
			"the centre, the appliance or the way between them failed ([monitoring](monitoring/README.md)). Nothing of it stands in the packet filter: the appliance itself may open connections to its zones. " +
			"A sink that is removed and written again under its name goes on where it stood.",
		example{"soc", &EventSink{Sites: []string{"owner"}, Protocol: "syslog-tls", Address: "soc.example.org:6514",
			TLS:    &SinkTLS{CA: "/etc/shekara/export/soc-ca.pem", Certificate: "/etc/shekara/export/owner.pem", Key: "/etc/shekara/export/owner.key"},
			Events: SinkEvents{Severities: []string{"alert", "error", "warning"}}}}
}
