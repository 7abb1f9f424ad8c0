package provisioning

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"time"

	"shekara/firewall"
	"shekara/journal"
	"shekara/netctl/conntrack"
)

const (
	connectionWindow    = time.Minute
	connectionsShown    = 10  // events of their own in a window, for each flow, of beginnings and of ends
	connectionsShownAll = 120 // and for all: a busy flow or a scanner must not fill three years of disk
	connectionSums      = 20  // flows whose other connections are a sum of their own; of the rest there is one
)

// connectionRecords are connections that began or ended in a window and are not on record yet: the first of each flow are events of their own, at
// once, and all others are numbers at the window's end.
type connectionRecords struct {
	ends  time.Time // of the window
	flows map[string]*connectionSum
	shown [2]int // beginnings, ends
	ready []journal.Event
	// concerns names the registered systems that have addresses there.
	concerns func([]placed) []string
}

// connectionSum is what the connections of a flow come to that are no events of their own.
type connectionSum struct {
	flow        firewall.Flow
	shown, more [2]uint64 // beginnings, ends
	to, back    conntrack.Counter
}

// began takes a connection of a flow that began. The account is read before it returns.
func (c *connectionRecords) began(a *conntrack.Account, flow firewall.Flow) {
	if sum, tell := c.admit(0, flow); tell {
		c.tell(startEvent(a, flow), a, flow)
	} else {
		sum.more[0]++
	}
}

// ended takes one that ended.
func (c *connectionRecords) ended(a *conntrack.Account, flow firewall.Flow) {
	if sum, tell := c.admit(1, flow); tell {
		c.tell(endEvent(a, flow), a, flow)
	} else {
		sum.more[1]++
		sum.to, sum.back = sum.to.Plus(a.Original), sum.back.Plus(a.Reply)
	}
}

// tell makes an event ready, and says which systems it concerns: by the addresses as hosts on this box's side write them. The far end of a tunnel writes others, if they are translated.
func (c *connectionRecords) tell(event journal.Event, a *conntrack.Account, flow firewall.Flow) {
	from, to := a.Source, a.Destination
	if flow.From.Device != "" && a.AnswersFrom.IsValid() {
		from, to = a.AnswersTo, a.AnswersFrom
	}
	event.Systems = c.concerns(bothEnds(from, to))
	c.ready = append(c.ready, event)
}

// admit finds the sum of a flow, and says whether a beginning or an end of it is to be an event of its own.
func (c *connectionRecords) admit(which int, flow firewall.Flow) (sum *connectionSum, tell bool) {
	if c.flows == nil {
		c.ends, c.flows, c.shown = time.Now().Add(connectionWindow), map[string]*connectionSum{}, [2]int{}
	}
	if sum = c.flows[flow.Name]; sum == nil {
		sum = &connectionSum{flow: flow}
		c.flows[flow.Name] = sum
	}
	if sum.shown[which] >= connectionsShown || c.shown[which] >= connectionsShownAll {
		return sum, false
	}
	sum.shown[which]++
	c.shown[which]++
	return sum, true
}

// take is what is to be put on record now.
func (c *connectionRecords) take(now time.Time) []journal.Event {
	events := c.ready
	c.ready = nil
	if c.flows == nil || now.Before(c.ends) {
		return events
	}
	sums := slices.DeleteFunc(slices.Collect(maps.Values(c.flows)), func(s *connectionSum) bool { return s.all() == 0 })
	slices.SortFunc(sums, func(x, y *connectionSum) int {
		return cmp.Or(cmp.Compare(y.all(), x.all()), cmp.Compare(x.flow.Name, y.flow.Name))
	})
	if len(sums) > connectionSums {
		rest := &connectionSum{}
		for _, s := range sums[connectionSums:] {
			rest.more[0], rest.more[1] = rest.more[0]+s.more[0], rest.more[1]+s.more[1]
			rest.to, rest.back = rest.to.Plus(s.to), rest.back.Plus(s.back)
		}
		sums = append(sums[:connectionSums], rest)
	}
	for _, s := range sums {
		event := s.event()
		event.Systems = c.concerns(s.reaches())
		events = append(events, event)
	}
	c.flows = nil
	return events
}

