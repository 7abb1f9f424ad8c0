package testbed

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"shekara/testbed/oracle"
	"shekara/testbed/packet"
	"shekara/testbed/report"
	"shekara/testbed/scenario"
)

// shot is one packet of a matrix.
type shot struct {
	from, to  string
	row, cell int
	packet    packet.Packet
	marker    packet.Marker
	allowed   bool
	reason    string
}

// rounds is how often each packet is sent: the first may go to address resolution or to a handshake.
const rounds = 4

// matrix sends every host's packets to every other's services, looks where they arrive, and compares with the oracle.
func (e *engine) matrix(ctx context.Context, step *report.Step, name string, m scenario.Matrix) error {
	judge, err := e.oracle(m.Documents)
	if err != nil {
		return err
	}
	w, err := e.watch()
	if err != nil {
		return err
	}
	defer w.Close()
	if err := e.notDeaf(ctx, w, m.Hosts); err != nil {
		return err
	}
	table, shots, err := e.plan(name, m, judge)
	if err != nil {
		return err
	}
	var expected []shot
	for _, p := range shots {
		if p.allowed {
			expected = append(expected, p)
		}
	}
	if len(expected) == 0 {
		return errors.New("the oracle allows nothing: that nothing arrives would prove nothing")
	}
	for range rounds {
		for _, p := range shots {
			data, err := p.packet.Build(p.marker)
			if err != nil {
				return err
			}
			if err := packet.Send(e.network.Host(p.from), "", data); err != nil {
				return fmt.Errorf("send from %s: %w", p.from, err)
			}
		}
		round, cancel := context.WithTimeout(ctx, resendEvery)
		for _, p := range expected {
			w.Wait(round, p.marker, []string{p.to})
		}
		cancel()
	}
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(quietFor):
	}
	return e.verdict(step, table, shots, w)
}

func (e *engine) oracle(documents []string) (*oracle.Oracle, error) {
	var files [][]byte
	for _, name := range documents {
		text, err := e.readFile(name)
		if err != nil {
			return nil, err
		}
		files = append(files, []byte(text))
	}
	return oracle.Read(files...)
}

// notDeaf puts a packet on the cable of each host and wants to see it there.
func (e *engine) notDeaf(ctx context.Context, w *packet.Watch, hosts []string) error {
	for _, name := range hosts {
		neighbour, iface := e.neighbour(name)
		addresses := e.addresses(name)
		if neighbour == "" || len(addresses) == 0 {
			return fmt.Errorf("host %q has no neighbour or no address", name)
		}
		marker := packet.NewMarker()
		data, err := packet.Packet{Source: addresses[0], Destination: addresses[0], Protocol: "udp", Port: 9}.Build(marker)
		if err != nil {
			return err
		}
		if err := packet.Inject(e.network.Host(neighbour), iface, data); err != nil {
			return err
		}
		ctx, cancel := context.WithTimeout(ctx, arriveWithin)
		missing := w.Wait(ctx, marker, []string{name})
		cancel()
		if len(missing) > 0 {
			return fmt.Errorf("a packet put on the cable of %s is not seen there: the watch is deaf", name)
		}
	}
	return nil
}

// neighbour is another host on one of the host's links, and its interface there.
func (e *engine) neighbour(name string) (host, iface string) {
	for _, l := range e.scenario.Links {
		if !slices.ContainsFunc(l.Ends, func(end scenario.End) bool { return end.Host == name }) {
			continue
		}
		for _, end := range l.Ends {
			if end.Host != name {
				return end.Host, end.Interface
			}
		}
	}
	return "", ""
}

