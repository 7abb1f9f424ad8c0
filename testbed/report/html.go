package report

import (
	_ "embed"
	"fmt"
	"html/template"
	"io"
	"time"

	"shekara/drawing"
)

//go:embed report.html
var page string

// WriteHTML writes the report as one page.
func (r *Report) WriteHTML(w io.Writer) error {
	t, err := template.New("report").Funcs(template.FuncMap{
		"drawing":  func() template.HTML { return template.HTML(SVG(r.Topology)) }, // SVG escapes what it is given
		"palette":  func() template.CSS { return template.CSS(drawing.Variables()) },
		"duration": shortDuration,
		"cell":     cellClass,
		"sign": func(c Cell) string {
			return map[string]string{"arrived": "✓", "leaked": "!", "missing": "✗"}[cellClass(c)]
		},
		"groups": groups,
		"share":  func() int { return 100 * r.Passed / max(1, r.Passed+r.Failed) },
	}).Parse(page)
	if err != nil {
		return fmt.Errorf("parse page: %w", err)
	}
	return t.Execute(w, r)
}

// group is columns of one destination, side by side.
type group struct {
	Host, Address string
	Services      []string
}

func groups(m *Matrix) []group {
	var found []group
	for _, c := range m.Columns {
		if n := len(found); n == 0 || found[n-1].Host != c.Host || found[n-1].Address != c.Address {
			found = append(found, group{Host: c.Host, Address: c.Address})
		}
		last := &found[len(found)-1]
		last.Services = append(last.Services, c.Service)
	}
	return found
}

func cellClass(c Cell) string {
	switch {
	case !c.Asked:
		return "none"
	case c.Arrived && c.Allowed:
		return "arrived"
	case !c.Arrived && !c.Allowed:
		return "stopped"
	case c.Arrived:
		return "leaked"
	default:
		return "missing"
	}
}

// shortDuration keeps two or three figures.
func shortDuration(d time.Duration) string {
	switch {
	case d >= 10*time.Second:
		return d.Round(100 * time.Millisecond).String()
	case d >= time.Second:
		return d.Round(10 * time.Millisecond).String()
	default:
		return d.Round(time.Millisecond).String()
	}
}
