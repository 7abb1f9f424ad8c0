package netctl

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"strings"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

const sliceSize = 1000 // ops between two looks at the context

// Apply does the steps in order. One that the kernel refuses is returned with the reason, and the others go on; an addition
// of what is there already, or a deletion of what is gone, is no failure. If ctx ends, the steps that were not done fail with its error.
func (h *Host) Apply(ctx context.Context, ops []Op) []Failure {
	var failures []Failure
	known := map[string]int{}
	failures = append(failures, h.keepOriginals(ops)...)
	if len(failures) > 0 { // a sysctl whose old value is not safe is not touched
		ops = withoutSysctls(ops)
	}
	for len(ops) > 0 {
		n := 0
		for n < len(ops) && n < sliceSize && ops[n].Key == "" {
			n++
		}
		if n == 0 {
			n = 1
		}
		some := ops[:n]
		ops = ops[n:]
		switch {
		case ctx.Err() != nil:
			for _, op := range some {
				failures = append(failures, Failure{op, ctx.Err()})
			}
		case some[0].Key != "":
			err := h.space.Do(func() error { return writeSysctl(some[0].Key, some[0].Value) })
			if err != nil {
				failures = append(failures, Failure{some[0], err})
			}
		default:
			failures = append(failures, h.change(some, known)...)
		}
	}
	return failures
}

func (h *Host) keepOriginals(ops []Op) []Failure {
	var keys []string
	for _, op := range ops {
		if op.Key != "" {
			keys = append(keys, op.Key)
		}
	}
	if len(keys) == 0 {
		return nil
	}
	err := error(&Error{Op: "save original sysctls", Object: h.originals.path, Err: fs.ErrInvalid, Detail: "KeepOriginals was not called"})
	if h.originals.path != "" {
		err = h.space.Do(func() error { return h.originals.keep(keys) })
	}
	if err == nil {
		return nil
	}
	var failures []Failure
	for _, op := range ops {
		if op.Key != "" {
			failures = append(failures, Failure{op, err})
		}
	}
	return failures
}

func withoutSysctls(ops []Op) []Op {
	var rest []Op
	for _, op := range ops {
		if op.Key == "" {
			rest = append(rest, op)
		}
	}
	return rest
}

// change makes routes and rules.
func (h *Host) change(ops []Op, known map[string]int) []Failure {
	var failures []Failure
	requests := make([]request, 0, len(ops))
	asked := make([]Op, 0, len(ops))
	for _, op := range ops {
		if op.Address != nil {
			if err := h.deleteAddress(op); err != nil {
				failures = append(failures, Failure{op, err})
			}
			continue
		}
		m, err := h.request(op, known)
		switch {
		case errors.Is(err, fs.ErrNotExist) && op.Verb == Delete:
			// The kernel deletes a link's routes with it.
		case err != nil:
			failures = append(failures, Failure{op, err})
		default:
			requests = append(requests, m)
			asked = append(asked, op)
		}
	}
	for i, err := range h.rtnl.execute(requests) {
		if err != nil && !h.done(asked[i], err) {
			failures = append(failures, Failure{asked[i], opError(asked[i], err)})
		}
	}
	return failures
}

// deleteAddress takes an address off a link of ours. When the last IPv4 address of a link goes the kernel takes all its IPv4 routes
// along (fib_inetaddr_event(): "Last address was deleted from this interface. Disable IP."), so ours are put back at once.
func (h *Host) deleteAddress(op Op) error {
	fail := func(err error) error {
		return &Error{Op: op.Verb.String() + " address", Object: op.Address.String(), Err: err}
	}
	if op.Verb != Delete || !strings.HasPrefix(op.Address.Link, LinkPrefix) || !op.Address.Prefix.IsValid() {
		return fail(fs.ErrInvalid)
	}
	link, err := h.links.LinkByName(op.Address.Link)
	var missing netlink.LinkNotFoundError
	if errors.As(err, &missing) { // its addresses went with it
		return nil
	}
	if err != nil {
		return fail(err)
	}
	list, err := h.links.AddrList(link, netlink.FAMILY_ALL)
	if err != nil {
		return fail(err)
	}
	index := link.Attrs().Index
	routes, err := h.rtnl.dumpRoutes(routeFilter{family: unix.AF_INET, link: index}, func(int) string { return op.Address.Link })
	if err != nil {
		return fail(err)
	}
	for _, address := range list { // as the kernel has it: the far end of a link, its label and its lifetime
		bits, _ := address.Mask.Size()
		if ip, ok := netip.AddrFromSlice(address.IP); !ok || netip.PrefixFrom(ip.Unmap(), bits) != op.Address.Prefix {
			continue
		}
		if err := h.links.AddrDel(link, &address); err != nil && !errors.Is(err, unix.EADDRNOTAVAIL) {
			return fail(err)
		}
	}
	back := make([]request, 0, len(routes))
	for _, route := range routes {
		back = append(back, changeRoute(route, index, unix.NLM_F_CREATE|unix.NLM_F_EXCL))
	}
	var failed []error
	for _, err := range h.rtnl.execute(back) {
		if err != nil && !errors.Is(err, unix.EEXIST) { // most are still there
			failed = append(failed, err)
		}
	}
	if err := errors.Join(failed...); err != nil {
		return fail(err)
	}
	return nil
}

