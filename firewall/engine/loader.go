package engine

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"

	"shekara/firewall"
	"shekara/firewall/iptables"
	"shekara/firewall/nft"
	door "shekara/netctl/iptables"
	"shekara/netctl/nftables"
)

// reporter is what every engine tells besides.
type reporter interface {
	Counters(context.Context) (map[string]firewall.Counter, error)
	Foreign(context.Context) ([]string, error)
}

// first is how every engine loads before anything of ours is there.
type first interface {
	LoadIfAbsent(context.Context, firewall.Ruleset) (bool, error)
}

// kind is how an engine is opened, and whether rules of it are there.
type kind struct {
	open func(context.Context) (firewall.Loader, error)
	left func(context.Context) (bool, error)
}

// names of the engines, the preferred first.
var names = []firewall.Engine{firewall.NFTables, firewall.IPTables}

// Loader is safe for concurrent use.
type Loader struct {
	mu     sync.Mutex
	kinds  map[firewall.Engine]kind
	opened map[firewall.Engine]firewall.Loader
	auto   firewall.Engine
	using  firewall.Engine // "": nothing is known to be loaded
}

// New finds the first engine that this host can run. The error says of each why it cannot.
func New(ctx context.Context) (*Loader, error) {
	return open(ctx, map[firewall.Engine]kind{
		firewall.NFTables: {func(ctx context.Context) (firewall.Loader, error) { return nft.New(ctx) }, nft.Left},
		firewall.IPTables: {func(ctx context.Context) (firewall.Loader, error) { return iptables.New(ctx, door.Default) }, iptables.Left},
	})
}

func open(ctx context.Context, kinds map[firewall.Engine]kind) (*Loader, error) {
	l := &Loader{kinds: kinds, opened: map[firewall.Engine]firewall.Loader{}}
	var errs []error
	for _, name := range names {
		if _, err := l.open(ctx, name); err == nil {
			l.auto = name
			return l, nil
		} else {
			errs = append(errs, err)
		}
	}
	return nil, errors.Join(errs...)
}

func (l *Loader) open(ctx context.Context, name firewall.Engine) (firewall.Loader, error) {
	if b := l.opened[name]; b != nil {
		return b, nil
	}
	k, known := l.kinds[name]
	if !known {
		return nil, fmt.Errorf("engine %q: there is no such engine of the packet filter", string(name))
	}
	b, err := k.open(ctx)
	if err != nil {
		return nil, fmt.Errorf("engine %s: %w", name, err)
	}
	l.opened[name] = b
	return b, nil
}

func (l *Loader) nameOf(r firewall.Ruleset) firewall.Engine {
	if e := r.Policy.Engine; e != firewall.AnyEngine {
		return e
	}
	return l.auto
}

// Engine is the one in use or, before the first ruleset, the one that would be.
func (l *Loader) Engine() firewall.Engine {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.using == "" {
		return l.auto
	}
	return l.using
}

// Check says why the engine of a ruleset could not load it. The kernel is not asked.
func (l *Loader) Check(r firewall.Ruleset) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.nameOf(r) == firewall.IPTables {
		return iptables.Check(r)
	}
	return nil
}

// Load is that of the engine that the ruleset's policy names. What another engine holds of ours goes after that: until then both filter.
func (l *Loader) Load(ctx context.Context, r firewall.Ruleset) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	name := l.nameOf(r)
	b, err := l.open(ctx, name)
	if err != nil {
		return fmt.Errorf("load ruleset: %w", err)
	}
	if err := b.Load(ctx, r); err != nil {
		return err
	}
	if l.using != name {
		l.using = ""
		if err := l.removeLeft(ctx, name); err != nil {
			return err
		}
		l.using = name
	}
	return nil
}

// LoadIfAbsent loads the ruleset unless one of ours is there, in whichever engine, and says whether it did. It is for the first moment after boot, and
// takes nftables if it can: that sees to it that none came in between. Where a policy names the other engine the daemon's first Load changes to it.
func (l *Loader) LoadIfAbsent(ctx context.Context, r firewall.Ruleset) (bool, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	left, err := l.left(ctx, "")
	if err != nil || len(left) > 0 {
		return false, err
	}
	return l.opened[l.auto].(first).LoadIfAbsent(ctx, r)
}

