package report

import (
	"cmp"
	"slices"
)

// Topology is what is drawn.
type Topology struct {
	Hosts   []Host   `json:"hosts"`
	Links   []Link   `json:"links"`
	Tunnels []Tunnel `json:"tunnels,omitempty"`
}

// Host is a box in the drawing.
type Host struct {
	Name    string   `json:"name"`
	Label   string   `json:"label,omitempty"` // under the name
	Kind    string   `json:"kind"`            // host, server, edge, foreign, router
	Contour string   `json:"contour,omitempty"`
	Group   string   `json:"group,omitempty"` // a frame around hosts of one owner
	Column  int      `json:"column,omitempty"`
	Row     int      `json:"row,omitempty"` // both from 1; 0: found by the layout
	Lines   []string `json:"lines,omitempty"`
}

// Link joins hosts.
type Link struct {
	Name string    `json:"name"`
	Ends []LinkEnd `json:"ends"`
	Wire bool      `json:"wire,omitempty"` // can be impaired
}

// LinkEnd is where a link meets a host.
type LinkEnd struct {
	Host      string   `json:"host"`
	Interface string   `json:"interface"`
	Addresses []string `json:"addresses,omitempty"`
}

// Tunnel is drawn over the links.
type Tunnel struct {
	Between [2]string `json:"between"`
	Label   string    `json:"label,omitempty"`
}

// cell is a place in the grid: column and row from 0. A row may be a half one, where a column has fewer hosts than others.
type cell struct {
	column int
	row    float64
}

// layout gives each host a place: columns by distance from the first host, or as they are written; rows within a column by the
// mean of the neighbours' rows, so that links cross little, or as they are written.
func layout(t Topology) map[string]cell {
	neighbours := map[string][]string{}
	for _, l := range t.Links {
		for _, a := range l.Ends {
			for _, b := range l.Ends {
				if a.Host != b.Host {
					neighbours[a.Host] = append(neighbours[a.Host], b.Host)
				}
			}
		}
	}
	columns := columnsOf(t, neighbours)
	count := 0
	for _, c := range columns {
		count = max(count, c+1)
	}
	byColumn := make([][]Host, count)
	for _, h := range t.Hosts {
		byColumn[columns[h.Name]] = append(byColumn[columns[h.Name]], h)
	}
	tallest := 0
	for _, hosts := range byColumn {
		tallest = max(tallest, len(hosts))
		for _, h := range hosts {
			tallest = max(tallest, h.Row)
		}
	}
	places := map[string]cell{}
	place := func(column int, hosts []Host) {
		free := float64(tallest-len(hosts)) / 2
		for i, h := range hosts {
			row := free + float64(i)
			if h.Row > 0 {
				row = float64(h.Row - 1)
			}
			places[h.Name] = cell{column, row}
		}
	}
	for column, hosts := range byColumn {
		place(column, hosts)
	}
	// A few sweeps settle small drawings; the sort is stable, so the written order decides ties.
	for range 4 {
		for column, hosts := range byColumn {
			slices.SortStableFunc(hosts, func(a, b Host) int {
				return cmp.Compare(meanRow(places, neighbours[a.Name], column, places[a.Name].row), meanRow(places, neighbours[b.Name], column, places[b.Name].row))
			})
			place(column, hosts)
		}
	}
	return places
}

// columnsOf walks breadth first from the first host. Written columns stand.
func columnsOf(t Topology, neighbours map[string][]string) map[string]int {
	columns := map[string]int{}
	for _, h := range t.Hosts {
		if h.Column > 0 {
			columns[h.Name] = h.Column - 1
		}
	}
	for _, start := range t.Hosts {
		if _, known := columns[start.Name]; !known {
			columns[start.Name] = 0
		}
		queue := []string{start.Name}
		for len(queue) > 0 {
			name := queue[0]
			queue = queue[1:]
			for _, next := range neighbours[name] {
				if _, known := columns[next]; !known {
					columns[next] = columns[name] + 1
					queue = append(queue, next)
				}
			}
		}
	}
	return columns
}

func meanRow(places map[string]cell, neighbours []string, column int, own float64) float64 {
	sum, n := 0.0, 0
	for _, name := range neighbours {
		if p := places[name]; p.column != column {
			sum, n = sum+p.row, n+1
		}
	}
	if n == 0 {
		return own
	}
	return sum / float64(n)
}
