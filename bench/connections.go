package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"shekara/journal"
	"shekara/netctl/conntrack"
	"shekara/netctl/multicast"
	"shekara/provisioning/api"
	"shekara/provisioning/client"
	"shekara/testbed/lab"
)

const (
	heardFlows  = 100             // that connections are spread over
	heardFrom   = 10_000          // connections a second to begin with
	heardDuring = 4 * time.Second // of connections at one rate
	heardStep   = 1.25            // from one rate to the next
	heardSweep  = time.Second / 2 // looks at the table, so that what has timed out ends
	heardLeft   = 1000            // connections that are ended by hand at last
	heardCalm   = time.Second     // without anything new in a file: its writer has written all; and many turns of the daemon
)

// hearer is who hears of connections on the box.
type hearer interface {
	// start returns when nothing is missed from now on.
	start(ctx context.Context) error
	// heard says whether it heard of the beginnings and the ends of so many connections, all of which have ended.
	heard(ctx context.Context, connections int) (all bool, err error)
	// stop ends it, and forgets all connections.
	stop(ctx context.Context) error
}

// connections measures how many connections a second begin and end through a box before news of them are lost: by the daemon, and by ulogd, on one box under one filter, in turns.
func (b *bench) connections(ctx context.Context) ([]row, error) {
	network := b.network()
	defer network.Close()
	x := &box{filter: noFilter, flows: heardFlows} // the daemon loads the filter
	if err := x.setUp(ctx, network, "heard-"); err != nil {
		return nil, err
	}
	e := &edge{Host: x.host, client: client.New(x.host.Path(runDirectory))}
	if err := x.host.WriteFile("/etc/shekara/site", []byte("bench\n"), 0o644); err != nil {
		return nil, err
	}
	if err := e.start(ctx); err != nil {
		return nil, err
	}
	if err := e.apply(ctx, "base", heardDocuments()); err != nil {
		return nil, err
	}
	if err := commands(ctx, x.host, "shekara confirm"); err != nil {
		return nil, err
	}
	// Each lives for a second, and until the next sweep.
	if err := x.host.Sysctl("net.netfilter.nf_conntrack_udp_timeout", "1"); err != nil {
		return nil, err
	}
	ours := &daemonHearer{edge: e}
	peer, err := newUlogdHearer(x.host)
	if err != nil {
		return nil, err
	}
	if err := ours.stop(ctx); err != nil {
		return nil, err
	}
	hearers, rates, ceilings := []hearer{ours, peer}, make([][]float64, 2), make([]bool, 2)
	from := []float64{heardFrom, heardFrom}
	for run := range b.runs {
		for i, h := range hearers {
			if run == 0 { // roughly first
				best, _, err := x.search(ctx, h, from[i], 2)
				if err != nil {
					return nil, err
				}
				from[i] = best
			}
			best, ceiling, err := x.search(ctx, h, from[i], heardStep)
			if err != nil {
				return nil, err
			}
			b.say("%T hears of %.0f connections a second", h, best)
			ceilings[i] = ceilings[i] || ceiling
			rates[i], from[i] = append(rates[i], best), best
		}
	}
	r := newRow("connections that begin and end, heard of before the kernel drops news", heardFlows, "1/s", rates[0]).against("ulogd, with as large a buffer, a line for each into a file in memory", rates[1])
	var notes []string
	for i, whose := range []string{"ours", "the peer's"} {
		if ceilings[i] {
			notes = append(notes, whose+" is at least this: the machine made no more")
		}
	}
	return []row{r.noting(strings.Join(notes, "; "))}, nil
}

// search goes up from a rate as long as all is heard of, or down until it is, and gives the highest that was. ceiling: the next could not be made.
func (x *box) search(ctx context.Context, h hearer, rate, step float64) (best float64, ceiling bool, err error) {
	up := true
	for {
		made, whole, all, err := x.hear(ctx, h, rate)
		if err != nil {
			return 0, false, err
		}
		slow := made < 0.95*rate
		switch {
		case all && (!up || slow):
			return made, ceiling || slow, nil
		case all:
			best, rate = made, rate*step
		case best > 0:
			return best, !whole, nil
		case rate < 100:
			return 0, false, fmt.Errorf("%T does not even hear of %.0f connections a second: %w", h, rate, errNothingMeasured)
		default:
			up, ceiling, rate = false, !whole, rate/step
		}
	}
}

