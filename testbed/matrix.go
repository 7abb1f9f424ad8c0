package testbed

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"

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

// sentMatrix is a matrix that was sent, and what the report says of it.
type sentMatrix struct {
	scenario.Matrix
	table *report.Matrix
	shots []shot
}

// matrix sends every host's packets to every other's services, looks where they arrive, and compares with the oracle.
func (e *engine) matrix(ctx context.Context, step *report.Step, name string, m scenario.Matrix) error {
	if m.ControlOf != "" {
		return e.matrixControl(ctx, step, m.ControlOf)
	}
	judge, err := e.oracle(m.Documents)
	if err != nil {
		return err
	}
	table, shots, err := e.plan(name, m, judge)
	if err != nil {
		return err
	}
	sent := &sentMatrix{m, table, shots}
	if !slices.ContainsFunc(shots, func(s shot) bool { return s.allowed }) {
		return errors.New("the oracle allows nothing: that nothing arrives would prove nothing")
	}
	w, err := e.fire(ctx, m.Hosts, shots)
	if err != nil {
		return err
	}
	defer w.Close()
	e.mu.Lock()
	e.report.Matrices = append(e.report.Matrices, table)
	e.matrices[name] = sent
	e.mu.Unlock()
	return e.verdict(step, sent, w)
}

// matrixControl sends the packets of an earlier matrix once more. All of them must arrive.
func (e *engine) matrixControl(ctx context.Context, step *report.Step, name string) error {
	e.mu.Lock()
	sent := e.matrices[name]
	e.mu.Unlock()
	if sent == nil {
		return fmt.Errorf("matrix %q was not sent", name)
	}
	shots := slices.Clone(sent.shots)
	for i := range shots {
		shots[i].marker, shots[i].allowed = packet.NewMarker(), true
	}
	w, err := e.fire(ctx, sent.Hosts, shots)
	if err != nil {
		return err
	}
	defer w.Close()
	var problems []error
	stopped := 0
	for i, p := range shots {
		if !arrived(w, p) {
			problems = append(problems, fmt.Errorf("%s from %s does not arrive at %s though nothing filters: that it was stopped proves nothing", p.packet, p.from, p.to))
			continue
		}
		sent.table.Rows[p.row].Cells[p.cell].Controlled = true
		if !sent.shots[i].allowed {
			stopped++
		}
	}
	step.Facts = append(step.Facts, report.Fact{Name: "packets that were stopped before, and arrive now", Value: strconv.Itoa(stopped)})
	return errors.Join(problems...)
}

// fire sends packets, several times, until all have arrived that should, and a while of quiet is over. The caller closes the watch.
func (e *engine) fire(ctx context.Context, hosts []string, shots []shot) (*packet.Watch, error) {
	w, err := e.watch()
	if err != nil {
		return nil, err
	}
	if err := e.fireAt(ctx, w, hosts, shots); err != nil {
		w.Close()
		return nil, err
	}
	return w, nil
}

func (e *engine) fireAt(ctx context.Context, w *packet.Watch, hosts []string, shots []shot) error {
	if err := e.notDeaf(ctx, w, hosts); err != nil {
		return err
	}
	for range rounds {
		for _, p := range shots {
			if err := e.transmit(p.from, "", p.packet, p.marker); err != nil {
				return err
			}
		}
		round, cancel := context.WithTimeout(ctx, resendEvery)
		for _, p := range shots {
			if p.allowed {
				w.Wait(round, p.marker, []string{p.to})
			}
		}
		cancel()
	}
	return pause(ctx, quietFor)
}

func arrived(w *packet.Watch, p shot) bool {
	return slices.ContainsFunc(w.Seen(p.marker), func(s packet.Sighting) bool { return s.Place == p.to })
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
		host    string
		address netip.Addr
		service
	}
	var targets []target
	for _, host := range m.Hosts {
		for _, address := range e.addresses(host) {
			for _, service := range m.Services {
				parsed, err := parseService(service)
				if err != nil {
					return nil, nil, err
				}
				targets = append(targets, target{host, address, parsed})
				table.Columns = append(table.Columns, report.Column{Host: host, Address: address.String(), Service: service})
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
					packet: packet.Packet{Source: sources[0], Destination: t.address, Protocol: t.protocol, Port: t.port, Pieces: t.pieces, SourcePort: uint16(20000 + len(shots)%40000)}}
				asked := oracle.Packet{From: e.location(from), To: e.location(t.host), Source: sources[0], Destination: t.address, Protocol: t.protocol, Port: t.port, Later: t.pieces == packet.Later}
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

func (e *engine) verdict(step *report.Step, sent *sentMatrix, w *packet.Watch) error {
	var problems []error
	count := 0
	for _, p := range sent.shots {
		came := arrived(w, p)
		sent.table.Rows[p.row].Cells[p.cell] = report.Cell{Asked: true, Arrived: came, Allowed: p.allowed, Reason: p.packet.String() + ": " + p.reason}
		switch {
		case came && !p.allowed:
			problems = append(problems, fmt.Errorf("leaked: %s from %s arrived at %s: %s", p.packet, p.from, p.to, p.reason))
		case !came && p.allowed:
			problems = append(problems, fmt.Errorf("missing: %s from %s did not arrive at %s, which %s allows", p.packet, p.from, p.to, p.reason))
		}
		if came {
			count++
		}
	}
	step.Facts = append(step.Facts, report.Fact{Name: "packets sent", Value: strconv.Itoa(len(sent.shots))},
		report.Fact{Name: "arrived", Value: strconv.Itoa(count)}, report.Fact{Name: "stopped", Value: strconv.Itoa(len(sent.shots) - count)})
	return errors.Join(problems...)
}

// service is what a matrix sends.
type service struct {
	protocol string
	port     uint16
	pieces   packet.Pieces
}

// parseService reads tcp/443, icmp, gre, 253, "udp/53 fragments" or "udp/53 later".
func parseService(text string) (service, error) {
	words, pieces, _ := strings.Cut(text, " ")
	protocol, number, hasPort := strings.Cut(words, "/")
	s := service{protocol: protocol, pieces: packet.Pieces(pieces)}
	if !hasPort {
		return s, nil
	}
	n, err := strconv.ParseUint(number, 10, 16)
	if err != nil {
		return s, fmt.Errorf("service %q: a port is wanted: %w", text, err)
	}
	s.port = uint16(n)
	return s, nil
}
