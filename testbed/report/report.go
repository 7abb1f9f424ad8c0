package report

import (
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"
)

// Report is one run of a scenario.
type Report struct {
	Scenario    string        `json:"scenario"`
	Title       string        `json:"title"`
	Description string        `json:"description,omitempty"`
	Started     time.Time     `json:"started"`
	Took        time.Duration `json:"took"` // nanoseconds
	Passed      int           `json:"passed"`
	Failed      int           `json:"failed"`
	Steps       []*Step       `json:"steps"`
	Matrices    []*Matrix     `json:"matrices,omitempty"`
	Topology    Topology      `json:"topology"`
	Machine     string        `json:"machine"` // kernel and processors, for figures mean nothing without
}

// Step is one step done.
type Step struct {
	Name    string        `json:"name"`
	Line    int           `json:"line,omitempty"` // in the scenario's file
	Outcome Outcome       `json:"outcome"`
	Took    time.Duration `json:"took"`
	Problem string        `json:"problem,omitempty"` // why it failed
	Output  string        `json:"output,omitempty"`  // of programs, where it failed
	Facts   []Fact        `json:"facts,omitempty"`   // what was measured
	Steps   []*Step       `json:"steps,omitempty"`   // of parallel; the outcome is then theirs
}

// Fact is one figure or observation.
type Fact struct {
	Name  string `json:"name"`
	Value string `json:"value"`
}

// Outcome is how a step ended.
type Outcome string

const (
	Passed  Outcome = "passed"
	Failed  Outcome = "failed"
	Skipped Outcome = "skipped" // after a step that all others need; counts as failed
)

// Matrix is who reached whom.
type Matrix struct {
	Name    string   `json:"name"`
	Columns []Column `json:"columns"`
	Rows    []Row    `json:"rows"`
}

// Column is one destination and service. Those of one destination stand side by side.
type Column struct {
	Host    string `json:"host"`
	Address string `json:"address"`
	Service string `json:"service"`
}

func (c Column) String() string { return c.Host + " " + c.Address + " " + c.Service }

// Row is one sender.
type Row struct {
	Name  string `json:"name"`
	Cells []Cell `json:"cells"`
}

// Cell is one packet's fate.
type Cell struct {
	Asked      bool   `json:"asked"`                // false: nothing was sent (a host to itself)
	Arrived    bool   `json:"arrived"`              // what was seen
	Allowed    bool   `json:"allowed"`              // what the oracle says
	Controlled bool   `json:"controlled,omitempty"` // the same packet arrived when nothing filtered
	Reason     string `json:"reason,omitempty"`
}

// Right reports whether what was seen is what should be.
func (c Cell) Right() bool { return !c.Asked || c.Arrived == c.Allowed }

// Count fills in Passed and Failed from the steps that have no steps of their own.
func (r *Report) Count() {
	r.Passed, r.Failed = count(r.Steps)
}

func count(steps []*Step) (passed, failed int) {
	for _, s := range steps {
		switch {
		case len(s.Steps) > 0:
			p, f := count(s.Steps)
			passed, failed = passed+p, failed+f
		case s.Outcome == Passed:
			passed++
		default:
			failed++
		}
	}
	return passed, failed
}

// WriteJSON writes the report for programs.
func (r *Report) WriteJSON(w io.Writer) error {
	encoder := json.NewEncoder(w)
	encoder.SetIndent("", "  ")
	return encoder.Encode(r)
}

// WriteText writes the report for people. Its last line is "N passed, N failed"; what failed stands once more before it, as who reads
// the end of a long log wants to know what it was.
func (r *Report) WriteText(w io.Writer) error {
	var b strings.Builder
	fmt.Fprintf(&b, "%s: %s (%v)\n\n", r.Scenario, r.Title, r.Took.Round(100*time.Millisecond))
	writeSteps(&b, r.Steps, "")
	for _, m := range r.Matrices {
		writeMatrix(&b, m)
	}
	b.WriteByte('\n')
	writeFailed(&b, r.Steps)
	fmt.Fprintf(&b, "%d passed, %d failed\n", r.Passed, r.Failed)
	_, err := io.WriteString(w, b.String())
	return err
}

