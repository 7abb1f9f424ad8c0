package drawing

import (
	"cmp"
	"math"
	"slices"
)

// Picture is cards in columns, and lines between them.
type Picture struct {
	Title, Subtitle string
	Columns         []Column // from left to right; empty ones are left out
	Edges           []Edge
	Footer          string
}

// Column is cards on one ground, and others below it that stand on none.
type Column struct {
	Title  string
	Colour string // external, integration, internal
	Cards  []Card
	Below  []Card
}

// Card is one place.
type Card struct {
	ID    string // of which edges speak
	Icon  string
	Title string
	Lines []Line
}

// Line is a text in a card.
type Line struct {
	Text   string
	Note   string // at the right end, softer; the text is cut for it
	Strong bool
	Icon   string // drawn small before the text; "": none
}

// Edge is what may go from one card to another.
type Edge struct {
	From, To string
	Label    string
	Details  []string // listed under the picture
	Through  bool     // a tunnel
}

const (
	cardWidth   = 286.0
	cardPad     = 16.0
	titleHeight = 44.0
	titleLine   = 18.0
	titleSize   = 15.0
	titleLeft   = 51.0
	lineHeight  = 17.0
	cardGap     = 30.0
	portGap     = 28.0 // between lines at a card's side: a label is 18 high
	groundPad   = 20.0
	groundTitle = 40.0
	margin      = 36.0
	headHeight  = 84.0
	trackGap    = 13.0
	labelSize   = 11.0
	lineSize    = 12.0
)

// placed is a card with its place.
type placed struct {
	Card
	column         int
	below          bool
	titles         []string
	x, y, w, h     float64
	portsR, portsL []*port
}

// head is how high the title is, in one line or two.
func (p *placed) head() float64 { return titleHeight + titleLine*float64(len(p.titles)-1) }

func (p *placed) middle() float64 { return p.y + p.h/2 }

// port is where an edge meets a side of a card.
type port struct {
	edge  int
	start bool // the edge begins here: its label stands beside
	goal  float64
	y     float64
}

// plan is a picture with everything in place.
type plan struct {
	picture  Picture
	cards    map[string]*placed
	columns  [][]*placed
	left     []float64 // of each column
	channels []channel // channels[i] is left of column i; the last is right of the last column
	routes   []route
	bottom   float64 // of the lowest card
	width    float64
	lanes    int
}

// layout places cards, then routes lines.
func layout(p Picture) *plan {
	l := &plan{picture: p, cards: map[string]*placed{}}
	l.picture.Columns = slices.DeleteFunc(slices.Clone(p.Columns), func(c Column) bool { return len(c.Cards)+len(c.Below) == 0 })
	for i, column := range l.picture.Columns {
		var list []*placed
		for j, c := range slices.Concat(column.Cards, column.Below) {
			card := &placed{Card: c, column: i, below: j >= len(column.Cards), w: cardWidth}
			list, l.cards[c.ID] = append(list, card), card
		}
		l.columns = append(l.columns, list)
	}
	l.picture.Edges = slices.DeleteFunc(slices.Clone(p.Edges), func(e Edge) bool { return l.cards[e.From] == nil || l.cards[e.To] == nil || e.From == e.To })
	l.ports()
	l.stack()
	for range 6 { // a few sweeps settle it; the sort is stable, so the written order decides ties
		l.sort()
		l.stack()
	}
	l.settlePorts()
	l.route()
	return l
}

// sides are those of its two cards at which an edge begins and ends: it takes the shortest way round.
func (l *plan) sides(e Edge) (fromRight, toRight bool) {
	from, to := l.cards[e.From].column, l.cards[e.To].column
	switch {
	case from < to:
		return true, false
	case from > to:
		return false, true
	}
	return true, true
}

// ports gives every edge a port at each of its cards.
func (l *plan) ports() {
	put := func(c *placed, right bool, p *port) {
		if right {
			c.portsR = append(c.portsR, p)
		} else {
			c.portsL = append(c.portsL, p)
		}
	}
	for i, e := range l.picture.Edges {
		fromRight, toRight := l.sides(e)
		put(l.cards[e.From], fromRight, &port{edge: i, start: true})
		put(l.cards[e.To], toRight, &port{edge: i})
	}
	for _, c := range l.cards {
		most := max(len(c.portsL), len(c.portsR))
		c.titles = wrap(c.Title, titleSize, c.w-titleLeft-cardPad)
		c.h = max(c.head()+lineHeight*float64(len(c.Lines))+cardPad, portGap*float64(most)+10)
	}
}

// stack puts the cards of each column below each other, in their order, and columns beside each other in the middle of the tallest.
func (l *plan) stack() {
	height := func(list []*placed) float64 {
		sum := 0.0
		for _, c := range list {
			sum += c.h + cardGap
			if c.below {
				sum += groundPad
			}
		}
		return sum - cardGap
	}
	tallest := 0.0
	for _, list := range l.columns {
		tallest = max(tallest, height(list))
	}
	top := margin + headHeight + groundTitle
	for _, list := range l.columns {
		y := top + (tallest-height(list))/2
		for _, c := range list {
			if c.below {
				y += groundPad
			}
			c.y = y
			y += c.h + cardGap
		}
	}
	l.bottom = top + tallest + groundPad
}

// sort orders the cards of each column by where their lines lead.
func (l *plan) sort() {
	for _, list := range l.columns {
		mean := map[*placed]float64{}
		for _, c := range list {
			sum, n := 0.0, 0
			for _, p := range slices.Concat(c.portsL, c.portsR) {
				other := l.other(c, p)
				if other.column != c.column {
					sum, n = sum+other.middle(), n+1
				}
			}
			if mean[c] = c.middle(); n > 0 {
				mean[c] = sum / float64(n)
			}
		}
		slices.SortStableFunc(list, func(a, b *placed) int {
			if a.below != b.below {
				return map[bool]int{true: 1, false: -1}[a.below]
			}
			return cmp.Compare(mean[a], mean[b])
		})
	}
}

func (l *plan) other(c *placed, p *port) *placed {
	e := l.picture.Edges[p.edge]
	if e.From == c.ID {
		return l.cards[e.To]
	}
	return l.cards[e.From]
}

// settlePorts orders the ports of each side by where their lines go, and spreads them over it.
func (l *plan) settlePorts() {
	for _, c := range l.cards {
		for side, ports := range [][]*port{c.portsL, c.portsR} {
			for _, p := range ports {
				other := l.other(c, p)
				p.goal = other.middle()
				if distance := other.column - c.column; distance > 1 || distance < -1 {
					p.goal = l.bottom // by a lane below
				}
			}
			slices.SortStableFunc(ports, func(a, b *port) int { return cmp.Compare(a.goal, b.goal) })
			for i, p := range ports {
				y := c.middle() + portGap*(float64(i)-float64(len(ports)-1)/2)
				// Lines from the left and from the right of a channel are never at one height, so that none lies on another.
				p.y = math.Round(y/(portGap/2))*portGap/2 + float64(side)*portGap/4
			}
		}
	}
}