// removeLeft removes what engines but one hold of ours.
func (l *Loader) removeLeft(ctx context.Context, but firewall.Engine) error {
	left, err := l.left(ctx, but)
	if err != nil {
		return err
	}
	for _, name := range left {
		b, err := l.open(ctx, name)
		if err != nil {
			return fmt.Errorf("remove ruleset: %w", err)
		}
		if err := b.Remove(ctx); err != nil {
			return err
		}
	}
	return nil
}

// left are the engines but one that hold something of ours.
func (l *Loader) left(ctx context.Context, but firewall.Engine) (left []firewall.Engine, err error) {
	for _, name := range names {
		if name == but {
			continue
		}
		is, err := l.kinds[name].left(ctx)
		if err != nil {
			return nil, fmt.Errorf("look for rules of engine %s: %w", name, err)
		}
		if is {
			left = append(left, name)
		}
	}
	return left, nil
}

// Matches is that of the engine that the ruleset's policy names. Rules of ours in another are a difference too.
func (l *Loader) Matches(ctx context.Context, r firewall.Ruleset) ([]string, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	name := l.nameOf(r)
	b, err := l.open(ctx, name)
	if err != nil {
		return nil, fmt.Errorf("compare ruleset: %w", err)
	}
	left, err := l.left(ctx, name)
	if err != nil {
		return nil, fmt.Errorf("compare ruleset: %w", err)
	}
	if len(left) > 0 {
		return []string{fmt.Sprintf("rules of ours are there in another engine too: %s", join(left))}, nil
	}
	drift, err := b.Matches(ctx, r)
	if err == nil && len(drift) == 0 {
		l.using = name
	}
	return drift, err
}

func join(engines []firewall.Engine) string {
	out := make([]string, len(engines))
	for i, e := range engines {
		out[i] = string(e)
	}
	return strings.Join(slices.Sorted(slices.Values(out)), ", ")
}

// current is the engine in use.
func (l *Loader) current() (firewall.Loader, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.using == "" {
		return nil, firewall.ErrNotLoaded
	}
	return l.opened[l.using], nil
}

// Change is that of the engine in use.
func (l *Loader) Change(ctx context.Context, add, remove firewall.Elements) error {
	b, err := l.current()
	if err != nil {
		return fmt.Errorf("change ruleset: %w", err)
	}
	return b.Change(ctx, add, remove)
}

// Observe is that of the engine in use.
func (l *Loader) Observe(ctx context.Context) (firewall.Observation, error) {
	b, err := l.current()
	if err != nil {
		return firewall.Observation{}, fmt.Errorf("observe ruleset: %w", err)
	}
	return b.Observe(ctx)
}

// Remove deletes all that is ours, of every engine.
func (l *Loader) Remove(ctx context.Context) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.using = ""
	return l.removeLeft(ctx, "")
}

// Own says whether a transaction that the kernel told of was made by one of the engines: iptables-nft writes nftables too.
func (l *Loader) Own(tx nftables.Transaction) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, b := range l.opened {
		if author, is := b.(interface {
			Own(nftables.Transaction) bool
		}); is && author.Own(tx) {
			return true
		}
	}
	return false
}

// Counters are the drops by ID that the engine in use has counted.
func (l *Loader) Counters(ctx context.Context) (map[string]firewall.Counter, error) {
	b, err := l.current()
	if err != nil {
		return nil, fmt.Errorf("read counters: %w", err)
	}
	return b.(reporter).Counters(ctx)
}

// Foreign is what others have where the engine in use filters. It is reported, never touched.
func (l *Loader) Foreign(ctx context.Context) ([]string, error) {
	b, err := l.current()
	if err != nil {
		return nil, fmt.Errorf("list filters of others: %w", err)
	}
	return b.(reporter).Foreign(ctx)
}