// plan lays out the table: a row for each sender and one of its addresses, a column for each receiver's address and service.
func (e *engine) plan(name string, m scenario.Matrix, judge *oracle.Oracle) (*report.Matrix, []shot, error) {
	table := &report.Matrix{Name: name}
	type target struct {
		host     string
		address  netip.Addr
		protocol string
		port     uint16
	}
	var targets []target
	for _, host := range m.Hosts {
		for _, address := range e.addresses(host) {
			for _, service := range m.Services {
				protocol, port, err := parseService(service)
				if err != nil {
					return nil, nil, err
				}
				targets = append(targets, target{host, address, protocol, port})
				table.Columns = append(table.Columns, fmt.Sprintf("%s %s %s", host, address, service))
			}
		}
	}
	var shots []shot
	for _, from := range m.Hosts {
		for _, is4 := range []bool{true, false} {
			sources := slices.DeleteFunc(e.addresses(from), func(a netip.Addr) bool { return a.Is4() != is4 })
			if len(sources) == 0 {
				continue
			}
			row := report.Row{Name: from, Cells: make([]report.Cell, len(targets))}
			if !is4 {
				row.Name += " (IPv6)"
			}
			for i, t := range targets {
				if t.host == from || t.address.Is4() != is4 {
					continue
				}
				p := shot{from: from, to: t.host, row: len(table.Rows), cell: i, marker: packet.NewMarker(),
					packet: packet.Packet{Source: sources[0], Destination: t.address, Protocol: t.protocol, Port: t.port, SourcePort: uint16(20000 + len(shots)%40000)}}
				asked := oracle.Packet{From: e.location(from), To: e.location(t.host), Source: sources[0], Destination: t.address, Protocol: t.protocol, Port: t.port}
				if t.protocol == "icmp" && !is4 {
					asked.Protocol = "icmpv6"
				}
				if !judge.Judges(asked) {
					continue // foreign devices alone stand between them
				}
				p.allowed, p.reason = judge.Allowed(asked)
				shots = append(shots, p)
			}
			table.Rows = append(table.Rows, row)
		}
	}
	return table, shots, nil
}

func (e *engine) location(name string) oracle.Location {
	h, _ := e.host(name)
	return oracle.Location{Zone: h.Zone, Peer: h.Peer, Appliance: h.Kind == "edge" || h.Kind == "foreign"}
}

func (e *engine) verdict(step *report.Step, table *report.Matrix, shots []shot, w *packet.Watch) error {
	var problems []error
	arrived := 0
	for _, p := range shots {
		came := slices.ContainsFunc(w.Seen(p.marker), func(s packet.Sighting) bool { return s.Place == p.to })
		table.Rows[p.row].Cells[p.cell] = report.Cell{Asked: true, Arrived: came, Allowed: p.allowed, Reason: p.packet.String() + ": " + p.reason}
		switch {
		case came && !p.allowed:
			problems = append(problems, fmt.Errorf("leaked: %s from %s arrived at %s: %s", p.packet, p.from, p.to, p.reason))
		case !came && p.allowed:
			problems = append(problems, fmt.Errorf("missing: %s from %s did not arrive at %s, which %s allows", p.packet, p.from, p.to, p.reason))
		}
		if came {
			arrived++
		}
	}
	e.mu.Lock()
	e.report.Matrices = append(e.report.Matrices, *table)
	e.mu.Unlock()
	step.Facts = append(step.Facts, report.Fact{Name: "packets sent", Value: strconv.Itoa(len(shots))},
		report.Fact{Name: "arrived", Value: strconv.Itoa(arrived)}, report.Fact{Name: "stopped", Value: strconv.Itoa(len(shots) - arrived)})
	return errors.Join(problems...)
}

// parseService reads tcp/443 or icmp.
func parseService(text string) (protocol string, port uint16, err error) {
	protocol, number, hasPort := strings.Cut(text, "/")
	if !hasPort {
		return protocol, 0, nil
	}
	n, err := strconv.ParseUint(number, 10, 16)
	if err != nil {
		return "", 0, fmt.Errorf("service %q: a port is wanted: %w", text, err)
	}
	return protocol, uint16(n), nil
}
