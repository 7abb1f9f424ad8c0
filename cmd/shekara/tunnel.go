package main

import (
	"bytes"
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"

	"shekara/provisioning"
	"shekara/provisioning/api"
)

func (p *program) tunnelCommand() *cobra.Command {
	return group("tunnel", "How each tunnel truly is", p.tunnelListCommand(), p.tunnelShowCommand(), p.tunnelWatchCommand())
}

func (p *program) tunnelListCommand() *cobra.Command {
	var asJSON bool
	var state string
	c := &cobra.Command{
		Use:   "list",
		Short: "List the tunnels",
		Args:  arguments(0, 0, "nothing"),
		RunE: func(c *cobra.Command, _ []string) error {
			if state != "" && rank(state) < 0 {
				return hint(fmt.Errorf("--state %q: there is no such state", state), "it is one of "+strings.Join(states(), ", "))
			}
			tunnels, err := p.daemon().Tunnels(c.Context(), state)
			if err != nil {
				return err
			}
			if asJSON {
				return p.json("TunnelList", api.Tunnels{Tunnels: tunnels})
			}
			p.tunnels(tunnels, time.Now())
			return nil
		},
	}
	c.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	c.Flags().StringVar(&state, "state", "", "only those in this state: "+strings.Join(states(), ", "))
	return c
}

func (p *program) tunnels(list []provisioning.TunnelStatus, now time.Time) {
	if len(list) == 0 {
		p.line("No tunnels.")
		return
	}
	rows := make([][]cell, len(list))
	for i, t := range list {
		rows[i] = []cell{{text: t.Name}, {t.State, stateColour(t.State)}, {text: ago(&t.Since, now)}, {text: t.Environment}, {text: t.Device},
			{text: t.RemotePeer}, {text: orNone(t.Endpoint)}, {text: ago(t.LastHandshake, now)}, {text: size(t.ReceivedBytes)},
			{text: size(t.SentBytes)}, {text: echoes(t.Probe)}, {text: t.Reason}}
	}
	header := []string{"NAME", "STATE", "FOR", "ENVIRONMENT", "DEVICE", "PEER", "ENDPOINT", "HANDSHAKE", "RECEIVED", "SENT", "PROBE", "REASON"}
	p.table(p.brief(170, []string{"NAME", "STATE", "FOR", "PEER", "HANDSHAKE", "REASON"}, header, rows))
}

func ago(t *time.Time, now time.Time) string {
	if t == nil || t.IsZero() {
		return "-"
	}
	return span(now.Sub(*t))
}

func echoes(p *provisioning.ProbeStatus) string {
	switch {
	case p == nil:
		return "-"
	case p.Latency == 0:
		return fmt.Sprintf("%d/%d lost", p.Lost, p.Sent)
	}
	return fmt.Sprintf("%s, %d/%d lost", p.Latency.Round(10*time.Microsecond), p.Lost, p.Sent)
}

// size is in IEC units, as wg(8) prints them.
func size(n uint64) string {
	if n < 1024 {
		return fmt.Sprintf("%d B", n)
	}
	value, unit := float64(n), 0
	units := []string{"B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"}
	for value >= 1024 {
		value /= 1024
		unit++
	}
	return fmt.Sprintf("%.2f %s", value, units[unit])
}

func (p *program) tunnelShowCommand() *cobra.Command {
	var asJSON bool
	c := &cobra.Command{
		Use:               "show NAME",
		Short:             "Show all that is known of one tunnel",
		Args:              arguments(1, 1, "one tunnel"),
		ValidArgsFunction: p.completeTunnels,
		RunE: func(c *cobra.Command, args []string) error {
			t, err := p.daemon().Tunnel(c.Context(), args[0])
			if err != nil {
				return err
			}
			if asJSON {
				return p.json("Tunnel", t)
			}
			p.tunnel(t, time.Now())
			return nil
		},
	}
	c.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return c
}

