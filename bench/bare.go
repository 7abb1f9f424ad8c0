package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"shekara/netctl/tun"
	"shekara/testbed/lab"
	"shekara/tunnels/wireguard/dataplane"
)

// bareName is what the peer of most rows is: the same WireGuard, set up by hand.
const bareName = "wg + ip + nft"

// bareDevice starts the same userspace WireGuard as Shekara has, on a host where no daemon runs: from here on everything is up to wg and ip.
func bareDevice(ctx context.Context, h *lab.Host, name string, mtu int) error {
	var file *os.File
	err := h.Do(func() (err error) {
		file, err = tun.Create(name)
		return err
	})
	if err != nil {
		return fmt.Errorf("on %s: make device %s: %w", h.Name, name, err)
	}
	defer file.Close()
	if err := commands(ctx, h, fmt.Sprintf("ip link set %s mtu %d up", name, mtu)); err != nil {
		return err
	}
	order := dataplane.Order{Name: name, MTU: mtu}
	folder := h.Path(filepath.Join(runDirectory, "dataplane"))
	return dataplane.Give(ctx, folder, order, file, func() error {
		// In a session of its own, as ours and as any daemon: the kernel's autogroups (sched(7)) share processors by session, and a dataplane
		// in the session of the load that it carries was woken sooner, which alone made a tenth of the throughput.
		_, err := h.Start(lab.Command{Args: []string{"setsid", "shekarad", "dataplane", name}})
		return err
	})
}

// content is what an edge holds, in the words of the bare tools.
type content struct {
	wireguard, routes, rules []byte // for wg setconf, ip -batch, nft -f
	keyOnly                  []byte // wireguard without peers
	tables                   []string
}

// dump reads an edge's content with the bare tools, so that they can be told to make the very same.
func (e *edge) dump(ctx context.Context) (content, error) {
	var c content
	conf, err := e.output(ctx, "wg showconf "+e.device)
	if err != nil {
		return c, err
	}
	only, _, _ := strings.Cut(string(conf), "[Peer]")
	c.wireguard, c.keyOnly = conf, []byte(only)
	if c.rules, err = e.output(ctx, "nft list table inet shekara"); err != nil {
		return c, err
	}
	routes, err := e.output(ctx, "ip -4 route show table all proto 83")
	if err != nil {
		return c, err
	}
	var batch strings.Builder
	seen := map[string]bool{}
	for line := range strings.Lines(string(routes)) {
		// linkdown, dead and the like are states, not settings.
		line = strings.TrimSpace(strings.ReplaceAll(line, "linkdown", ""))
		fmt.Fprintf(&batch, "route add %s\n", line)
		if _, rest, found := strings.Cut(line, " table "); found {
			table, _, _ := strings.Cut(rest, " ")
			if !seen[table] {
				seen[table] = true
				c.tables = append(c.tables, table)
			}
		}
	}
	c.routes = []byte(batch.String())
	return c, nil
}

// output is what a command writes, all of it: through a file, as a process's own output is only kept for its last mebibyte.
func (e *edge) output(ctx context.Context, line string) ([]byte, error) {
	const file = workFolder + "/output"
	if _, err := command(ctx, e.Host, "sh", "-c", "umask 077; "+line+" > "+file); err != nil {
		return nil, err
	}
	return os.ReadFile(e.Path(file))
}

// give puts the content on a host, ready for the tools.
func (c content) give(h *lab.Host) error {
	for name, text := range map[string][]byte{"wg.conf": c.wireguard, "empty.conf": c.keyOnly, "routes": c.routes, "rules.nft": c.rules} {
		if err := h.WriteFile(filepath.Join(workFolder, name), text, 0o600); err != nil {
			return err
		}
	}
	return nil
}

// makeBare does what an edge's apply does, by the tools in one shell.
func makeBare(ctx context.Context, h *lab.Host, device string) error {
	script := fmt.Sprintf("wg setconf %s wg.conf && ip -batch routes && nft -f rules.nft", device)
	_, err := command(ctx, h, "sh", "-ec", "cd "+workFolder+"; "+script)
	return err
}

// emptyBare takes it all away again.
func (c content) emptyBare(ctx context.Context, h *lab.Host, device string) error {
	script := fmt.Sprintf("wg setconf %s empty.conf; nft delete table inet shekara", device)
	for _, table := range c.tables {
		script += "; ip route flush table " + table
	}
	_, err := command(ctx, h, "sh", "-ec", "cd "+workFolder+"; "+script)
	return err
}
