package accounting

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"time"

	"shekara/netctl/conntrack"
)

// A file is a line that names its format, then frames: the length of a payload (32 bits), its CRC-32C (32 bits), the payload, which begins
// with its kind. Integers are little-endian where their width is said, else as encoding/binary's varints; texts have their length before them,
// which is not 0.
//
//	'h'  boot, when it was written (UNIX nanoseconds), Missed, Unattributed, how many flows and connections follow
//	'f'  flows: name, packets and bytes to, packets and bytes back, opened, since, noticed (UNIX seconds, 0: never)
//	'c'  connections: key (64 bits), place of the flow among those before, packets and bytes to, packets and bytes back
//	'e'  what ended since, one frame after the other: key (64 bits), flow, packets and bytes to, packets and bytes back
//
// Only the last frame may be torn, and only of kind 'e': a killed daemon was writing it.
const (
	format = "shekara flows 1\n"
	// MaxFile bounds what is read: 250,000 connections and 10,000 flows are 12 MB.
	MaxFile     = 64 << 20
	frameHead   = 8
	frameBytes  = 1 << 16 // a frame of many is closed above that
	maxFlowName = 253
)

// saved is what a file has.
type saved struct {
	boot                 string
	written              time.Time
	missed, unattributed uint64
	flows                []Flow
	connections          []savedConnection
	ends                 []end
}

type savedConnection struct {
	key      uint64
	flow     uint32
	to, back conntrack.Counter
}

// frame begins one; seal ends it.
func frame(out []byte, kind byte) []byte {
	return append(append(out, make([]byte, frameHead)...), kind)
}

func seal(out []byte, from int) []byte {
	payload := out[from+frameHead:]
	binary.LittleEndian.PutUint32(out[from:], uint32(len(payload)))
	binary.LittleEndian.PutUint32(out[from+4:], crc32.Checksum(payload, crc32.MakeTable(crc32.Castagnoli)))
	return out
}

func appendText(out []byte, s string) []byte {
	return append(binary.AppendUvarint(out, uint64(len(s))), s...)
}

func appendCounters(out []byte, list ...conntrack.Counter) []byte {
	for _, c := range list {
		out = binary.AppendUvarint(binary.AppendUvarint(out, c.Packets), c.Bytes)
	}
	return out
}

func appendTime(out []byte, t time.Time) []byte {
	if t.IsZero() {
		return append(out, 0)
	}
	return binary.AppendVarint(out, t.Unix())
}

func appendEnd(out []byte, e end) []byte {
	return appendCounters(appendText(binary.LittleEndian.AppendUint64(out, e.key), e.flow), e.to, e.back)
}

// encode writes the whole ledger to a buffer; connections says whether with those that live.
func (l *Ledger) encode(out []byte, boot string, connections bool) []byte {
	l.mu.Lock()
	defer l.mu.Unlock()
	held := 0
	if connections {
		held = len(l.live)
	}
	out = append(out, format...)
	from := len(out)
	out = frame(out, 'h')
	out = binary.AppendVarint(appendText(out, boot), time.Now().UnixNano())
	for _, n := range []uint64{l.figures.Missed, l.figures.Unattributed, uint64(len(l.names)), uint64(held)} {
		out = binary.AppendUvarint(out, n)
	}
	out = seal(out, from)
	var places []uint64 // in the file, of each flow
	from, number := len(out), uint64(0)
	out = frame(out, 'f')
	next := func(kind byte) {
		if len(out)-from > frameBytes {
			out = seal(out, from)
			from = len(out)
			out = frame(out, kind)
		}
	}
	for _, f := range l.flows {
		places = append(places, number)
		if f == nil {
			continue
		}
		number++
		out = binary.AppendUvarint(appendCounters(appendText(out, f.Name), f.To, f.Back), f.Opened)
		out = appendTime(appendTime(out, f.Since), f.Noticed)
		next('f')
	}
	out = seal(out, from)
	if held == 0 {
		return out
	}
	from = len(out)
	out = frame(out, 'c')
	for key, c := range l.live {
		out = binary.AppendUvarint(binary.LittleEndian.AppendUint64(out, key), places[c.flow])
		out = appendCounters(out, c.to, c.back)
		next('c')
	}
	return seal(out, from)
}

// reader takes a payload apart. The first mistake stays.
type reader struct {
	left []byte
	err  error
}

func (r *reader) fail(what string) {
	if r.err == nil {
		r.err, r.left = fmt.Errorf("%s is cut short or too large", what), nil
	}
}

func (r *reader) number(what string) uint64 {
	n, size := binary.Uvarint(r.left)
	if size <= 0 {
		r.fail(what)
		return 0
	}
	r.left = r.left[size:]
	return n
}