func (p *program) tunnel(t provisioning.TunnelStatus, now time.Time) {
	state := p.paint(stateColour(t.State), t.State, p.width > 0) + " for " + ago(&t.Since, now)
	if t.Reason != "" {
		state += ": " + t.Reason
	}
	field := func(name, value string) {
		if value != "" {
			p.line("%-17s %s", name, value)
		}
	}
	field("Tunnel", t.Name)
	field("State", state)
	field("Hint", t.Hint)
	if t.NextRetry != nil {
		field("Next retry", "in "+span(t.NextRetry.Sub(now)))
	}
	field("Environment", t.Environment)
	field("Protocol", t.Protocol)
	field("Device", strings.TrimSuffix(t.Device+" ("+t.Engine+")", " ()"))
	field("Local peer", t.LocalPeer+" at "+t.LocalIP)
	field("Remote peer", t.RemotePeer)
	field("Public key", t.PublicKey)
	field("Endpoint", orNone(t.Endpoint))
	field("Local prefixes", notations(t.LocalPrefixes, "shown as", t.LocalShown))
	field("Remote prefixes", notations(t.RemotePrefixes, "known here as", t.RemoteKnown))
	field("Route table", fmt.Sprint(t.RouteTable))
	if t.Limits != nil {
		limits := t.Limits.String()
		if t.Limits.ReachedAt != nil {
			limits += fmt.Sprintf("; reached %s ago (%s)", ago(t.Limits.ReachedAt, now), t.Limits.Reached)
		}
		field("Limits", limits)
	}
	if t.ConntrackZone != 0 {
		field("Conntrack zone", fmt.Sprint(t.ConntrackZone))
	}
	handshake := "never"
	if t.LastHandshake != nil {
		handshake = ago(t.LastHandshake, now) + " ago"
	}
	field("Last handshake", handshake)
	field("Received", size(t.ReceivedBytes))
	field("Sent", size(t.SentBytes))
	if t.Probe != nil {
		answered := "never answered"
		if t.Probe.Answered != nil {
			answered = "answered " + ago(t.Probe.Answered, now) + " ago"
		}
		field("Probe", fmt.Sprintf("%s: %s; %s", t.Probe.Target, echoes(t.Probe), answered))
		field("Probe error", t.Probe.Error)
	}
}

// notations are prefixes and what they are translated to.
func notations(prefixes []string, verb string, others []string) string {
	text := strings.Join(prefixes, ", ")
	if len(others) > 0 {
		text += ", " + verb + " " + strings.Join(others, ", ")
	}
	return text
}

func (p *program) completeTunnels(c *cobra.Command, _ []string, prefix string) ([]string, cobra.ShellCompDirective) {
	ctx, cancel := context.WithTimeout(c.Context(), 2*time.Second)
	defer cancel()
	tunnels, err := p.daemon().Tunnels(ctx, "")
	if err != nil {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	var names []string
	for _, t := range tunnels {
		if strings.HasPrefix(t.Name, prefix) {
			names = append(names, t.Name)
		}
	}
	return names, cobra.ShellCompDirectiveNoFileComp
}

func (p *program) tunnelWatchCommand() *cobra.Command {
	var asJSON bool
	c := &cobra.Command{
		Use:   "watch [NAME...]",
		Short: "Show tunnels as they change, until interrupted",
		Long: "On a terminal watch draws the tunnels anew whenever one changes, the worst first. Elsewhere it prints each tunnel once, and a line with\n" +
			"time and name whenever a state changes.",
		Args:              cobra.ArbitraryArgs,
		ValidArgsFunction: p.completeTunnels,
		RunE: func(c *cobra.Command, names []string) error {
			err := p.watch(c.Context(), names, asJSON)
			if c.Context().Err() != nil {
				return nil // interrupted is how a watch ends
			}
			return err
		},
	}
	c.Flags().BoolVar(&asJSON, "json", false, "print one JSON object a line")
	return c
}

func (p *program) watch(ctx context.Context, names []string, asJSON bool) error {
	daemon := p.daemon()
	if asJSON {
		return daemon.FollowChanges(ctx, func(u api.Update) error {
			if u.Tunnel == nil && u.Gone == "" || u.Tunnel != nil && !chosen(names, u.Tunnel.Name) || u.Gone != "" && !chosen(names, u.Gone) {
				return nil
			}
			return p.jsonLine(u)
		})
	}
	list, err := daemon.Tunnels(ctx, "")
	if err != nil {
		return err
	}
	w := &watched{program: p, names: names, seen: map[string]provisioning.TunnelStatus{}, changed: make(chan struct{}, 1)}
	for _, t := range list {
		if chosen(names, t.Name) {
			w.seen[t.Name] = t
		}
	}
	for _, name := range names {
		if _, here := w.seen[name]; !here {
			p.note("There is no tunnel %s yet.", name)
		}
	}
	if p.width == 0 {
		p.tunnels(sorted(w.seen), time.Now())
		return daemon.FollowChanges(ctx, w.update)
	}
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return daemon.FollowChanges(ctx, w.update) })
	group.Go(func() error { return w.redraw(ctx) })
	return group.Wait()
}

