package api

import (
	"context"
	"net/http"
	"runtime"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"shekara/firewall/proof"
	"shekara/journal"
	"shekara/provisioning"
)

// Metrics counts what is put on record, and asks the engine for the rest when it is scraped.
type Metrics struct {
	plans     *prometheus.CounterVec
	applies   *prometheus.CounterVec
	reverts   prometheus.Counter
	drift     *prometheus.CounterVec
	refusals  prometheus.Counter
	resets    prometheus.Counter
	incidents prometheus.Counter
	build     prometheus.Gauge
	processed []prometheus.Collector
}

// NewMetrics makes the counters, all at zero, so that a rate over the first event is right.
func NewMetrics(version string) *Metrics {
	counter := func(name, help string) prometheus.Counter {
		return prometheus.NewCounter(prometheus.CounterOpts{Name: name, Help: help})
	}
	vector := func(name, help, label string, values ...string) *prometheus.CounterVec {
		v := prometheus.NewCounterVec(prometheus.CounterOpts{Name: name, Help: help}, []string{label})
		for _, value := range values {
			v.WithLabelValues(value)
		}
		return v
	}
	m := &Metrics{
		plans:     vector("shekara_plans_total", "Plans made, and documents refused before a plan.", "result", "made", "rejected"),
		applies:   vector("shekara_applies_total", "Applies by how they ended.", "result", "finished", "failed"),
		reverts:   counter("shekara_reverts_total", "Returns to an earlier revision, asked for or for want of a confirmation."),
		drift:     vector("shekara_drift_total", "Differences between host and revision, by what was done.", "action", "found", "repaired", "stopped"),
		refusals:  counter("shekara_access_refusals_total", "Requests refused for want of rights, as journaled."),
		resets:    counter("shekara_tunnel_resets_total", "Peers reset because a handshake did not end while packets waited."),
		incidents: counter("shekara_incidents_total", "Incidents that opened since the daemon started."),
		build: prometheus.NewGauge(prometheus.GaugeOpts{Name: "shekara_build_info", Help: "Always 1; the labels say what runs.",
			ConstLabels: prometheus.Labels{"version": version, "goversion": runtime.Version()}}),
	}
	m.build.Set(1)
	m.processed = []prometheus.Collector{m.plans, m.applies, m.reverts, m.drift, m.refusals, m.resets, m.incidents, m.build,
		collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}), collectors.NewGoCollector()}
	return m
}

// Recorder counts what passes through to another recorder.
func (m *Metrics) Recorder(to provisioning.Recorder) provisioning.Recorder {
	return countingRecorder{m, to}
}

type countingRecorder struct {
	metrics *Metrics
	to      provisioning.Recorder
}

func (r countingRecorder) Health() journal.Health { return r.to.Health() }

// Post counts what happened, whether or not the disk takes it yet.
func (r countingRecorder) Post(e journal.Event) <-chan error {
	r.metrics.count(e.Type)
	return r.to.Post(e)
}

func (r countingRecorder) Append(ctx context.Context, e journal.Event) (journal.Event, error) {
	e, err := r.to.Append(ctx, e)
	if err == nil {
		r.metrics.count(e.Type)
	}
	return e, err
}

func (m *Metrics) count(t journal.Type) {
	switch t {
	case journal.PlanMake:
		m.plans.WithLabelValues("made").Inc()
	case journal.DocumentsReject:
		m.plans.WithLabelValues("rejected").Inc()
	case journal.ApplyFinish:
		m.applies.WithLabelValues("finished").Inc()
	case journal.ApplyFail:
		m.applies.WithLabelValues("failed").Inc()
	case journal.RevisionRevert:
		m.reverts.Inc()
	case journal.DriftFind:
		m.drift.WithLabelValues("found").Inc()
	case journal.DriftRepair:
		m.drift.WithLabelValues("repaired").Inc()
	case journal.DriftStop:
		m.drift.WithLabelValues("stopped").Inc()
	case journal.AccessRefuse:
		m.refusals.Inc()
	case journal.IncidentOpen:
		m.incidents.Inc()
	case journal.TunnelReset:
		m.resets.Inc()
	}
}

// Handler serves the counters and what the engine and the exporter say now.
func (m *Metrics) Handler(config Config) http.Handler {
	registry := prometheus.NewPedanticRegistry()
	registry.MustRegister(m.processed...)
	registry.MustRegister(collectorsOf(config)...)
	return promhttp.HandlerFor(registry, promhttp.HandlerOpts{ErrorHandling: promhttp.HTTPErrorOnError})
}

