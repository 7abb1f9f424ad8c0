package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"shekara/drawing"
	"shekara/provisioning"
	"shekara/provisioning/api"
)

func (p *program) matrixCommand() *cobra.Command {
	var from fromDocuments
	var asJSON, all bool
	var picture string
	c := &cobra.Command{
		Use:   "matrix",
		Short: "Say who may open connections to whom, zone by zone, and draw it",
		Long: "matrix prints zones by zones (rows open connections to columns) with the services that documents allow, and then each flow. Nothing else passes,\n" +
			"but what this box itself asks of its zones. With --svg it draws contours, zones, tunnels and flows as a picture that stands alone.\n" +
			"It answers by what is in force; with --file by what would be after an apply; with --file and --site by the documents alone, without a daemon.",
		Example: "  shekara matrix\n  shekara matrix --svg wall.svg\n  shekara matrix --file /etc/shekara --whole --svg planned.svg",
		Args:    arguments(0, 0, "nothing"),
		RunE: func(c *cobra.Command, _ []string) error {
			m, err := p.matrix(c.Context(), &from)
			if err != nil {
				return err
			}
			if picture != "" {
				if err := p.draws(m, picture); err != nil {
					return err
				}
			}
			switch {
			case asJSON:
				return p.json("Matrix", m)
			case picture == "":
				p.matrixTable(m, all)
			}
			return nil
		},
	}
	c.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	c.Flags().BoolVar(&all, "all", false, "list every flow, however many")
	c.Flags().StringVar(&picture, "svg", "", "draw it into this file; - is standard output")
	c.MarkFlagsMutuallyExclusive("json", "svg")
	from.flags(c)
	return c
}

func (p *program) matrix(ctx context.Context, from *fromDocuments) (provisioning.Matrix, error) {
	set, offline, err := from.offline(p)
	if err != nil {
		return provisioning.Matrix{}, err
	}
	if offline {
		return provisioning.MatrixOf(set, from.site)
	}
	files, err := from.wire(p)
	if err != nil {
		return provisioning.Matrix{}, err
	}
	done := p.progress("asking")
	defer done()
	return p.daemon().Matrix(ctx, api.MatrixRequest{Files: files, Whole: from.whole})
}

// draws writes the picture.
func (p *program) draws(m provisioning.Matrix, file string) error {
	svg := []byte(pictureOf(m).SVG())
	if file == "-" {
		return p.raw(svg)
	}
	if err := os.WriteFile(file, svg, 0o644); err != nil {
		return hint(fmt.Errorf("write the picture: %w", errors.Unwrap(err)), "name a file in a directory that is yours: "+file+" is not")
	}
	p.note("%s: %s, %s.", file, plural(len(m.Places)-1, "zone", "zones"), plural(flowCount(m), "permission", "permissions"))
	return nil
}

func flowCount(m provisioning.Matrix) int {
	n := 0
	for _, c := range m.Cells {
		n += len(c.Flows)
	}
	return n
}

// matrixTable is the table and under it every flow; of many only the first of each pair.
func (p *program) matrixTable(m provisioning.Matrix, all bool) {
	cells := map[[2]string]provisioning.MatrixCell{}
	for _, c := range m.Cells {
		cells[[2]string{c.From, c.To}] = c
	}
	header := []string{"FROM \\ TO"}
	var rows [][]cell
	for _, from := range m.Places {
		header = append(header, placeName(from.Name))
		row := []cell{{text: placeName(from.Name)}}
		for _, to := range m.Places {
			entry := cell{text: "·"}
			if c, some := cells[[2]string{from.Name, to.Name}]; some {
				entry = cell{text: servicesOf(c.Flows, 2), colour: green}
			} else if from.Name == provisioning.LocalInterface && to.Name != from.Name && !to.Device {
				entry.text = "any" // what it asks of its own zones needs no document
			}
			row = append(row, entry)
		}
		rows = append(rows, row)
	}
	p.table(header, rows)
	const shown = 12
	for _, c := range m.Cells {
		p.line("")
		p.line("%s -> %s", placeName(c.From), placeName(c.To))
		for i, f := range c.Flows {
			if i == shown && !all {
				p.line("  and %d more: shekara matrix --all lists them", len(c.Flows)-shown)
				break
			}
			p.line("  %s", flowLine(f))
		}
	}
	for _, w := range m.Waivers {
		p.loud("%s", w)
	}
}

func placeName(name string) string {
	if name == provisioning.LocalInterface {
		return "this box"
	}
	return name
}

func flowLine(f provisioning.MatrixFlow) string {
	what := fmt.Sprintf("%s %s", f.Document.Kind, f.Document.Name)
	if f.Tunnel != "" && f.Tunnel != f.Document.Name {
		what += " through " + f.Tunnel
	}
	line := fmt.Sprintf("%s: %s -> %s, %s", what, few(f.Sources), few(f.Destinations), strings.Join(f.Services, ", "))
	if f.Waiver != "" {
		line += ", waiver until " + f.Waiver
	}
	if f.Document.File != "" {
		line += " (" + f.Document.File + ")"
	}
	return line
}

// few is a list cut to what a line holds.
func few(list []string) string {
	const shown = 3
	if len(list) <= shown {
		return strings.Join(list, ", ")
	}
	return fmt.Sprintf("%s and %d more", strings.Join(list[:shown], ", "), len(list)-shown)
}

