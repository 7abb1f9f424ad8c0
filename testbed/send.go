package testbed

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"shekara/testbed/packet"
	"shekara/testbed/report"
	"shekara/testbed/scenario"
)

const (
	arriveWithin = 10 * time.Second // of a packet that must arrive
	resendEvery  = time.Second      // the first may be lost to address resolution or a handshake
	quietFor     = 300 * time.Millisecond
)

// watch looks at all hosts.
func (e *engine) watch() (*packet.Watch, error) {
	places := map[string]packet.Place{}
	for _, h := range e.scenario.Hosts {
		places[h.Name] = e.network.Host(h.Name)
	}
	return packet.NewWatch(places)
}

// send sends a crafted packet and looks where it arrives. What must arrive nowhere is judged after its control, sent behind it
// on the same way, has arrived, and a while of quiet.
func (e *engine) send(ctx context.Context, step *report.Step, s scenario.Send) error {
	if s.ControlBy != "" && e.outcome(s.ControlBy) != report.Passed {
		return fmt.Errorf("its positive control %q did not pass: that nothing arrives proves nothing", s.ControlBy)
	}
	w, err := e.watch()
	if err != nil {
		return err
	}
	defer w.Close()
	probe := craft(s.Packet)
	marker := packet.NewMarker()
	missing, err := e.sendUntil(ctx, w, s.From, s.Interface, probe, marker, s.Arrives)
	if err != nil {
		return err
	}
	var problems []error
	if len(missing) > 0 {
		problems = append(problems, fmt.Errorf("%s did not arrive at %s", probe, strings.Join(missing, ", ")))
	}
	if s.Control != nil {
		if err := e.sendControl(ctx, w, s); err != nil {
			problems = append(problems, err)
		}
	}
	if len(s.NotArrives) > 0 {
		// Once more: were it only late or lost before, its twin is here now.
		if _, err := e.sendUntil(ctx, w, s.From, s.Interface, probe, marker, nil); err != nil {
			return err
		}
		select {
		case <-ctx.Done():
		case <-time.After(quietFor):
		}
	}
	seen := w.Seen(marker)
	for _, place := range s.NotArrives {
		if slices.ContainsFunc(seen, func(at packet.Sighting) bool { return at.Is(place) }) {
			problems = append(problems, fmt.Errorf("%s arrived at %s, and must not", probe, place))
		}
	}
	step.Facts = append(step.Facts, report.Fact{Name: "packet", Value: probe.String()}, report.Fact{Name: "seen at", Value: placesOf(seen)})
	return errors.Join(problems...)
}

func (e *engine) sendControl(ctx context.Context, w *packet.Watch, s scenario.Send) error {
	from, iface := s.Control.From, ""
	if from == "" {
		from, iface = s.From, s.Interface
	}
	places := s.Control.Arrives
	if len(places) == 0 {
		places = s.NotArrives
	}
	control := craft(s.Control.Packet)
	missing, err := e.sendUntil(ctx, w, from, iface, control, packet.NewMarker(), places)
	if err == nil && len(missing) > 0 {
		err = fmt.Errorf("the positive control %s did not arrive at %s: that the other arrives nowhere proves nothing", control, strings.Join(missing, ", "))
	}
	return err
}

// sendUntil sends a packet until it was seen at all places, again each second; with no places, once.
func (e *engine) sendUntil(ctx context.Context, w *packet.Watch, from, iface string, p packet.Packet, marker packet.Marker, places []string) (missing []string, err error) {
	ctx, cancel := context.WithTimeout(ctx, arriveWithin)
	defer cancel()
	for {
		if err := e.transmit(from, iface, p, marker); err != nil {
			return nil, err
		}
		if len(places) == 0 {
			return nil, nil
		}
		try, stop := context.WithTimeout(ctx, resendEvery)
		missing = w.Wait(try, marker, places)
		stop()
		if len(missing) == 0 || ctx.Err() != nil {
			return missing, nil
		}
	}
}

// transmit sends a packet, or its fragments, once.
func (e *engine) transmit(from, iface string, p packet.Packet, marker packet.Marker) error {
	frames, err := p.Frames(marker)
	if err != nil {
		return err
	}
	for _, data := range frames {
		if err := packet.Send(e.network.Host(from), iface, data); err != nil {
			return fmt.Errorf("send from %s: %w", from, err)
		}
	}
	return nil
}

func craft(p scenario.Packet) packet.Packet {
	return packet.Packet{Source: p.Source, Destination: p.Destination, Protocol: p.Protocol, SourcePort: p.SourcePort, Port: p.Port,
		Flags: p.Flags, TTL: p.TTL, Size: p.Size, Options: p.Options, Pieces: packet.Pieces(p.Pieces)}
}

func placesOf(seen []packet.Sighting) string {
	var places []string
	for _, s := range seen {
		if !slices.Contains(places, s.String()) {
			places = append(places, s.String())
		}
	}
	if len(places) == 0 {
		return "nowhere"
	}
	return strings.Join(places, ", ")
}
