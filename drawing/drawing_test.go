package drawing

import (
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
)

// random is a picture with up to six cards in each of three columns, one below, and lines at random.
func random(seed uint64) Picture {
	r := rand.New(rand.NewPCG(seed, 5))
	p := Picture{Title: "a <title> & more", Subtitle: "жоба", Footer: "footer"}
	var ids []string
	for i, colour := range []string{"external", "integration", "internal"} {
		c := Column{Title: colour + " contour", Colour: colour}
		for j := range r.IntN(7) {
			card := Card{ID: fmt.Sprintf("%d.%d", i, j), Icon: "lan", Title: strings.Repeat("name-of-a-zone ", r.IntN(4)) + "end"}
			for range r.IntN(9) {
				card.Lines = append(card.Lines, Line{Text: strings.Repeat("мемлекеттік-орган-", r.IntN(5)), Note: "10.64.0.0/12", Strong: r.IntN(2) == 0, Icon: "edge"})
			}
			c.Cards, ids = append(c.Cards, card), append(ids, card.ID)
		}
		if i == 1 {
			c.Below = []Card{{ID: "box", Icon: "edge", Title: "this box"}}
			ids = append(ids, "box")
		}
		p.Columns = append(p.Columns, c)
	}
	for range r.IntN(40) {
		e := Edge{From: ids[r.IntN(len(ids))], To: ids[r.IntN(len(ids))], Label: strings.Repeat("tcp/443, ", 1+r.IntN(5)), Details: []string{"Flow <x>"}, Through: r.IntN(2) == 0}
		if !slices.ContainsFunc(p.Edges, func(o Edge) bool { return o.From == e.From && o.To == e.To }) {
			p.Edges = append(p.Edges, e)
		}
	}
	p.Edges = append(p.Edges, Edge{From: "nobody", To: ids[0]})
	return p
}

type area struct {
	what                     string
	left, top, right, bottom float64
}

func (a area) meets(b area) bool {
	return a.left < b.right && b.left < a.right && a.top < b.bottom && b.top < a.bottom
}

// TestNothingOverlaps: cards and labels keep clear of each other and of the margins, no line runs through a card or a label that is not its
// own, and no two lines lie on each other.
func TestNothingOverlaps(t *testing.T) {
	lines := 0
	for seed := range uint64(300) {
		l := layout(random(seed))
		var areas []area
		for id, c := range l.cards {
			areas = append(areas, area{"card " + id, c.x, c.y, c.x + c.w, c.y + c.h})
		}
		for i, r := range l.routes {
			areas = append(areas, area{fmt.Sprintf("label %d", i), r.labelX - r.half, r.labelY - 9, r.labelX + r.half, r.labelY + 9})
		}
		for i, a := range areas {
			if a.left < margin-1 || a.right > l.width || a.top < margin+headHeight || a.bottom > l.laneY(0) {
				t.Fatalf("seed %d: %+v is outside of the picture, %.0f wide", seed, a, l.width)
			}
			for _, b := range areas[i+1:] {
				if a.meets(b) {
					t.Fatalf("seed %d: %+v meets %+v", seed, a, b)
				}
			}
		}
		var pieces []area
		for i, r := range l.routes {
			lines++
			for j := 1; j < len(r.points); j++ {
				a, b := r.points[j-1], r.points[j]
				piece := area{fmt.Sprintf("line %d", i), min(a[0], b[0]) - .5, min(a[1], b[1]) - .5, max(a[0], b[0]) + .5, max(a[1], b[1]) + .5}
				if a[0] != b[0] && a[1] != b[1] {
					t.Fatalf("seed %d: line %d is aslant", seed, i)
				}
				for _, other := range areas {
					inside := area{other.what, other.left + 1, other.top + 1, other.right - 1, other.bottom - 1}
					if own := fmt.Sprintf("label %d", i); piece.meets(inside) && other.what != own {
						t.Fatalf("seed %d: %+v runs through %s", seed, piece, other.what)
					}
				}
				for _, other := range pieces {
					along := (piece.right-piece.left > 2) == (other.right-other.left > 2)
					if other.what != piece.what && along && piece.right-piece.left+piece.bottom-piece.top > 2 && piece.meets(other) {
						t.Fatalf("seed %d: %+v lies on %+v", seed, piece, other)
					}
				}
				pieces = append(pieces, piece)
			}
		}
	}
	if lines < 2000 {
		t.Errorf("only %d lines were looked at", lines)
	}
}

// TestNothingIsCutShort: a text that is too wide ends in an ellipsis and fits.
func TestNothingIsCutShort(t *testing.T) {
	for _, text := range []string{"short", strings.Repeat("ведомство ", 9), strings.Repeat("W", 90), ""} {
		for _, width := range []float64{60, 200} {
			got := Cut(text, 12, width)
			if Width(got, 12) > width && got != "…" || got != text && !strings.HasSuffix(got, "…") {
				t.Errorf("%q in %.0f became %q", text, width, got)
			}
			for _, line := range wrap(text, 12, width) {
				if Width(line, 12) > width {
					t.Errorf("%q in %.0f: line %q is too wide", text, width, line)
				}
			}
		}
	}
	if got := wrap("banks-of-the-second-level", 15, 150); len(got) != 2 || strings.Join(got, "") != "banks-of-the-second-level" {
		t.Errorf("wrapped to %q", got)
	}
}

// TestPictureStandsAlone: it is well-formed, escapes what it is given, knows no custom properties and needs nothing from elsewhere.
func TestPictureStandsAlone(t *testing.T) {
	svg := random(1).SVG()
	decoder := xml.NewDecoder(strings.NewReader(svg))
	for {
		_, err := decoder.Token()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	for _, forbidden := range []string{"var(", "<script", "href=", "url(", "@import", "NaN", "Inf", "<title> & more", "nobody"} {
		if strings.Contains(svg, forbidden) {
			t.Errorf("the picture has %q", forbidden)
		}
	}
	for _, wanted := range []string{"a &lt;title&gt; &amp; more", "prefers-color-scheme: dark", "жоба", "EXTERNAL CONTOUR", "Flow &lt;x&gt;"} {
		if !strings.Contains(svg, wanted) {
			t.Errorf("the picture has no %q", wanted)
		}
	}
	if again := random(1).SVG(); again != svg {
		t.Error("the same picture is drawn in two ways")
	}
	if empty := (Picture{Title: "nothing"}).SVG(); !strings.Contains(empty, "nothing") {
		t.Error("a picture without cards is not drawn")
	}
}

// TestColours: every colour that rules name is there, for light and for dark.
func TestColours(t *testing.T) {
	for _, css := range []string{coloured(style), Variables()} {
		if strings.Contains(css, "var(") || strings.Contains(css, ": ;") {
			t.Errorf("colours are missing in %s", css)
		}
	}
	if coloured("a{fill:var(--card)}") != "a{fill:#ffffff}@media (prefers-color-scheme: dark) {a{fill:#161d26}}" {
		t.Error(coloured("a{fill:var(--card)}"))
	}
}