func writeSteps(b *strings.Builder, steps []*Step, indent string) {
	for _, s := range steps {
		fmt.Fprintf(b, "%s%-7s %s (%v)\n", indent, s.Outcome, s.Name, s.Took.Round(time.Millisecond))
		for _, f := range s.Facts {
			fmt.Fprintf(b, "%s          %s: %s\n", indent, f.Name, f.Value)
		}
		if problem := problemOf(s, ""); problem != "" {
			fmt.Fprintf(b, "%s        ! %s\n", indent, problem)
		}
		for line := range strings.Lines(s.Output) {
			fmt.Fprintf(b, "%s        | %s\n", indent, strings.TrimRight(line, "\n"))
		}
		writeSteps(b, s.Steps, indent+"  ")
	}
}

// writeFailed names the steps that count as failed, and why.
func writeFailed(b *strings.Builder, steps []*Step) {
	for _, s := range steps {
		if len(s.Steps) > 0 {
			writeFailed(b, s.Steps)
		} else if s.Outcome != Passed {
			fmt.Fprintf(b, "%s: %s%s\n", s.Outcome, s.Name, problemOf(s, ": "))
		}
	}
}

// problemOf is what is wrong with a step, and where that is written; "" where nothing is.
func problemOf(s *Step, before string) string {
	switch {
	case s.Problem == "":
		return ""
	case s.Line > 0:
		return fmt.Sprintf("%s%s (line %d)", before, s.Problem, s.Line)
	default:
		return before + s.Problem
	}
}

// widestMatrix is how many columns a matrix may have that is printed cell by cell.
const widestMatrix = 40

// writeMatrix prints a column's number instead of its name, and the names below. A wider matrix has one column for each destination.
func writeMatrix(b *strings.Builder, m *Matrix) {
	widest := 0
	for _, row := range m.Rows {
		widest = max(widest, len(row.Name))
	}
	fmt.Fprintf(b, "\n%s (+ arrived as allowed, . stopped as it must, L leaked, M missing)\n", m.Name)
	if len(m.Columns) > widestMatrix {
		writeWide(b, m, widest)
		return
	}
	fmt.Fprintf(b, "%*s", widest, "")
	for i := range m.Columns {
		fmt.Fprintf(b, " %2d", i+1)
	}
	b.WriteByte('\n')
	for _, row := range m.Rows {
		fmt.Fprintf(b, "%*s", widest, row.Name)
		for _, c := range row.Cells {
			fmt.Fprintf(b, "  %s", c.sign())
		}
		b.WriteByte('\n')
	}
	for i, column := range m.Columns {
		fmt.Fprintf(b, "%*s %2d = %s\n", widest, "", i+1, column)
	}
	writeControlled(b, m)
}

// writeWide prints the services of a destination as one word, a sign for each in their order.
func writeWide(b *strings.Builder, m *Matrix, widest int) {
	list := groups(m)
	for _, row := range m.Rows {
		at, line := 0, ""
		for _, g := range list {
			cells := row.Cells[at : at+len(g.Services)]
			if at += len(g.Services); !slices.ContainsFunc(cells, func(c Cell) bool { return c.Asked }) {
				continue
			}
			line += "  " + g.Host + " "
			for _, c := range cells {
				line += strings.TrimSpace(c.sign())
			}
		}
		if line != "" {
			fmt.Fprintf(b, "%*s%s\n", widest, row.Name, line)
		}
	}
	fmt.Fprintf(b, "%*s  each sign, in this order: %s\n", widest, "", strings.Join(list[0].Services, ", "))
	writeControlled(b, m)
}

// writeControlled says whether the same packets arrived when nothing filtered.
func writeControlled(b *strings.Builder, m *Matrix) {
	stopped, controlled := 0, 0
	for _, row := range m.Rows {
		for _, c := range row.Cells {
			if c.Asked && !c.Arrived {
				stopped++
				if c.Controlled {
					controlled++
				}
			}
		}
	}
	if controlled > 0 {
		fmt.Fprintf(b, "Of %d packets that were stopped, %d arrived when nothing filtered.\n", stopped, controlled)
	}
}

func (c Cell) sign() string {
	switch {
	case !c.Asked:
		return " "
	case c.Arrived && c.Allowed:
		return "+"
	case !c.Arrived && !c.Allowed:
		return "."
	case c.Arrived:
		return "L"
	default:
		return "M"
	}
}
