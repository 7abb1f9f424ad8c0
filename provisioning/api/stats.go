package api

import (
	"context"

	"github.com/prometheus/client_golang/prometheus"

	"shekara/journal"
)

type statsOutput struct {
	Body journal.Stats
}

func (s *Server) journalStats(context.Context, *struct{}) (*statsOutput, error) {
	stats, err := s.config.Journal.Stats()
	return &statsOutput{stats}, err
}

// journalCollector looks at the journal's files at each scrape.
type journalCollector struct{ journal Journal }

type journalDescriptions struct{ bytes, free, left *prometheus.Desc }

func describeJournal() journalDescriptions {
	return journalDescriptions{
		bytes: description("shekara_journal_bytes", "What the journal's files take on their disk."),
		free:  description("shekara_journal_free_bytes", "Room that the journal's disk has left."),
		left:  description("shekara_journal_days_left", "Days until that is full, at the rate of the last days and if nothing is removed; absent while no day is over."),
	}
}

func (journalCollector) Describe(to chan<- *prometheus.Desc) {
	d := describeJournal()
	for _, each := range []*prometheus.Desc{d.bytes, d.free, d.left} {
		to <- each
	}
}

func (c journalCollector) Collect(to chan<- prometheus.Metric) {
	d := describeJournal()
	stats, err := c.journal.Stats()
	if err != nil {
		to <- prometheus.NewInvalidMetric(d.bytes, err)
		return
	}
	gauge := func(desc *prometheus.Desc, value float64) {
		to <- prometheus.MustNewConstMetric(desc, prometheus.GaugeValue, value)
	}
	gauge(d.bytes, float64(stats.HotBytes+stats.ColdBytes))
	gauge(d.free, float64(stats.FreeBytes))
	if stats.DaysLeft >= 0 {
		gauge(d.left, float64(stats.DaysLeft))
	}
}