func (r *reader) signed(what string) int64 {
	n, size := binary.Varint(r.left)
	if size <= 0 {
		r.fail(what)
		return 0
	}
	r.left = r.left[size:]
	return n
}

func (r *reader) time(what string) time.Time {
	n := r.signed(what)
	if n == 0 || r.err != nil {
		return time.Time{}
	}
	return time.Unix(n, 0)
}

func (r *reader) key() uint64 {
	if len(r.left) < 8 {
		r.fail("key")
		return 0
	}
	n := binary.LittleEndian.Uint64(r.left)
	r.left = r.left[8:]
	return n
}

func (r *reader) text(what string, most uint64) string {
	n := r.number(what)
	if n == 0 || n > most || n > uint64(len(r.left)) {
		r.fail(what)
		return ""
	}
	s := string(r.left[:n])
	r.left = r.left[n:]
	return s
}

func (r *reader) counters() (to, back conntrack.Counter) {
	for _, n := range []*uint64{&to.Packets, &to.Bytes, &back.Packets, &back.Bytes} {
		*n = r.number("counter")
	}
	return to, back
}

// decode reads a file.
func decode(data []byte) (*saved, error) {
	if len(data) < len(format) || string(data[:len(format)]) != format {
		return nil, fmt.Errorf("begins with %q, not with %q", data[:min(len(data), len(format))], format)
	}
	rest := data[len(format):]
	s := &saved{}
	var flows, connections uint64
	for first := true; len(rest) > 0; first = false {
		payload, ok := unframe(&rest)
		whole := !first && uint64(len(s.flows)) == flows && uint64(len(s.connections)) == connections
		switch {
		case !ok && whole:
			return s, nil // torn
		case !ok || first != (payload[0] == 'h'):
			return nil, fmt.Errorf("frame at byte %d cannot be read", len(data)-len(rest))
		}
		r := &reader{left: payload[1:]}
		switch payload[0] {
		case 'h':
			s.boot, s.written = r.text("boot", 64), time.Unix(0, r.signed("time"))
			s.missed, s.unattributed = r.number("missed"), r.number("unattributed")
			flows, connections = r.number("flows"), r.number("connections")
		case 'f':
			s.readFlows(r)
		case 'c':
			s.readConnections(r)
		case 'e':
			if !whole {
				r.fail("what comes before the ends")
			}
			s.readEnds(r)
		default:
			return nil, fmt.Errorf("a frame of kind %q", payload[0])
		}
		if r.err != nil {
			return nil, fmt.Errorf("frame of kind %q: %w", payload[0], r.err)
		}
	}
	if uint64(len(s.flows)) != flows || uint64(len(s.connections)) != connections || s.written.IsZero() {
		return nil, fmt.Errorf("%d flows of %d and %d connections of %d", len(s.flows), flows, len(s.connections), connections)
	}
	return s, nil
}

// unframe takes a payload, which is not empty, off what is left.
func unframe(rest *[]byte) (payload []byte, ok bool) {
	if len(*rest) < frameHead {
		return nil, false
	}
	length, sum := binary.LittleEndian.Uint32(*rest), binary.LittleEndian.Uint32((*rest)[4:])
	if length == 0 || uint64(length) > uint64(len(*rest)-frameHead) {
		return nil, false
	}
	payload = (*rest)[frameHead : frameHead+length]
	if crc32.Checksum(payload, crc32.MakeTable(crc32.Castagnoli)) != sum {
		return nil, false
	}
	*rest = (*rest)[frameHead+length:]
	return payload, true
}

func (s *saved) readFlows(r *reader) {
	for len(r.left) > 0 {
		f := Flow{Name: r.text("name of a flow", maxFlowName)}
		f.To, f.Back = r.counters()
		f.Opened, f.Since, f.Noticed = r.number("opened"), r.time("since"), r.time("noticed")
		if r.err == nil {
			s.flows = append(s.flows, f)
		}
	}
}

func (s *saved) readConnections(r *reader) {
	for len(r.left) > 0 {
		c := savedConnection{key: r.key()}
		flow := r.number("flow")
		if flow >= uint64(len(s.flows)) {
			r.fail("place of a flow")
		}
		c.flow = uint32(flow)
		c.to, c.back = r.counters()
		if r.err == nil {
			s.connections = append(s.connections, c)
		}
	}
}

func (s *saved) readEnds(r *reader) {
	for len(r.left) > 0 {
		e := end{key: r.key(), flow: r.text("name of a flow", maxFlowName)}
		e.to, e.back = r.counters()
		if r.err == nil {
			s.ends = append(s.ends, e)
		}
	}
}
