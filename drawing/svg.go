package drawing

import (
	"fmt"
	"html"
	"strings"
)

// style is of the picture alone. Dark and light are written out by coloured.
const style = `
.paper{fill:var(--paper)}
.title{font-size:26px;font-weight:700;fill:var(--ink)} .subtitle{font-size:14px;fill:var(--soft)}
.ground{stroke-width:1.4;fill-opacity:.09;stroke-opacity:.5} .ground-title{font-size:13px;font-weight:700;letter-spacing:.08em}
.ground.external,.text.external{fill:var(--external)} .ground.integration,.text.integration{fill:var(--integration)} .ground.internal,.text.internal{fill:var(--internal)}
.ground.external{stroke:var(--external)} .ground.integration{stroke:var(--integration)} .ground.internal{stroke:var(--internal)}
.card{fill:var(--card);stroke:var(--line);stroke-width:1.3} .box .card{stroke:var(--tunnel);stroke-width:2}
.name{font-size:15px;font-weight:650;fill:var(--ink)} .detail{font-size:12px;fill:var(--soft)} .detail.strong{fill:var(--ink);font-weight:600}
.icon{fill:none;stroke:var(--soft);stroke-width:1.5;stroke-linejoin:round;stroke-linecap:round} .box .icon,.mini{stroke:var(--tunnel)}
.mini{fill:none;stroke-width:2;stroke-linejoin:round;stroke-linecap:round}
.accent.external{fill:var(--external)} .accent.integration{fill:var(--integration)} .accent.internal{fill:var(--internal)} .accent.none{fill:var(--tunnel)}
.halo{fill:none;stroke:var(--paper);stroke-width:6} .glow{fill:none;stroke:var(--tunnel-soft);stroke-width:9}
.edge{fill:none;stroke-width:1.9} .edge.external,.head.external{stroke:var(--external)} .edge.integration,.head.integration{stroke:var(--integration)}
.edge.internal,.head.internal{stroke:var(--internal)} .edge.none,.head.none{stroke:var(--tunnel)} .edge.through{stroke-dasharray:7 4}
.head.external{fill:var(--external)} .head.integration{fill:var(--integration)} .head.internal{fill:var(--internal)} .head.none{fill:var(--tunnel)}
.pill{fill:var(--card);stroke-width:1.1} .pill.external{stroke:var(--external)} .pill.integration{stroke:var(--integration)} .pill.internal{stroke:var(--internal)} .pill.none{stroke:var(--tunnel)}
.label{font-size:11px;font-weight:600;fill:var(--ink);text-anchor:middle}
.list-head{font-size:13px;font-weight:650;fill:var(--ink)} .list{font-size:12px;fill:var(--soft)} .rule{stroke:var(--line);stroke-width:1.2}
`

// listWidth is what one line of the list under the picture takes.
const listWidth = 600.0

// maxDetails bounds what is listed of one edge.
const maxDetails = 12

// SVG draws the picture.
func (p Picture) SVG() string {
	l := layout(p)
	var body strings.Builder
	for i, c := range l.picture.Columns {
		l.drawGround(&body, i, c)
	}
	for i := range l.picture.Edges {
		l.drawEdge(&body, i)
	}
	for i := range l.picture.Edges {
		l.drawLabel(&body, i)
	}
	for _, list := range l.columns {
		for _, c := range list {
			l.drawCard(&body, c)
		}
	}
	height := l.drawList(&body, l.laneY(l.lanes)+24)
	var s strings.Builder
	fmt.Fprintf(&s, `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %.0f %.0f" width="%.0f" height="%.0f" role="img" aria-label="%s" font-family="system-ui, 'Segoe UI', 'Noto Sans', 'DejaVu Sans', sans-serif">`,
		l.width, height, l.width, height, html.EscapeString(p.Title))
	fmt.Fprintf(&s, "<style>%s</style><rect class=\"paper\" width=\"100%%\" height=\"100%%\"/>", coloured(style))
	fmt.Fprintf(&s, `<text class="title" x="%.0f" y="%.0f">%s</text>`, margin, margin+24, html.EscapeString(Cut(p.Title, 26, l.width-2*margin)))
	fmt.Fprintf(&s, `<text class="subtitle" x="%.0f" y="%.0f">%s</text>`, margin, margin+48, html.EscapeString(Cut(p.Subtitle, 14, l.width-2*margin)))
	s.WriteString(body.String())
	s.WriteString("</svg>\n")
	return s.String()
}

// drawGround draws what the cards of a column stand on.
func (l *plan) drawGround(s *strings.Builder, column int, c Column) {
	if len(c.Cards) == 0 {
		return
	}
	top, bottom := l.bottom, 0.0
	for _, card := range l.columns[column] {
		if !card.below {
			top, bottom = min(top, card.y), max(bottom, card.y+card.h)
		}
	}
	x := l.left[column] - groundPad
	fmt.Fprintf(s, `<rect class="ground %s" x="%.1f" y="%.1f" width="%.1f" height="%.1f" rx="22"/>`, c.Colour, x, top-groundTitle, cardWidth+2*groundPad, bottom-top+groundTitle+groundPad)
	fmt.Fprintf(s, `<text class="ground-title text %s" x="%.1f" y="%.1f">%s</text>`, c.Colour, l.left[column], top-15, html.EscapeString(strings.ToUpper(c.Title)))
}