// collectorsOf are those that look when they are asked.
func collectorsOf(config Config) []prometheus.Collector {
	return []prometheus.Collector{tunnelCollector{config}, flowCollector{config.Engine}, sinkCollector{config}, timeCollector{config.Engine}, journalCollector{config.Journal}}
}

// tunnelCollector asks the engine at each scrape: nothing is remembered, so nothing can be stale. The labels are names from
// documents, of which there is a bounded number, never addresses.
type tunnelCollector struct{ config Config }

// description builds a Desc; a type of its own keeps the list below readable.
func description(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc(name, help, labels, nil)
}

type descriptions struct {
	sent, received, handshake, state, since, latency, probes, lost *prometheus.Desc
	revision, observed, held, pending, alarms, drifting, failed    *prometheus.Desc
	verdict, statements, findings, read, took                      *prometheus.Desc
	written, signed, waiting, missed                               *prometheus.Desc
	kept, wrong, steps, incidents                                  *prometheus.Desc
}

func describe() descriptions {
	wg := []string{"interface", "public_key", "tunnel"}
	return descriptions{
		sent:      description("wireguard_sent_bytes_total", "Bytes sent to the peer.", wg...),
		received:  description("wireguard_received_bytes_total", "Bytes received from the peer.", wg...),
		handshake: description("wireguard_latest_handshake_seconds", "UNIX time of the last handshake; 0 for none.", wg...),
		state:     description("shekara_tunnel_state", "1 for the state that the tunnel is in, 0 for the others.", "tunnel", "state"),
		since:     description("shekara_tunnel_state_since_seconds", "UNIX time since which the tunnel is in its state.", "tunnel"),
		latency:   description("shekara_tunnel_probe_latency_seconds", "Median of the last probes that were answered.", "tunnel"),
		probes:    description("shekara_tunnel_probe_window_sent", "Probes in the window that loss is measured over.", "tunnel"),
		lost:      description("shekara_tunnel_probe_window_lost", "Probes of that window without an answer.", "tunnel"),
		revision:  description("shekara_revision", "Revision in force."),
		observed:  description("shekara_last_observed_seconds", "UNIX time at which the host was last looked at whole."),
		held:      description("shekara_hold", "1 while drift is not repaired because someone works by hand."),
		pending:   description("shekara_confirmation_pending", "1 while a revision waits for its confirmation."),
		alarms:    description("shekara_alarms", "Alarms that stand now."),
		drifting:  description("shekara_drift", "Differences between host and revision that stand now."),
		failed:    description("shekara_failed_resources", "Tunnels, and parts of the site, that could not be made real."),

		verdict:    description("shekara_proof_verdict", "1 for what the last verification of what is loaded came to, 0 for the others; none: there was none yet.", "verdict"),
		statements: description("shekara_proof_statements", "Statements of the last verification that came to the verdict.", "verdict"),
		findings:   description("shekara_proof_findings", "Violations that the last verification found, or else reasons why it is indeterminate."),
		read:       description("shekara_proof_read_seconds", "UNIX time at which the last verification read the kernel."),
		took:       description("shekara_proof_duration_seconds", "How long the last verification took."),

		written: description("shekara_journal_written", "1 while events can be put on disk; 0 while the disk is full, broken or does not answer, and changes are refused."),
		signed:  description("shekara_journal_signed", "1 while the journal is signed; 0 while its key cannot be had, and changes are refused."),
		waiting: description("shekara_journal_waiting_events", "Events that wait in memory for the journal's disk."),
		missed:  description("shekara_journal_missed_events_total", "Events that are not on record and will not be, since the daemon started."),

		incidents: description("shekara_incidents_open", "Incidents that are open.", "severity"),

		kept:  description("shekara_clock_synchronised", "1 while somebody keeps the clock, by the kernel's word."),
		wrong: description("shekara_clock_max_error_seconds", "How wrong the clock may be, as who keeps it told the kernel; means nothing where nobody does."),
		steps: description("shekara_clock_steps_total", "How often the clock was seen to be set by more than a second, since the daemon started."),
	}
}

func (c tunnelCollector) Describe(to chan<- *prometheus.Desc) {
	d := describe()
	for _, each := range []*prometheus.Desc{d.sent, d.received, d.handshake, d.state, d.since, d.latency, d.probes, d.lost,
		d.revision, d.observed, d.held, d.pending, d.alarms, d.drifting, d.failed, d.verdict, d.statements, d.findings, d.read, d.took, d.written, d.signed, d.waiting, d.missed, d.kept, d.wrong, d.steps, d.incidents} {
		to <- each
	}
}

