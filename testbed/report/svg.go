package report

import (
	"cmp"
	"fmt"
	"html"
	"math"
	"slices"
	"strings"

	"shekara/drawing"
)

// Sizes of the drawing, in its own units.
const (
	boxWidth, boxHeight   = 178.0, 78.0
	columnGap, rowGap     = 128.0, 56.0
	marginSide, marginTop = 34.0, 58.0
	frameGap              = 16.0
	frameTitle            = 20.0
)

type box struct{ x, y float64 }

func (b box) middle() float64 { return b.y + boxHeight/2 }

// SVG draws the topology. Colours come from the page's style sheet, so that it fits light and dark.
func SVG(t Topology) string {
	places := layout(t)
	boxes := map[string]box{}
	width, height := 0.0, 0.0
	for name, p := range places {
		b := box{marginSide + float64(p.column)*(boxWidth+columnGap), marginTop + p.row*(boxHeight+rowGap)}
		boxes[name] = b
		width, height = max(width, b.x+boxWidth+marginSide), max(height, b.y+boxHeight+marginTop)
	}
	var s strings.Builder
	fmt.Fprintf(&s, `<svg class="topology" viewBox="0 0 %.0f %.0f" role="img" aria-label="topology" xmlns="http://www.w3.org/2000/svg">`, width, height)
	drawFrames(&s, t, boxes)
	ports := spread(t, boxes)
	for i, l := range t.Links {
		drawLink(&s, i, l, boxes, ports)
	}
	for _, tunnel := range t.Tunnels {
		drawTunnel(&s, tunnel, boxes)
	}
	for _, h := range t.Hosts {
		drawHost(&s, h, boxes[h.Name])
	}
	s.WriteString(`</svg>`)
	return s.String()
}

// drawFrames draws a frame around the hosts of each group.
func drawFrames(s *strings.Builder, t Topology, boxes map[string]box) {
	done := map[string]bool{}
	for _, first := range t.Hosts {
		if first.Group == "" || done[first.Group] {
			continue
		}
		done[first.Group] = true
		left, top, right, bottom := math.Inf(1), math.Inf(1), math.Inf(-1), math.Inf(-1)
		for _, h := range t.Hosts {
			if h.Group == first.Group {
				b := boxes[h.Name]
				left, top, right, bottom = min(left, b.x), min(top, b.y), max(right, b.x+boxWidth), max(bottom, b.y+boxHeight)
			}
		}
		fmt.Fprintf(s, `<rect class="frame %s" x="%.1f" y="%.1f" width="%.1f" height="%.1f" rx="18"/>`,
			html.EscapeString(first.Contour), left-frameGap, top-frameGap-frameTitle+4, right-left+2*frameGap, bottom-top+2*frameGap+frameTitle-4)
		fmt.Fprintf(s, `<text class="frame-title" x="%.1f" y="%.1f">%s</text>`, left-2, top-frameGap+4, html.EscapeString(first.Group))
	}
}

// port is where a link meets a box.
type port struct{ x, y float64 }

// spread gives the links that meet one side of a box places of their own, ordered by where they go, so that neither lines nor
// addresses lie on each other. The key is link and end.
func spread(t Topology, boxes map[string]box) map[[2]int]port {
	type side struct {
		host  string
		right bool
	}
	type meeting struct {
		key  [2]int
		goal float64
	}
	meetings := map[side][]meeting{}
	for i, l := range t.Links {
		if len(l.Ends) != 2 {
			continue
		}
		for j, end := range l.Ends {
			own, other := boxes[end.Host], boxes[l.Ends[1-j].Host]
			at := side{end.Host, other.x >= own.x} // one column: down the right side
			meetings[at] = append(meetings[at], meeting{[2]int{i, j}, other.middle()})
		}
	}
	ports := map[[2]int]port{}
	for at, list := range meetings {
		slices.SortStableFunc(list, func(a, b meeting) int { return cmp.Compare(a.goal, b.goal) })
		b := boxes[at.host]
		x := b.x
		if at.right {
			x += boxWidth
		}
		gap := min(24, (boxHeight-16)/float64(len(list)))
		for i, m := range list {
			ports[m.key] = port{x, b.middle() + gap*(float64(i)-float64(len(list)-1)/2)}
		}
	}
	return ports
}

