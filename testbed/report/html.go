package report

import (
	_ "embed"
	"fmt"
	"html/template"
	"io"
	"strings"
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
		"groups":  groups,
		"host":    func(d string) string { host, _, _ := strings.Cut(d, " "); return host },
		"address": func(d string) string { _, address, _ := strings.Cut(d, " "); return address },
		"share":   func() int { return 100 * r.Passed / max(1, r.Passed+r.Failed) },
	}).Parse(page)
	if err != nil {
		return fmt.Errorf("parse page: %w", err)
	}
	return t.Execute(w, r)
}

// group is columns of one destination, side by side.
type group struct {
	Destination string
	Services    []string
}

func groups(m Matrix) []group {
	var found []group
	for _, column := range m.Columns {
		destination, service := "", column
		if at := strings.LastIndexByte(column, ' '); at >= 0 {
			destination, service = column[:at], column[at+1:]
		}
		if len(found) == 0 || found[len(found)-1].Destination != destination {
			found = append(found, group{Destination: destination})
		}
		last := &found[len(found)-1]
		last.Services = append(last.Services, service)
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
