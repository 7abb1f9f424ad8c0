package drawing

import (
	"fmt"
	"math"
	"slices"
	"strings"
)

// channel is the space between two columns: labels of lines that begin at the left, upright tracks, labels of those that begin at the right.
type channel struct {
	x, width              float64
	labelLeft, labelRight float64
	tracks                [][]span // what is taken of each track
}

type span struct{ top, bottom float64 }

// route is one line: corner points, and where its label stands.
type route struct {
	points         [][2]float64
	label          string
	labelX, labelY float64 // the middle
	half           float64 // of its width
}

// maxLabel is the widest that a label may be.
const maxLabel = 200.0

// bold is how much wider a strong text is.
const bold = 1.1

// leg is one upright piece of a route.
type leg struct {
	channel, track int
}

// route finds the way of every edge: from its port to a track in the channel beside, by a lane under all cards if columns are between, to the
// other port.
func (l *plan) route() {
	l.channels = make([]channel, len(l.columns)+1)
	type ways struct {
		from, to *port
		legs     []leg
		lane     int
	}
	all := make([]ways, len(l.picture.Edges))
	for i, e := range l.picture.Edges {
		from, to := l.cards[e.From], l.cards[e.To]
		fromRight, toRight := l.sides(e)
		w := ways{from: portOf(from, fromRight, i, true), to: portOf(to, toRight, i, false), lane: -1}
		first, last := from.column, to.column
		if fromRight {
			first++
		}
		if toRight {
			last++
		}
		if first == last {
			w.legs = []leg{{first, l.take(first, w.from.y, w.to.y)}}
		} else {
			w.lane = l.lanes
			l.lanes++
			y := l.laneY(w.lane)
			w.legs = []leg{{first, l.take(first, w.from.y, y)}, {last, l.take(last, w.to.y, y)}}
		}
		label := Cut(e.Label, labelSize*bold, maxLabel-20)
		r := route{label: label, half: Width(label, labelSize)*bold/2 + 10, labelY: w.from.y}
		c := &l.channels[first]
		if fromRight {
			c.labelLeft = max(c.labelLeft, 2*r.half+14)
		} else {
			c.labelRight = max(c.labelRight, 2*r.half+14)
		}
		l.routes, all[i] = append(l.routes, r), w
	}
	l.spread()
	for i, w := range all {
		e, r := l.picture.Edges[i], &l.routes[i]
		from, to := l.cards[e.From], l.cards[e.To]
		fromRight, toRight := l.sides(e)
		start, side := from.x, -1.0
		if fromRight {
			start, side = from.x+from.w, 1
		}
		end := to.x
		if toRight {
			end += to.w
		}
		r.labelX = start + side*(8+r.half)
		r.points = append(r.points, [2]float64{start, w.from.y}, [2]float64{l.trackX(w.legs[0]), w.from.y})
		if w.lane >= 0 {
			y := l.laneY(w.lane)
			r.points = append(r.points, [2]float64{l.trackX(w.legs[0]), y}, [2]float64{l.trackX(w.legs[1]), y})
		}
		r.points = append(r.points, [2]float64{l.trackX(w.legs[len(w.legs)-1]), w.to.y}, [2]float64{end, w.to.y})
	}
}

func portOf(c *placed, right bool, edge int, start bool) *port {
	ports := c.portsL
	if right {
		ports = c.portsR
	}
	return ports[slices.IndexFunc(ports, func(p *port) bool { return p.edge == edge && p.start == start })]
}

// take finds the first track of a channel that is free between two heights.
func (l *plan) take(channel int, a, b float64) int {
	wanted := span{min(a, b) - 8, max(a, b) + 8}
	c := &l.channels[channel]
	for i, taken := range c.tracks {
		if !slices.ContainsFunc(taken, func(s span) bool { return s.top < wanted.bottom && wanted.top < s.bottom }) {
			c.tracks[i] = append(taken, wanted)
			return i
		}
	}
	c.tracks = append(c.tracks, []span{wanted})
	return len(c.tracks) - 1
}

func (l *plan) laneY(lane int) float64 { return l.bottom + 18 + trackGap*float64(lane) }

// spread gives columns and channels their places from left to right.
func (l *plan) spread() {
	x := margin
	for i := range l.channels {
		c := &l.channels[i]
		c.x, c.width = x, c.labelLeft+c.labelRight+groundPad
		if len(c.tracks) > 0 {
			c.width += groundPad*2 + trackGap*float64(len(c.tracks)+1)
		} else if i > 0 && i < len(l.channels)-1 {
			c.width += groundPad * 3
		}
		x += c.width
		if i < len(l.columns) {
			for _, card := range l.columns[i] {
				card.x = x
			}
			l.left = append(l.left, x)
			x += cardWidth
		}
	}
	l.width = max(x+margin, 760)
}

func (l *plan) trackX(g leg) float64 {
	c := l.channels[g.channel]
	left := c.x + c.labelLeft
	if g.channel > 0 {
		left += groundPad // the ground of the column to the left ends there
	}
	return left + trackGap*(float64(g.track)+1)
}

// path is a line through points with round corners.
func path(points [][2]float64) string {
	const round = 9.0
	var s strings.Builder
	fmt.Fprintf(&s, "M%.1f %.1f", points[0][0], points[0][1])
	for i := 1; i < len(points); i++ {
		p := points[i]
		if i == len(points)-1 {
			fmt.Fprintf(&s, " L%.1f %.1f", p[0], p[1])
			break
		}
		before, after := points[i-1], points[i+1]
		r := min(round, distance(before, p)/2, distance(p, after)/2)
		a, b := towards(p, before, r), towards(p, after, r)
		fmt.Fprintf(&s, " L%.1f %.1f Q%.1f %.1f %.1f %.1f", a[0], a[1], p[0], p[1], b[0], b[1])
	}
	return s.String()
}

func distance(a, b [2]float64) float64 { return math.Hypot(a[0]-b[0], a[1]-b[1]) }

func towards(from, to [2]float64, by float64) [2]float64 {
	d := distance(from, to)
	if d == 0 {
		return from
	}
	return [2]float64{from[0] + (to[0]-from[0])*by/d, from[1] + (to[1]-from[1])*by/d}
}
