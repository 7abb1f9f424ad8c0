package api

import (
	"context"
	"math/bits"

	"github.com/prometheus/client_golang/prometheus"

	"shekara/timesync"
)

// timeCollector asks at each scrape what the engine heard last. Where no TimeService is in force there is nothing to say.
type timeCollector struct{ engine Engine }

// maxSystemSeries bounds the series of systems.
const maxSystemSeries = 10_000

type timeDescriptions struct {
	up, state, bound, offset, stratum                   *prometheus.Desc
	sourceOffset, sourceReach, agrees, jitter           *prometheus.Desc
	answered, refused, lost, received, sent             *prometheus.Desc
	systemServe, systemRefuse, systemSeen, systemOffset *prometheus.Desc
}

func describeTime() timeDescriptions {
	return timeDescriptions{
		up:           description("shekara_time_up", "1 while shekarad time answers."),
		state:        description("shekara_time_state", "1 for the state that the clock is in, 0 for the others.", "state"),
		bound:        description("shekara_time_bound_seconds", "How wrong the clock may be, as shekarad time measured it; means nothing while the clock is unsynchronised."),
		offset:       description("shekara_time_offset_seconds", "What must be added to the clock to be right, by the sources that agree."),
		stratum:      description("shekara_time_stratum", "Stratum that is told to clients; 16: not synchronised."),
		sourceOffset: description("shekara_time_source_offset_seconds", "The source's clock against ours.", "source"),
		sourceReach:  description("shekara_time_source_reach", "How many of the last eight requests the source answered.", "source"),
		agrees:       description("shekara_time_source_agrees", "1 while the source is one of those that agree.", "source"),
		jitter:       description("shekara_time_source_jitter_seconds", "By how much the source's last eight measurements differ.", "source"),
		answered:     description("shekara_time_answered_requests_total", "Requests for the time that were answered, since shekarad time started."),
		refused:      description("shekara_time_refused_requests_total", "Requests for the time that were not answered, since shekarad time started.", "reason"),
		lost:         description("shekara_time_unsent_answers_total", "Answers that the kernel did not take, since shekarad time started."),
		received:     description("shekara_time_received_bytes_total", "Bytes of requests, since shekarad time started."),
		sent:         description("shekara_time_sent_bytes_total", "Bytes of answers, since shekarad time started."),
		systemServe:  description("shekara_time_system_answered_requests_total", "Requests of the registered system that were answered, since shekarad time started.", "system"),
		systemRefuse: description("shekara_time_system_refused_requests_total", "Requests of the registered system that came too often, or without the proof that is asked for, since shekarad time started.", "system"),
		systemSeen:   description("shekara_time_system_last_seen_seconds", "When the registered system asked last, in seconds since 1970.", "system"),
		systemOffset: description("shekara_time_system_offset_seconds", "By how much the registered system's clock was ahead of ours, less the time that its request was on its way, by the last request that told; most clients tell none.", "system"),
	}
}

func (timeCollector) Describe(to chan<- *prometheus.Desc) {
	d := describeTime()
	for _, each := range []*prometheus.Desc{d.up, d.state, d.bound, d.offset, d.stratum, d.sourceOffset, d.sourceReach, d.agrees, d.jitter, d.answered, d.refused, d.lost, d.received, d.sent, d.systemServe, d.systemRefuse, d.systemSeen, d.systemOffset} {
		to <- each
	}
}

func (c timeCollector) Collect(to chan<- prometheus.Metric) {
	ctx, cancel := context.WithTimeout(context.Background(), scrapeTime)
	defer cancel()
	d := describeTime()
	s, err := c.engine.TimeStatus(ctx)
	if err != nil {
		to <- prometheus.NewInvalidMetric(d.up, err)
		return
	}
	if s == nil {
		return
	}
	gauge := func(desc *prometheus.Desc, value float64, labels ...string) {
		to <- prometheus.MustNewConstMetric(desc, prometheus.GaugeValue, value, labels...)
	}
	gauge(d.up, boolean(s.Error == ""))
	if s.Error != "" {
		return // what it said last is not so any more
	}
	standing := s.Report.Status.Standing
	for _, state := range []timesync.State{timesync.Synchronised, timesync.Holdover, timesync.Unsynchronised} {
		gauge(d.state, boolean(state == standing.State), string(state))
	}
	gauge(d.bound, standing.Bound(s.Report.Time).Seconds())
	gauge(d.offset, standing.Offset.Seconds())
	gauge(d.stratum, float64(standing.Stratum))
	for _, source := range s.Report.Status.Sources {
		gauge(d.sourceOffset, source.Offset.Seconds(), source.Name)
		gauge(d.sourceReach, float64(bits.OnesCount8(source.Reach)), source.Name)
		gauge(d.agrees, boolean(source.Verdict == timesync.Followed || source.Verdict == timesync.Agrees), source.Name)
		gauge(d.jitter, source.Jitter.Seconds(), source.Name)
	}
	counter := func(desc *prometheus.Desc, value uint64, labels ...string) {
		to <- prometheus.MustNewConstMetric(desc, prometheus.CounterValue, float64(value), labels...)
	}
	v := s.Report.Requests
	counter(d.answered, v.Served)
	for reason, n := range map[string]uint64{"unregistered": v.Refused, "unauthenticated": v.Unauthenticated, "limited": v.Limited, "malformed": v.Malformed, "mode": v.OtherMode, "unsynchronised": v.Withheld} {
		counter(d.refused, n, reason)
	}
	counter(d.lost, v.Unsent)
	counter(d.received, v.BytesIn)
	counter(d.sent, v.BytesOut)
	for _, system := range s.Report.Systems[:min(len(s.Report.Systems), maxSystemSeries)] {
		counter(d.systemServe, system.Served, system.Name)
		counter(d.systemRefuse, system.Limited+system.Refused, system.Name)
		if !system.LastSeen.IsZero() {
			gauge(d.systemSeen, unixSeconds(system.LastSeen), system.Name)
		}
		if !system.OffsetAt.IsZero() {
			gauge(d.systemOffset, system.Offset.Seconds(), system.Name)
		}
	}
}
