package report

import (
	"bytes"
	"encoding/json"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func sample() *Report {
	r := &Report{
		Scenario: "sample", Title: "A <title> & more", Started: time.Unix(1e9, 0).UTC(), Took: 1234 * time.Millisecond,
		Steps: []*Step{
			{Name: "good", Outcome: Passed, Took: time.Millisecond, Facts: []Fact{{"lost", "0"}}},
			{Name: "bad", Line: 7, Outcome: Failed, Problem: "it did not", Output: "one\ntwo"},
			{Name: "both", Outcome: Failed, Steps: []*Step{{Name: "left", Outcome: Passed}, {Name: "right", Outcome: Skipped}}},
		},
		Matrices: []*Matrix{{Name: "matrix", Columns: []Column{{"b", "::2", "tcp/1"}, {"b", "::2", "tcp/2"}, {"b", "::2", "tcp/3"}, {"b", "::2", "tcp/4"}}, Rows: []Row{{Name: "a", Cells: []Cell{
			{Asked: true, Arrived: true, Allowed: true}, {Asked: true, Controlled: true}, {Asked: true, Arrived: true}, {Asked: true, Allowed: true}}}}}},
		Topology: Topology{
			Hosts: []Host{{Name: "a", Kind: "host", Group: "<G>"}, {Name: "r", Kind: "router"}, {Name: "b", Kind: "edge", Contour: "internal"}, {Name: "c", Kind: "server"}},
			Links: []Link{
				{Name: "ar", Ends: []LinkEnd{{Host: "a", Interface: "x", Addresses: []string{"192.0.2.1/24"}}, {Host: "r", Interface: "y"}}},
				{Name: "rbc", Ends: []LinkEnd{{Host: "r", Interface: "z"}, {Host: "b", Interface: "z"}, {Host: "c", Interface: "z"}}},
			},
			Tunnels: []Tunnel{{Between: [2]string{"b", "a"}, Label: "t"}},
		},
	}
	r.Count()
	return r
}

func TestText(t *testing.T) {
	var out bytes.Buffer
	if err := sample().WriteText(&out); err != nil {
		t.Fatal(err)
	}
	want := `sample: A <title> & more (1.2s)

passed  good (1ms)
          lost: 0
failed  bad (0s)
        ! it did not (line 7)
        | one
        | two
failed  both (0s)
  passed  left (0s)
  skipped right (0s)

matrix (+ arrived as allowed, . stopped as it must, L leaked, M missing)
   1  2  3  4
a  +  .  L  M
   1 = b ::2 tcp/1
   2 = b ::2 tcp/2
   3 = b ::2 tcp/3
   4 = b ::2 tcp/4
Of 2 packets that were stopped, 1 arrived when nothing filtered.

failed: bad: it did not (line 7)
skipped: right
2 passed, 2 failed
`
	if diff := cmp.Diff(want, out.String()); diff != "" {
		t.Error(diff)
	}
}

func TestWideMatrixHasOneWordForEachDestination(t *testing.T) {
	r := sample()
	m := r.Matrices[0]
	for i := range widestMatrix {
		m.Columns = append(m.Columns, Column{"c", "::3", fmt.Sprintf("tcp/%d", i)})
		m.Rows[0].Cells = append(m.Rows[0].Cells, Cell{Asked: i < 2, Arrived: i == 1, Allowed: i == 1})
	}
	var out bytes.Buffer
	if err := r.WriteText(&out); err != nil {
		t.Fatal(err)
	}
	if want := "\na  b +.LM  c .+\n"; !strings.Contains(out.String(), want) {
		t.Errorf("no %q in %s", want, out.String())
	}
}

func TestJSONRoundTrip(t *testing.T) {
	var out bytes.Buffer
	if err := sample().WriteJSON(&out); err != nil {
		t.Fatal(err)
	}
	var back Report
	if err := json.Unmarshal(out.Bytes(), &back); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(sample(), &back); diff != "" {
		t.Error(diff)
	}
}

func TestPageNeedsNothingFromElsewhere(t *testing.T) {
	var out bytes.Buffer
	if err := sample().WriteHTML(&out); err != nil {
		t.Fatal(err)
	}
	page := out.String()
	for _, forbidden := range []string{"<script", "<link", "src=", "@import", "url(", "href="} {
		if strings.Contains(page, forbidden) {
			t.Errorf("the page has %q", forbidden)
		}
	}
	for _, wanted := range []string{"A &lt;title&gt; &amp; more", "2 failed", `class="leaked"`, `class="missing"`, "prefers-color-scheme: dark", "&lt;G&gt;"} {
		if !strings.Contains(page, wanted) {
			t.Errorf("the page has no %q", wanted)
		}
	}
}

func TestDrawingIsWellFormed(t *testing.T) {
	decoder := xml.NewDecoder(strings.NewReader(SVG(sample().Topology)))
	for {
		_, err := decoder.Token()
		if errors.Is(err, io.EOF) {
			return
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}

func TestLayout(t *testing.T) {
	topology := sample().Topology
	places := layout(topology)
	if places["a"].column != 0 || places["r"].column != 1 || places["b"].column != 2 || places["c"].column != 2 {
		t.Errorf("columns: %v", places)
	}
	seen := map[cell]string{}
	for name, place := range places {
		if other := seen[place]; other != "" {
			t.Errorf("%s and %s share %v", name, other, place)
		}
		seen[place] = name
	}
	topology.Hosts[3].Column, topology.Hosts[3].Row = 4, 5
	if got := layout(topology)["c"]; got != (cell{3, 4}) {
		t.Errorf("a written place became %v", got)
	}
	// Two pairs that cross as written do not cross as drawn.
	crossed := Topology{Hosts: []Host{{Name: "l1"}, {Name: "l2"}, {Name: "r2"}, {Name: "r1"}}, Links: []Link{
		{Ends: []LinkEnd{{Host: "l1"}, {Host: "r1"}}}, {Ends: []LinkEnd{{Host: "l2"}, {Host: "r2"}}}}}
	crossed.Hosts[1].Column = 1
	places = layout(crossed)
	if (places["l1"].row < places["l2"].row) != (places["r1"].row < places["r2"].row) {
		t.Errorf("links cross: %v", places)
	}
}