// scrapeTime bounds one look for a scrape; Prometheus itself gives up after ten seconds by default.
const scrapeTime = 8 * time.Second

func (c tunnelCollector) Collect(to chan<- prometheus.Metric) {
	ctx, cancel := context.WithTimeout(context.Background(), scrapeTime)
	defer cancel()
	d := describe()
	gauge := func(desc *prometheus.Desc, value float64, labels ...string) {
		to <- prometheus.MustNewConstMetric(desc, prometheus.GaugeValue, value, labels...)
	}
	status, err := c.config.glance(ctx)
	if err != nil {
		to <- prometheus.NewInvalidMetric(d.revision, err)
		return
	}
	gauge(d.revision, float64(status.Revision))
	gauge(d.observed, unixSeconds(status.LastObserved))
	gauge(d.held, boolean(status.HoldUntil != nil))
	gauge(d.pending, boolean(status.ConfirmBy != nil))
	gauge(d.alarms, float64(len(status.Alarms)))
	gauge(d.drifting, float64(len(status.Drift)))
	gauge(d.failed, float64(len(status.Failed)))
	gauge(d.written, boolean(status.Journal.Error == ""))
	gauge(d.signed, boolean(!status.Journal.Unsigned))
	gauge(d.waiting, float64(status.Journal.Waiting))
	to <- prometheus.MustNewConstMetric(d.missed, prometheus.CounterValue, float64(status.Journal.Missed))
	for _, severity := range journal.Severities() {
		gauge(d.incidents, float64(status.Incidents[severity]), string(severity))
	}
	if c := status.Clock; c != nil {
		gauge(d.kept, boolean(c.Synchronised))
		gauge(d.wrong, c.MaxError.Seconds())
		to <- prometheus.MustNewConstMetric(d.steps, prometheus.CounterValue, float64(c.Steps))
	}
	if p := status.Proof; p != nil {
		for _, v := range []proof.Verdict{proof.Proved, proof.Violated, proof.Indeterminate} {
			gauge(d.verdict, boolean(v == p.Verdict), string(v))
			gauge(d.statements, float64(p.Statements[v]), string(v))
		}
		gauge(d.findings, float64(p.Findings))
		gauge(d.read, unixSeconds(p.Read))
		gauge(d.took, p.Took.Seconds())
	}
	all, err := c.config.Engine.Tunnels(ctx)
	if err != nil {
		to <- prometheus.NewInvalidMetric(d.state, err)
		return
	}
	for _, t := range all {
		collectTunnel(d, t, to, gauge)
	}
}

func collectTunnel(d descriptions, t provisioning.TunnelStatus, to chan<- prometheus.Metric, gauge func(*prometheus.Desc, float64, ...string)) {
	for _, state := range tunnelStates() {
		gauge(d.state, boolean(state == t.State), t.Name, state)
	}
	gauge(d.since, unixSeconds(t.Since), t.Name)
	if t.Probe != nil {
		gauge(d.probes, float64(t.Probe.Sent), t.Name)
		gauge(d.lost, float64(t.Probe.Lost), t.Name)
		if t.Probe.Latency > 0 {
			gauge(d.latency, t.Probe.Latency.Seconds(), t.Name)
		}
	}
	if t.Protocol != "wireguard" || t.PublicKey == "" {
		return
	}
	labels := []string{t.Device, t.PublicKey, t.Name}
	to <- prometheus.MustNewConstMetric(d.sent, prometheus.CounterValue, float64(t.SentBytes), labels...)
	to <- prometheus.MustNewConstMetric(d.received, prometheus.CounterValue, float64(t.ReceivedBytes), labels...)
	handshake := 0.0
	if t.LastHandshake != nil {
		handshake = unixSeconds(*t.LastHandshake)
	}
	gauge(d.handshake, handshake, labels...)
}

// tunnelStates bounds the one-hot series of a tunnel.
func tunnelStates() []string {
	return []string{"configured", "handshaking", "idle", "passing", "one-way", "stale", "down", "failed"}
}

func unixSeconds(t time.Time) float64 {
	if t.IsZero() {
		return 0
	}
	return float64(t.UnixMilli()) / 1000
}

func boolean(b bool) float64 {
	if b {
		return 1
	}
	return 0
}