// drawLink draws a curve between two hosts, or a star around a hub for more.
func drawLink(s *strings.Builder, i int, l Link, boxes map[string]box, ports map[[2]int]port) {
	class := "link"
	if l.Wire {
		class = "link wire"
	}
	if len(l.Ends) == 2 {
		first, last := 0, 1
		if boxes[l.Ends[0].Host].x > boxes[l.Ends[1].Host].x {
			first, last = 1, 0
		}
		from, to := ports[[2]int{i, first}], ports[[2]int{i, last}]
		bend := (to.x - from.x) / 2
		toBend := -bend
		if boxes[l.Ends[0].Host].x == boxes[l.Ends[1].Host].x {
			bend, toBend = 46, 46
		}
		fmt.Fprintf(s, `<path class="%s" d="M%.1f %.1f C%.1f %.1f %.1f %.1f %.1f %.1f"><title>%s</title></path>`, class,
			from.x, from.y, from.x+bend, from.y, to.x+toBend, to.y, to.x, to.y, title(l))
		if bend != toBend {
			// The near end's address stands above its line and the far end's below, so that two long ones do not meet.
			label(s, from.x+6, from.y-5, "start", l.Ends[first])
			label(s, to.x-6, to.y+12, "end", l.Ends[last])
		}
		return
	}
	hub := box{}
	for _, e := range l.Ends {
		b := boxes[e.Host]
		hub.x, hub.y = hub.x+(b.x+boxWidth/2)/float64(len(l.Ends)), hub.y+b.middle()/float64(len(l.Ends))
	}
	for _, e := range l.Ends {
		b := boxes[e.Host]
		fmt.Fprintf(s, `<path class="%s" d="M%.1f %.1f L%.1f %.1f"/>`, class, hub.x, hub.y, b.x+boxWidth/2, b.middle())
	}
	fmt.Fprintf(s, `<rect class="hub" x="%.1f" y="%.1f" width="46" height="16" rx="8"><title>%s</title></rect>`, hub.x-23, hub.y-8, title(l))
}

func title(l Link) string {
	lines := []string{l.Name}
	for _, e := range l.Ends {
		lines = append(lines, e.Host+" "+e.Interface+" "+strings.Join(e.Addresses, " "))
	}
	return html.EscapeString(strings.Join(lines, "\n"))
}

// label writes an end's first address.
func label(s *strings.Builder, x, y float64, anchor string, e LinkEnd) {
	if len(e.Addresses) > 0 {
		address, _, _ := strings.Cut(e.Addresses[0], "/")
		fmt.Fprintf(s, `<text class="address" text-anchor="%s" x="%.1f" y="%.1f">%s</text>`, anchor, x, y, html.EscapeString(address))
	}
}

// drawTunnel draws an arc above the links that carry it.
func drawTunnel(s *strings.Builder, t Tunnel, boxes map[string]box) {
	from, to := boxes[t.Between[0]], boxes[t.Between[1]]
	if from.x > to.x {
		from, to = to, from
	}
	startX, startY, endX, endY := from.x+boxWidth-26, from.y, to.x+26, to.y
	lift := 46.0
	if to.middle() < from.middle()-1 { // rises: below both
		startY, endY, lift = from.y+boxHeight, to.y+boxHeight, -46
	}
	d := fmt.Sprintf("M%.1f %.1f C%.1f %.1f %.1f %.1f %.1f %.1f", startX, startY, startX+70, startY-lift, endX-70, endY-lift, endX, endY)
	fmt.Fprintf(s, `<path class="tunnel-glow" d="%s"/><path class="tunnel" d="%s"/>`, d, d)
	if t.Label != "" {
		// The middle of a cubic curve: an eighth of the ends, three eighths of the handles.
		x := (startX+endX)/8 + 3*(startX+70+endX-70)/8
		y := (startY+endY)/8 + 3*(startY+endY-2*lift)/8
		half := float64(len([]rune(t.Label)))*3.35 + 9
		drawing.Pill(s, x, y, half, "tunnel-label", "tunnel-text", t.Label)
	}
}

func drawHost(s *strings.Builder, h Host, b box) {
	fmt.Fprintf(s, `<g class="host %s %s"><rect class="card" x="%.1f" y="%.1f" width="%.0f" height="%.0f" rx="12"/>`,
		html.EscapeString(h.Kind), html.EscapeString(h.Contour), b.x, b.y, boxWidth, boxHeight)
	fmt.Fprintf(s, `<rect class="accent" x="%.1f" y="%.1f" width="5" height="%.0f" rx="2.5"/>`, b.x+9, b.y+14, boxHeight-28)
	fmt.Fprintf(s, `<g transform="translate(%.1f %.1f)"><path class="icon" d="%s"/></g>`, b.x+24, b.y+15, drawing.Icon(h.Kind))
	fmt.Fprintf(s, `<text class="name" x="%.1f" y="%.1f">%s</text>`, b.x+52, b.y+30, html.EscapeString(h.Name))
	y := b.y + 50
	lines := h.Lines
	if h.Label != "" {
		lines = append([]string{h.Label}, lines...)
	}
	for _, line := range lines[:min(len(lines), 2)] {
		fmt.Fprintf(s, `<text class="detail" x="%.1f" y="%.1f">%s</text>`, b.x+24, y, html.EscapeString(line))
		y += 14
	}
	s.WriteString(`</g>`)
}
