package main

import (
	"encoding/json"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"
)

// number is written as null where there is none (JSON knows no NaN) and read by people with four digits.
type number float64

func (n number) MarshalJSON() ([]byte, error) {
	if !n.known() {
		return []byte("null"), nil
	}
	return strconv.AppendFloat(nil, float64(n), 'g', 6, 64), nil
}

func (n number) known() bool { return !math.IsNaN(float64(n)) && !math.IsInf(float64(n), 0) }

func (n number) String() string {
	if !n.known() {
		return "-"
	}
	if n != 0 && math.Abs(float64(n)) < 1000 {
		return strconv.FormatFloat(float64(n), 'g', 4, 64)
	}
	return strconv.FormatFloat(float64(n), 'f', 0, 64)
}

func unknown() number { return number(math.NaN()) }

// row is one figure. Ours and Peer are medians over Runs.
type row struct {
	Name     string `json:"name"`
	N        int    `json:"n"` // tunnels, or what Name counts
	Unit     string `json:"unit"`
	Ours     number `json:"ours"`
	Peer     number `json:"peer"`
	PeerName string `json:"peer_name"`
	Ratio    number `json:"ratio"` // ours / peer
	Low      number `json:"low"`   // 95 % interval of the median ratio, where it was measured in pairs
	High     number `json:"high"`
	Target   string `json:"target"`
	OK       *bool  `json:"ok"` // null: no target, or inconclusive (then Note says why)
	Runs     int    `json:"runs"`
	Note     string `json:"note,omitempty"`
}

func newRow(name string, n int, unit string, ours []float64) row {
	return row{Name: name, N: n, Unit: unit, Ours: number(median(ours)), Runs: len(ours), Peer: unknown(), Ratio: unknown(), Low: unknown(), High: unknown()}
}

// against sets the peer beside ours.
func (r row) against(name string, peer []float64) row {
	r.PeerName, r.Peer = name, number(median(peer))
	r.Ratio = r.Ours / r.Peer
	return r
}

// should sets the target for a value of the row.
func (r row) should(target string, ok bool) row {
	r.Target, r.OK = target, &ok
	return r
}

func (r row) noting(note string) row {
	r.Note = note
	return r
}

func (r row) verdict() string {
	switch {
	case r.OK == nil && r.Target != "":
		return "inconclusive"
	case r.OK == nil:
		return ""
	case *r.OK:
		return "met"
	}
	return "MISSED"
}

// printTable is for people.
func printTable(w io.Writer, rows []row, m machine) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "what\tn\tunit\tours\tpeer\tratio\t95 %\ttarget\t\truns\tpeer is; note")
	for _, r := range rows {
		within := ""
		if r.Low.known() && r.High.known() {
			within = fmt.Sprintf("%.3f..%.3f", float64(r.Low), float64(r.High))
		}
		remark := r.PeerName
		if r.Note != "" {
			remark = strings.TrimPrefix(remark+"; "+r.Note, "; ")
		}
		fmt.Fprintf(t, "%s\t%d\t%s\t%v\t%v\t%v\t%s\t%s\t%s\t%d\t%s\n", r.Name, r.N, r.Unit, r.Ours, r.Peer, r.Ratio, within, r.Target, r.verdict(), r.Runs, remark)
	}
	if err := t.Flush(); err != nil {
		return err
	}
	_, err := fmt.Fprintf(w, "\n%s, %d cores, %d MiB, Linux %s, %s, shekara %s, %s; load before %s, after %s\n",
		m.CPU, m.Cores, m.MemoryMiB, m.Kernel, m.Go, m.Version, m.Date.Format(time.RFC3339), m.LoadBefore, m.LoadAfter)
	return err
}

// machine is what the figures come from.
type machine struct {
	CPU        string    `json:"cpu"`
	Cores      int       `json:"cores"`
	MemoryMiB  int       `json:"memoryMiB"`
	Kernel     string    `json:"kernel"`
	Go         string    `json:"go"`
	Version    string    `json:"version"` // of shekarad
	Date       time.Time `json:"date"`
	LoadBefore string    `json:"loadBefore"` // of /proc/loadavg: others' work on the machine makes figures worse
	LoadAfter  string    `json:"loadAfter"`
}

func readMachine() machine {
	m := machine{Cores: runtime.NumCPU(), Go: runtime.Version(), Date: time.Now().UTC().Truncate(time.Second), LoadBefore: loadAverage()}
	m.CPU = field("/proc/cpuinfo", "model name")
	m.Kernel = strings.TrimSpace(readText("/proc/sys/kernel/osrelease"))
	kilobytes, _ := strconv.Atoi(strings.TrimSuffix(field("/proc/meminfo", "MemTotal"), " kB"))
	m.MemoryMiB = kilobytes >> 10
	return m
}

func loadAverage() string {
	words := strings.Fields(readText("/proc/loadavg"))
	return strings.Join(words[:min(3, len(words))], " ")
}

func readText(path string) string {
	b, err := os.ReadFile(path)
	if err != nil {
		return ""
	}
	return string(b)
}

// field finds "key : value" in a file of /proc.
func field(path, key string) string {
	for line := range strings.Lines(readText(path)) {
		if k, v, found := strings.Cut(line, ":"); found && strings.TrimSpace(k) == key {
			return strings.TrimSpace(v)
		}
	}
	return ""
}

// write puts the rows and the machine into folder.
func write(folder, area string, rows []row, m machine) error {
	for name, value := range map[string]any{area + ".json": rows, area + ".machine.json": m} {
		text, err := json.MarshalIndent(value, "", "  ")
		if err != nil {
			return err
		}
		path := filepath.Join(folder, name)
		if err := os.WriteFile(path+".tmp", append(text, '\n'), 0o644); err != nil {
			return err
		}
		if err := os.Rename(path+".tmp", path); err != nil {
			return err
		}
	}
	return nil
}
