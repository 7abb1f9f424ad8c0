package api

import (
	"context"
	"fmt"
	"path"

	"github.com/prometheus/client_golang/prometheus"

	"shekara/netctl/conntrack"
	"shekara/provisioning"
)

type flowsInput struct {
	Name  string `query:"name" maxLength:"253" doc:"only those with this name, or whose names match it as a pattern of a shell: agency-*" example:"agency-*"`
	After string `query:"after" maxLength:"253" doc:"only those with a greater name: next of the page before"`
	Limit int    `query:"limit" minimum:"1" maximum:"10000" default:"1000"`
}

type flowsOutput struct {
	Body provisioning.FlowReport
}

func (s *Server) registerFlows() {
	register(s, Looks, get("list-flows", "/flows", "Status", "What each flow carried, by name"), s.listFlows)
}

func (s *Server) listFlows(ctx context.Context, in *flowsInput) (*flowsOutput, error) {
	if _, err := path.Match(in.Name, ""); err != nil {
		return nil, badRequest("query.name", fmt.Sprintf("%q is no pattern: %v", in.Name, err), "* stands for any letters, ? for one, [a-c] for one of these")
	}
	query := provisioning.FlowQuery{After: in.After, Limit: in.Limit}
	if in.Name != "" {
		query.Match = func(name string) bool {
			is, _ := path.Match(in.Name, name)
			return is
		}
	}
	report, err := s.config.Engine.Flows(ctx, query)
	return &flowsOutput{Body: report}, err
}

// maxFlowSeries bounds the flows that have series of their own: a scrape of 10,000 is 7 MB.
const maxFlowSeries = 10_000

// flowCollector asks the engine at each scrape, as tunnelCollector does.
type flowCollector struct{ engine Engine }

type flowDescriptions struct {
	bytes, packets, opened, connections                  *prometheus.Desc
	looked, uncounted, missed, unattributed, withoutOwns *prometheus.Desc
}

func describeFlows() flowDescriptions {
	return flowDescriptions{
		bytes:        description("shekara_flow_bytes_total", "Bytes of IP packets of the flow's connections: to its target, or back.", "flow", "direction"),
		packets:      description("shekara_flow_packets_total", "IP packets of the flow's connections: to its target, or back.", "flow", "direction"),
		opened:       description("shekara_flow_connections_opened_total", "Connections that were opened.", "flow"),
		connections:  description("shekara_flow_connections", "Connections that lived at the last look.", "flow"),
		looked:       description("shekara_flows_looked_seconds", "UNIX time at which connections were looked at last; 0: not yet."),
		uncounted:    description("shekara_flows_uncounted_connections", "Connections that lived at the last look and are not counted, for want of room or as they are older than the accounting."),
		missed:       description("shekara_flows_missed_connections_total", "Connections that ended unheard: what they carried after they were looked at last is missing."),
		unattributed: description("shekara_flows_unattributed_connections_total", "Connections that ended, and no flow is known for."),
		withoutOwns:  description("shekara_flows_without_series", "Flows that have no series of their own, as there are more than 10000: the last by name."),
	}
}

func (c flowCollector) Describe(to chan<- *prometheus.Desc) {
	d := describeFlows()
	for _, each := range []*prometheus.Desc{d.bytes, d.packets, d.opened, d.connections, d.looked, d.uncounted, d.missed, d.unattributed, d.withoutOwns} {
		to <- each
	}
}

func (c flowCollector) Collect(to chan<- prometheus.Metric) {
	ctx, cancel := context.WithTimeout(context.Background(), scrapeTime)
	defer cancel()
	d := describeFlows()
	send := func(desc *prometheus.Desc, of prometheus.ValueType, value float64, labels ...string) {
		to <- prometheus.MustNewConstMetric(desc, of, value, labels...)
	}
	report, err := c.engine.Flows(ctx, provisioning.FlowQuery{})
	if err != nil {
		to <- prometheus.NewInvalidMetric(d.bytes, err)
		return
	}
	own := report.Flows[:min(len(report.Flows), maxFlowSeries)]
	for _, f := range own {
		for direction, passed := range map[string]conntrack.Counter{"to": {Packets: f.PacketsTo, Bytes: f.BytesTo}, "back": {Packets: f.PacketsBack, Bytes: f.BytesBack}} {
			send(d.bytes, prometheus.CounterValue, float64(passed.Bytes), f.Name, direction)
			send(d.packets, prometheus.CounterValue, float64(passed.Packets), f.Name, direction)
		}
		send(d.opened, prometheus.CounterValue, float64(f.Opened), f.Name)
		send(d.connections, prometheus.GaugeValue, float64(f.Connections), f.Name)
	}
	looked := 0.0
	if report.Looked != nil {
		looked = unixSeconds(*report.Looked)
	}
	send(d.looked, prometheus.GaugeValue, looked)
	send(d.uncounted, prometheus.GaugeValue, float64(report.Uncounted))
	send(d.missed, prometheus.CounterValue, float64(report.Missed))
	send(d.unattributed, prometheus.CounterValue, float64(report.Unattributed))
	send(d.withoutOwns, prometheus.GaugeValue, float64(len(report.Flows)-len(own)))
}