// hear makes connections at a rate, and says how many a second there were, and whether all were heard of. whole: no packet was lost on the way; else nothing is known.
func (x *box) hear(ctx context.Context, h hearer, rate float64) (made float64, whole, all bool, err error) {
	many := int(rate * heardDuring.Seconds())
	if len(x.packets) < many {
		if x.packets, err = openers(heardFlows, many); err != nil {
			return 0, false, false, err
		}
	}
	if err := h.start(ctx); err != nil {
		return 0, false, false, err
	}
	sweeping, stop := context.WithCancel(ctx)
	swept := make(chan error, 1)
	go func() { swept <- x.sweep(sweeping) }()
	made, whole, err = x.open(ctx, many, rate)
	if err == nil {
		err = x.end(ctx)
	}
	stop()
	if err = errors.Join(err, <-swept); err != nil {
		return 0, false, false, err
	}
	if whole {
		if all, err = h.heard(ctx, many); err != nil {
			return 0, false, false, err
		}
	}
	return made, whole, all, h.stop(ctx)
}

// open opens so many connections at a rate, and says how many a second there were, and whether all their packets came through.
func (x *box) open(ctx context.Context, many int, rate float64) (made float64, whole bool, err error) {
	arrived, err := os.Open(x.right.Path("/sys/class/net/eth0/statistics/rx_packets"))
	if err != nil {
		return 0, false, err
	}
	defer arrived.Close()
	before, err := readCounter(arrived)
	if err != nil {
		return 0, false, err
	}
	var took time.Duration
	if err := x.left.Do(func() (err error) { took, err = x.sendAt(ctx, x.packets[:many], rate); return err }); err != nil {
		return 0, false, err
	}
	after, err := readCounter(arrived) // the sender's own processor time carries each packet to its end
	if err != nil {
		return 0, false, err
	}
	return float64(many) / took.Seconds(), after-before >= uint64(many), nil // a neighbour's packet may have come too
}