func (h *Host) request(op Op, known map[string]int) (request, error) {
	if op.Rule != nil {
		if op.Verb == Delete {
			return deleteRule(*op.Rule), nil
		}
		return addRule(*op.Rule), nil
	}
	if op.Route == nil || !op.Route.Prefix.IsValid() || op.Route.Prefix.Addr().Is4In6() {
		return nil, &Error{Op: "change route", Object: op.String(), Err: fs.ErrInvalid}
	}
	route := op.Route.canonical()
	index, err := h.linkIndex(route, known)
	if err != nil {
		return nil, err
	}
	switch op.Verb {
	case Delete:
		return deleteRoute(route, index), nil
	case Set:
		return changeRoute(route, index, unix.NLM_F_CREATE|unix.NLM_F_REPLACE), nil
	default:
		return changeRoute(route, index, unix.NLM_F_CREATE|unix.NLM_F_EXCL), nil
	}
}

// done says whether an error means that what the step asks for is so already.
func (h *Host) done(op Op, err error) bool {
	switch {
	case op.Verb == Delete:
		// ESRCH: no such route; ENOENT: no such rule or table; ENODEV: its link went since we asked for it.
		return errors.Is(err, unix.ESRCH) || errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ENODEV)
	case !errors.Is(err, unix.EEXIST):
		return false
	case op.Route != nil: // perhaps it is a stranger's route that is in the way
		held, err := h.RouteHeld(*op.Route)
		return held && err == nil
	default:
		rules, err := h.rtnl.dumpRules()
		for _, rule := range rules {
			if err == nil && rule.ours() && rule.Rule == *op.Rule {
				return true
			}
		}
		return false
	}
}

func opError(op Op, err error) error {
	object := ""
	switch {
	case op.Route != nil:
		object = op.Route.String()
	case op.Rule != nil:
		object = op.Rule.String()
	}
	kind := "route"
	if op.Rule != nil {
		kind = "rule"
	}
	e := &Error{Op: op.Verb.String() + " " + kind, Object: object, Err: err}
	var refused *refusal
	if errors.As(err, &refused) {
		e.Err, e.Detail = refused.errno, refused.detail
	}
	return e
}

// Cleanup removes all that bears our name from the host: rules and routes of our protocol, links whose name begins with
// "sk-", and the sysctls that we set, which get the values they had. It goes as far as it can and returns every error.
func (h *Host) Cleanup(ctx context.Context) error {
	state, err := h.Observe(ctx, nil)
	if err != nil {
		return fmt.Errorf("clean up: %w", err)
	}
	var failed []error
	for _, failure := range h.Apply(ctx, Diff(Spec{}, state)) {
		failed = append(failed, failure.Err)
	}
	failed = append(failed, h.removeStrangeRules())
	for _, link := range state.Links {
		if !strings.HasPrefix(link.Name, LinkPrefix) {
			continue
		}
		err := h.links.LinkDel(&netlink.GenericLink{LinkAttrs: netlink.LinkAttrs{Index: link.Index}})
		if err != nil && !errors.Is(err, unix.ENODEV) { // the other end of a veth pair may have taken it along
			failed = append(failed, &Error{Op: "delete link", Object: link.Name, Err: err})
		}
	}
	if h.originals.path != "" {
		failed = append(failed, h.space.Do(h.originals.restore))
	}
	if err := errors.Join(failed...); err != nil {
		return fmt.Errorf("clean up: %w", err)
	}
	return nil
}

// removeStrangeRules removes rules with our number that somebody gave more conditions than Rule has. The kernel deletes
// the first rule that fits the family, priority and protocol named.
func (h *Host) removeStrangeRules() error {
	rules, err := h.rtnl.dumpRules()
	if err != nil {
		return &Error{Op: "list rules", Err: err}
	}
	var failed []error
	for _, rule := range rules {
		if rule.protocol != RouteProtocol || rule.ours() {
			continue
		}
		err := h.rtnl.execute([]request{deleteRuleAt(rule)})[0]
		if err != nil && !errors.Is(err, unix.ENOENT) {
			failed = append(failed, &Error{Op: "delete rule", Object: rule.describe(), Err: err})
		}
	}
	return errors.Join(failed...)
}