// gatewayNames are what people call the kinds of gateways.
var gatewayNames = map[string]string{"shep": "ШЭП", "vshep": "ВШЭП", "payment": "ПШЭП"}

// firstOf is a list cut to one.
func firstOf(list []string) string {
	if len(list) > 1 {
		return fmt.Sprintf("%s +%d", list[0], len(list)-1)
	}
	return strings.Join(list, "")
}

// servicesOf is the services of all flows, each once, the first of them by name.
func servicesOf(flows []provisioning.MatrixFlow, shown int) string {
	var services []string
	for _, f := range flows {
		for _, s := range f.Services {
			if !slices.Contains(services, s) {
				services = append(services, s)
			}
		}
	}
	if len(services) > shown {
		return fmt.Sprintf("%s +%d", strings.Join(services[:shown], ", "), len(services)-shown)
	}
	return strings.Join(services, ", ")
}

// pictureOf is the matrix as cards and lines: a column for each contour, and this box below the middle one.
func pictureOf(m provisioning.Matrix) drawing.Picture {
	revision := "documents that are not in force"
	if m.Revision > 0 {
		revision = fmt.Sprintf("revision %d in force", m.Revision)
	}
	picture := drawing.Picture{Title: m.Site + ": who may open connections to whom",
		Subtitle: fmt.Sprintf("%s · %s · nothing else passes", revision, plural(flowCount(m), "permission", "permissions")),
		Footer:   "Lines take the colour of the contour where connections begin; dashed ones go through tunnels. What this box itself asks of its zones needs no document and is not drawn."}
	for _, contour := range []string{"external", "integration", "internal"} {
		column := drawing.Column{Title: contour + " contour", Colour: contour}
		for _, place := range m.Places {
			if place.Contour == contour {
				column.Cards = append(column.Cards, card(place))
			}
			if place.Name == provisioning.LocalInterface && contour == "integration" {
				column.Below = append(column.Below, card(place))
			}
		}
		picture.Columns = append(picture.Columns, column)
	}
	behind := map[string]bool{} // a tunnel
	for _, p := range m.Places {
		behind[p.Name] = p.Device
	}
	for _, c := range m.Cells {
		edge := drawing.Edge{From: c.From, To: c.To, Label: servicesOf(c.Flows, 2), Through: behind[c.From] || behind[c.To]}
		for _, f := range c.Flows {
			f.Document.File = "" // it changes nothing on the wall, and is long
			edge.Details = append(edge.Details, strings.ReplaceAll(flowLine(f), "->", "→"))
		}
		if slices.ContainsFunc(c.Flows, func(f provisioning.MatrixFlow) bool { return f.Waiver != "" }) {
			edge.Label += " (waiver)"
		}
		picture.Edges = append(picture.Edges, edge)
	}
	return picture
}

// card is one zone: its kind, its prefixes, how the box meets it, the tunnels that lead there.
func card(p provisioning.MatrixPlace) drawing.Card {
	if p.Name == provisioning.LocalInterface {
		c := drawing.Card{ID: p.Name, Icon: "edge", Title: "this box"}
		for _, a := range p.Addresses {
			c.Lines = append(c.Lines, drawing.Line{Text: "tunnels end at " + a})
		}
		return c
	}
	c := drawing.Card{ID: p.Name, Icon: p.Kind, Title: p.Name}
	const prefixes, hosts, tunnels = 3, 6, 6
	c.Lines = append(c.Lines, drawing.Line{Text: p.Kind + " · by " + strings.Join(p.Interfaces, ", ")})
	if len(p.Prefixes) == 0 {
		c.Lines = append(c.Lines, drawing.Line{Text: "all that no other zone claims"})
	}
	for i, prefix := range p.Prefixes {
		if i == prefixes && len(p.Prefixes) > prefixes+1 {
			c.Lines = append(c.Lines, drawing.Line{Text: fmt.Sprintf("and %d more", len(p.Prefixes)-prefixes)})
			break
		}
		c.Lines = append(c.Lines, drawing.Line{Text: prefix})
	}
	for i, h := range p.Hosts {
		if i == hosts && len(p.Hosts) > hosts+1 {
			c.Lines = append(c.Lines, drawing.Line{Text: plural(len(p.Hosts)-hosts, "more system", "more systems"), Icon: "server"})
			break
		}
		line := drawing.Line{Text: h.Name, Note: firstOf(h.Prefixes), Icon: "server"}
		switch {
		case h.Sort != "":
			line.Icon, line.Strong, line.Text = "gateway", true, cmp.Or(gatewayNames[h.Sort], h.Name)
		case h.Class > 0:
			line.Text += fmt.Sprintf(", class %d", h.Class)
		}
		c.Lines = append(c.Lines, line)
	}
	for i, t := range p.Tunnels {
		if i == tunnels && len(p.Tunnels) > tunnels+1 {
			c.Lines = append(c.Lines, drawing.Line{Text: plural(len(p.Tunnels)-tunnels, "more tunnel", "more tunnels"), Icon: "edge", Strong: true})
			break
		}
		c.Lines = append(c.Lines, drawing.Line{Text: t.Name, Note: firstOf(t.Prefixes), Icon: "edge", Strong: true})
	}
	return c
}