// reaches is between what addresses its flow lets connections be opened.
func (s *connectionSum) reaches() (all []placed) {
	for _, p := range s.flow.Sources {
		all = append(all, placed{s.flow.From.Zone, p})
	}
	for _, p := range s.flow.Destinations {
		all = append(all, placed{s.flow.To.Zone, p})
	}
	return all
}

func (s *connectionSum) all() uint64 { return s.more[0] + s.more[1] }

// tellConnections does not wait for the disk: meanwhile news would be lost.
func (c *counting) tellConnections(now time.Time) {
	for _, event := range c.records.take(now) {
		c.options.Journal.Post(event)
	}
}

// channel is what a connection is about: the tunnel, or where there is none the flow.
func channel(flow firewall.Flow) string {
	switch {
	case flow.Tunnel != "":
		return "tunnel/" + flow.Tunnel
	case flow.Name != "":
		return "flow/" + flow.Name
	}
	return "filter"
}

func startEvent(a *conntrack.Account, flow firewall.Flow) journal.Event {
	what, fields := opened(a, flow.Name)
	return journal.Event{Type: journal.ConnectionStart, Severity: journal.Info, Object: channel(flow), Fields: fields, Message: what + " began"}
}

func endEvent(a *conntrack.Account, flow firewall.Flow) journal.Event {
	what, fields := opened(a, flow.Name)
	maps.Copy(fields, carried(a.Original, a.Reply))
	lived := ""
	if took := a.Ended.Sub(a.Began); !a.Began.IsZero() && took > 0 {
		fields["seconds"] = strconv.FormatFloat(took.Seconds(), 'f', 3, 64)
		lived = " in " + took.Round(time.Millisecond).String()
	}
	return journal.Event{Type: journal.ConnectionEnd, Severity: journal.Info, Object: channel(flow), Fields: fields,
		Message: fmt.Sprintf("%s ended: %d bytes there, %d back%s", what, a.Original.Bytes, a.Reply.Bytes, lived)}
}

func (s *connectionSum) event() journal.Event {
	fields := carried(s.to, s.back)
	maps.Copy(fields, fieldsOf("flow", s.flow.Name, "began", strconv.FormatUint(s.more[0], 10), "ended", strconv.FormatUint(s.more[1], 10)))
	return journal.Event{Type: journal.ConnectionSum, Severity: journal.Info, Object: channel(s.flow), Fields: fields,
		Message: fmt.Sprintf("%d more connections began within %s and %d ended: %d bytes there, %d back", s.more[0], connectionWindow, s.more[1], s.to.Bytes, s.back.Bytes)}
}

// opened is a connection as it was opened, in words and fields.
func opened(a *conntrack.Account, flow string) (what string, fields map[string]string) {
	protocol, known := protocolNames[firewall.Protocol(a.Protocol)]
	if !known {
		protocol = strconv.Itoa(int(a.Protocol))
	}
	fields = fieldsOf("flow", flow, "protocol", protocol, "source", a.Source.String(), "destination", a.Destination.String())
	what = protocol
	if a.SourcePort != 0 || a.DestinationPort != 0 {
		fields["sourcePort"], fields["destinationPort"] = strconv.Itoa(int(a.SourcePort)), strconv.Itoa(int(a.DestinationPort))
		what += "/" + fields["destinationPort"]
	}
	if !a.Began.IsZero() {
		fields["began"] = a.Began.UTC().Format(time.RFC3339Nano)
	}
	return fmt.Sprintf("%s from %s to %s", what, a.Source, a.Destination), fields
}

func carried(to, back conntrack.Counter) map[string]string {
	number := func(n uint64) string { return strconv.FormatUint(n, 10) }
	return map[string]string{"packetsTo": number(to.Packets), "bytesTo": number(to.Bytes), "packetsBack": number(back.Packets), "bytesBack": number(back.Bytes)}
}