// sweep looks at the table again and again, which has the kernel take out what has timed out. Its own collector, where it has found little the last time, comes once a minute
// (gc_worker in nf_conntrack_core.c).
func (x *box) sweep(ctx context.Context) error {
	tick := time.NewTicker(heardSweep)
	defer tick.Stop()
	for {
		err := x.host.Do(func() error {
			return (&conntrack.Table{}).Each(ctx, func(*conntrack.Account) bool { return true })
		})
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

// end returns when all connections have ended, by themselves but for the last few.
func (x *box) end(ctx context.Context) error {
	for deadline := time.Now().Add(readyWithin); ; time.Sleep(pollEvery) {
		var text string
		if err := x.host.Do(func() error { text = readText("/proc/sys/net/netfilter/nf_conntrack_count"); return nil }); err != nil {
			return err
		}
		live, err := strconv.Atoi(strings.TrimSpace(text))
		if err = errors.Join(err, ctx.Err()); err != nil {
			return err
		}
		if live <= heardLeft {
			return commands(ctx, x.host, "conntrack -F")
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("%d connections do not end: %w", live, errNothingMeasured)
		}
	}
}

// sendAt sends so many a second, or as fast as it can.
func (x *box) sendAt(ctx context.Context, packets [][]byte, rate float64) (time.Duration, error) {
	fd, to, err := openLink("eth0", readText(x.host.Path("/sys/class/net/"+boxLeft+"/address")))
	if err != nil {
		return 0, err
	}
	defer unix.Close(fd)
	began := time.Now()
	for sent := 0; sent < len(packets); time.Sleep(100 * time.Microsecond) {
		for due := min(len(packets), int(rate*time.Since(began).Seconds())+1); sent < due; sent++ {
			if err := unix.Sendto(fd, packets[sent], 0, to); err != nil {
				return 0, os.NewSyscallError("sendto", err)
			}
		}
		if ctx.Err() != nil {
			return 0, ctx.Err()
		}
	}
	return time.Since(began), nil
}

// heardDocuments are those of a site that forwards the flows.
func heardDocuments() []byte {
	var w strings.Builder
	part := func(kind, name, spec string) {
		fmt.Fprintf(&w, "---\napiVersion: shekara/v1\nkind: %s\nmetadata: {name: %s}\nspec: %s\n", kind, name, spec)
	}
	for zone, prefix := range map[string]netip.Prefix{"left": leftNetwork, "right": rightNetwork} {
		part("Zone", zone, fmt.Sprintf("{contour: internal, kind: lan, prefixes: [%s]}", prefix))
	}
	part("Site", "bench", fmt.Sprintf("{peers: [], interfaces: [{name: %s, zone: left}, {name: %s, zone: right}], journal: {units: [none]}}", boxLeft, boxRight))
	for i := range heardFlows {
		source, destination := flow(i)
		part("Flow", fmt.Sprint("flow-", i), fmt.Sprintf("{fromZone: left, toZone: right, from: [%s], to: [%s], allow: [udp/%d]}", source, destination, openPort))
	}
	return []byte(w.String())
}

// daemonHearer is shekarad, which counts what flows carry and puts connections on record.
type daemonHearer struct {
	*edge
	opened uint64 // connections before
	after  uint64 // records before
}

func (d *daemonHearer) start(ctx context.Context) (err error) {
	if err = d.edge.start(ctx); err != nil {
		return err
	}
	if d.opened, err = d.sum(ctx); err != nil {
		return err
	}
	head, err := d.client.JournalHead(ctx)
	d.after = head.Last
	return err
}

// sum is how many connections there were of all flows, ever.
func (d *daemonHearer) sum(ctx context.Context) (opened uint64, err error) {
	report, err := d.client.Flows(ctx, "")
	for _, f := range report.Flows {
		opened += f.Opened
	}
	return opened, err
}

// heard asks for a miss last: of ends that were not told the sum knows nothing, and the miss may be told only in the daemon's next turn.
func (d *daemonHearer) heard(ctx context.Context, connections int) (bool, error) {
	for deadline := time.Now().Add(readyWithin); ; {
		opened, err := d.sum(ctx)
		if err != nil {
			return false, err
		}
		time.Sleep(heardCalm)
		missing, err := d.client.Events(ctx, d.after, 1, api.EventFilter{Types: []string{string(journal.FlowMiss)}})
		if err != nil || len(missing.Events) > 0 {
			return false, err
		}
		if opened-d.opened == uint64(connections) {
			return true, nil
		}
		if opened-d.opened > uint64(connections) || time.Now().After(deadline) {
			return false, fmt.Errorf("the daemon counts %d connections, of %d, and misses none", opened-d.opened, connections)
		}
	}
}

// stop lets the daemon see that connections are gone, else the next one misses them.
func (d *daemonHearer) stop(ctx context.Context) error {
	if err := commands(ctx, d.Host, "conntrack -F"); err != nil {
		return err
	}
	if err := d.daemon.Signal(syscall.SIGTERM); err != nil {
		return err
	}
	_, err := d.daemon.Wait(ctx)
	return err
}

// ulogdHearer is ulogd(8), which writes a line for each beginning and each end.
type ulogdHearer struct {
	host    *lab.Host
	plugins string // folder
	program *lab.Process
}

const (
	eventsFile = workFolder + "/events"
	ulogdFile  = workFolder + "/ulogd.conf"
	// ulogdText takes the folder of plugins and the buffer's bytes. Of a size that it may not double it says nothing more when it was too small.
	ulogdText = `[global]
logfile="` + workFolder + `/ulogd.log"
plugin="%[1]s/ulogd_inpflow_NFCT.so"
plugin="%[1]s/ulogd_filter_IP2STR.so"
plugin="%[1]s/ulogd_filter_PRINTFLOW.so"
plugin="%[1]s/ulogd_output_LOGEMU.so"
stack=news:NFCT,addresses:IP2STR,text:PRINTFLOW,file:LOGEMU
[news]
event_mask=0x5
hash_enable=0
netlink_socket_buffer_size=%[2]d
netlink_socket_buffer_maxsize=%[3]d
[file]
file="` + eventsFile + `"
sync=0
`
)

func newUlogdHearer(host *lab.Host) (*ulogdHearer, error) {
	found, err := filepath.Glob("/usr/lib/*/ulogd/ulogd_inpflow_NFCT.so")
	if err != nil || len(found) == 0 {
		return nil, errors.New("ulogd is not installed (hint: make bench installs it)")
	}
	u := &ulogdHearer{host: host, plugins: filepath.Dir(found[0])}
	return u, host.WriteFile(ulogdFile, fmt.Appendf(nil, ulogdText, u.plugins, multicast.BufferSize, multicast.BufferSize+1), 0o600)
}

func (u *ulogdHearer) start(ctx context.Context) (err error) {
	if err := u.host.WriteFile(eventsFile, nil, 0o600); err != nil {
		return err
	}
	if u.program, err = u.host.Start(lab.Command{Args: []string{"ulogd", "-c", ulogdFile, "-p", workFolder + "/ulogd.pid"}}); err != nil {
		return err
	}
	for deadline := time.Now().Add(readyWithin); !u.listens(); time.Sleep(pollEvery) {
		if ctx.Err() != nil || !u.program.Running() || time.Now().After(deadline) {
			return errors.Join(ctx.Err(), fmt.Errorf("ulogd does not listen: %s", u.program.Stderr()))
		}
	}
	return nil
}

// listens says whether it has joined groups of netfilter's netlink family, by the kernel's list of sockets: address, family, port, groups and more.
func (u *ulogdHearer) listens() bool {
	for line := range strings.Lines(readText(u.host.Path(fmt.Sprintf("/proc/%d/net/netlink", u.program.PID)))) {
		if f := strings.Fields(line); len(f) > 3 && f[1] == fmt.Sprint(unix.NETLINK_NETFILTER) && strings.Trim(f[3], "0") != "" {
			return true
		}
	}
	return false
}

// heard lets it write all, and ends it, so that it writes what it buffers.
func (u *ulogdHearer) heard(ctx context.Context, connections int) (bool, error) {
	path, size := u.host.Path(eventsFile), int64(-1)
	for since := time.Now(); time.Since(since) < heardCalm; time.Sleep(pollEvery) {
		info, err := os.Stat(path)
		if err = errors.Join(err, ctx.Err()); err != nil {
			return false, err
		}
		if info.Size() != size {
			size, since = info.Size(), time.Now()
		}
	}
	if err := u.program.Signal(syscall.SIGTERM); err != nil {
		return false, err
	}
	if _, err := u.program.Wait(ctx); err != nil {
		return false, err
	}
	file, err := os.Open(path)
	if err != nil {
		return false, err
	}
	defer file.Close()
	began, ended, lines := 0, 0, bufio.NewScanner(file)
	for lines.Scan() {
		switch line := lines.Bytes(); {
		case !bytes.Contains(line, []byte("PROTO=UDP")):
		case bytes.Contains(line, []byte("[NEW]")):
			began++
		case bytes.Contains(line, []byte("[DESTROY]")):
			ended++
		}
	}
	if max(began, ended) > connections {
		return false, fmt.Errorf("ulogd tells of %d beginnings and %d ends, of %d", began, ended, connections)
	}
	return min(began, ended) == connections, lines.Err()
}

func (u *ulogdHearer) stop(ctx context.Context) error {
	u.program.Kill()
	return errors.Join(os.Remove(u.host.Path(eventsFile)), commands(ctx, u.host, "conntrack -F"))
}