// watched is the tunnels that a watch shows.
type watched struct {
	*program
	names   []string
	changed chan struct{} // of one element: something is to be drawn

	mu   sync.Mutex // guards seen
	seen map[string]provisioning.TunnelStatus
}

func (w *watched) update(u api.Update) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	var now provisioning.TunnelStatus
	switch {
	case u.Tunnel != nil:
		now = *u.Tunnel
	case u.Gone != "":
		now = provisioning.TunnelStatus{Name: u.Gone, State: "gone", Since: time.Now()}
	default:
		return nil
	}
	if !chosen(w.names, now.Name) {
		return nil
	}
	before := w.seen[now.Name].State
	if u.Tunnel != nil {
		w.seen[now.Name] = now
	} else {
		delete(w.seen, now.Name)
	}
	if w.width == 0 && before != now.State {
		w.turned(before, now)
	}
	select {
	case w.changed <- struct{}{}:
	default: // the next drawing shows this too
	}
	return nil
}

// redraw draws when something changed, and every second, since ages do; at most five times a second, however much changes.
func (w *watched) redraw(ctx context.Context) error {
	for {
		w.mu.Lock()
		err := w.draw(w.seen, time.Now())
		w.mu.Unlock()
		if err != nil {
			return err
		}
		select {
		case <-w.changed:
		case <-time.After(time.Second):
		case <-ctx.Done():
			return ctx.Err()
		}
		select {
		case <-time.After(200 * time.Millisecond):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func chosen(names []string, name string) bool { return len(names) == 0 || slices.Contains(names, name) }

// sorted is tunnels by name.
func sorted(seen map[string]provisioning.TunnelStatus) []provisioning.TunnelStatus {
	return slices.SortedFunc(maps.Values(seen), func(a, b provisioning.TunnelStatus) int { return strings.Compare(a.Name, b.Name) })
}

// draw shows as many tunnels as the terminal has lines for, the worst first, in one write, so that it does not flicker.
func (p *program) draw(seen map[string]provisioning.TunnelStatus, now time.Time) error {
	var frame bytes.Buffer
	page := *p.terminal
	page.stdout = &frame
	q := &program{terminal: &page}
	states := map[string]int{}
	for _, t := range seen {
		states[t.State]++
	}
	list := sorted(seen)
	slices.SortStableFunc(list, func(a, b provisioning.TunnelStatus) int { return rank(b.State) - rank(a.State) })
	const clear = "\x1b[H\x1b[2J"
	q.line(clear+"%s  %s   Ctrl-C ends", now.Format(time.TimeOnly), q.tally(states))
	most := max(p.height-4, 1) // this line, the header, how many are left out, and where the cursor stands
	q.tunnels(list[:min(len(list), most)], now)
	if left := len(list) - most; left > 0 {
		q.line("and %d more", left)
	}
	return p.raw(frame.Bytes())
}

func (p *program) turned(before string, t provisioning.TunnelStatus) {
	line := fmt.Sprintf("%s  %s  %s -> %s", t.Since.Local().Format(time.DateTime), t.Name, orNone(before), t.State)
	if t.Reason != "" {
		line += "  " + t.Reason
	}
	p.line("%s", line)
}