// colour is that of where an edge begins.
func (l *plan) colour(card *placed) string {
	if card.below {
		return "none"
	}
	return l.picture.Columns[card.column].Colour
}

func (l *plan) drawEdge(s *strings.Builder, i int) {
	e, r := l.picture.Edges[i], l.routes[i]
	d := path(r.points)
	colour, class := l.colour(l.cards[e.From]), ""
	fmt.Fprintf(s, `<path class="halo" d="%s"/>`, d)
	if e.Through {
		fmt.Fprintf(s, `<path class="glow" d="%s"/>`, d)
		class = " through"
	}
	fmt.Fprintf(s, `<path class="edge %s%s" d="%s"/>`, colour, class, d)
	end, before := r.points[len(r.points)-1], r.points[len(r.points)-2]
	back := towards(end, before, 9)
	fmt.Fprintf(s, `<path class="head %s" d="M%.1f %.1f L%.1f %.1f L%.1f %.1f Z"/>`, colour, end[0], end[1], back[0], end[1]-4, back[0], end[1]+4)
}

func (l *plan) drawLabel(s *strings.Builder, i int) {
	e, r := l.picture.Edges[i], l.routes[i]
	fmt.Fprintf(s, `<g><title>%s</title>`, html.EscapeString(strings.Join(e.Details[:min(len(e.Details), maxDetails)], "\n")))
	Pill(s, r.labelX, r.labelY, r.half, "pill "+l.colour(l.cards[e.From]), "label", r.label)
	s.WriteString("</g>")
}

func (l *plan) drawCard(s *strings.Builder, c *placed) {
	class, colour := "", l.colour(c)
	if c.below {
		class = "box"
	}
	fmt.Fprintf(s, `<g class="%s"><rect class="card" x="%.1f" y="%.1f" width="%.0f" height="%.1f" rx="12"/>`, class, c.x, c.y, c.w, c.h)
	fmt.Fprintf(s, `<rect class="accent %s" x="%.1f" y="%.1f" width="5" height="%.1f" rx="2.5"/>`, colour, c.x+8, c.y+13, c.h-26)
	fmt.Fprintf(s, `<path class="icon" transform="translate(%.1f %.1f)" d="%s"/>`, c.x+23, c.y+12, Icon(c.Icon))
	for i, line := range c.titles {
		fmt.Fprintf(s, `<text class="name" x="%.1f" y="%.1f">%s</text>`, c.x+titleLeft, c.y+27+titleLine*float64(i), html.EscapeString(line))
	}
	y := c.y + c.head() + 10
	for _, line := range c.Lines {
		x := c.x + 23
		if line.Icon != "" {
			fmt.Fprintf(s, `<path class="mini" transform="translate(%.1f %.1f) scale(.55)" d="%s"/>`, x, y-10, Icon(line.Icon))
			x += 17
		}
		strong, size, right := "", lineSize, c.x+c.w-cardPad
		if line.Strong {
			strong, size = " strong", lineSize*bold
		}
		if line.Note != "" {
			fmt.Fprintf(s, `<text class="detail" text-anchor="end" x="%.1f" y="%.1f">%s</text>`, right, y, html.EscapeString(line.Note))
			right -= Width(line.Note, lineSize) + 10
		}
		fmt.Fprintf(s, `<text class="detail%s" x="%.1f" y="%.1f">%s</text>`, strong, x, y, html.EscapeString(Cut(line.Text, size, right-x)))
		y += lineHeight
	}
	s.WriteString("</g>")
}

// drawList writes what each edge lets pass, in as many columns as fit, and answers how high all is then.
func (l *plan) drawList(s *strings.Builder, top float64) float64 {
	fmt.Fprintf(s, `<line class="rule" x1="%.0f" y1="%.1f" x2="%.1f" y2="%.1f"/>`, margin, top, l.width-margin, top)
	count := max(1, int((l.width-2*margin)/listWidth))
	width := (l.width - 2*margin) / float64(count)
	ends := make([]float64, count)
	for i := range ends {
		ends[i] = top + 28
	}
	for _, e := range l.picture.Edges {
		at := 0
		for i := range ends {
			if ends[i] < ends[at] {
				at = i
			}
		}
		x := margin + width*float64(at)
		write := func(class, text string, size float64) {
			for i, line := range wrap(text, size, width-40) {
				fmt.Fprintf(s, `<text class="%s" x="%.1f" y="%.1f">%s</text>`, class, x+16*float64(i), ends[at], html.EscapeString(line))
				ends[at] += lineHeight
			}
		}
		write("list-head", l.cards[e.From].Title+" → "+l.cards[e.To].Title, 13)
		for _, detail := range e.Details[:min(len(e.Details), maxDetails)] {
			write("list", detail, lineSize)
		}
		if more := len(e.Details) - maxDetails; more > 0 {
			write("list", fmt.Sprintf("and %d more", more), lineSize)
		}
		ends[at] += 10
	}
	bottom := ends[0]
	for _, y := range ends {
		bottom = max(bottom, y)
	}
	if l.picture.Footer != "" {
		bottom += 12
		fmt.Fprintf(s, `<text class="list" x="%.0f" y="%.1f">%s</text>`, margin, bottom, html.EscapeString(Cut(l.picture.Footer, lineSize, l.width-2*margin)))
		bottom += lineHeight
	}
	return bottom + margin/2
}
