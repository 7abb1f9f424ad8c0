package nfttest

import (
	"context"
	"fmt"
	"io/fs"
	"slices"
	"sync"

	"shekara/firewall"
)

// Fake is a Loader whose table is in memory. Like the kernel it changes all or nothing, knows its sets, and refuses to delete
// what is not there. The zero value has no table.
type Fake struct {
	mu       sync.Mutex
	present  bool
	table    firewall.Ruleset // what "the kernel" holds
	loaded   *firewall.Ruleset
	broken   error
	loads    int
	changes  int
	tampered bool // somebody was there since the last look
}

// Break lets every call fail with err, until it is called with nil. Nothing changes meanwhile.
func (f *Fake) Break(err error) { f.mu.Lock(); defer f.mu.Unlock(); f.broken = err }

// Tamper does what an administrator does by hand: it adds an element, or removes it if it is there.
func (f *Fake) Tamper(set, element string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	add, remove := firewall.Elements{set: {element}}, firewall.Elements{}
	if slices.Contains(f.table.Elements[set], element) {
		add, remove = remove, add
	}
	f.table.Elements, f.tampered = changed(f.table.Elements, add, remove), true
}

// Vanish deletes the table behind the Loader's back.
func (f *Fake) Vanish() { f.mu.Lock(); defer f.mu.Unlock(); f.present, f.tampered = false, true }

// Restart forgets what was loaded, as a new process does. The table stays.
func (f *Fake) Restart() { f.mu.Lock(); defer f.mu.Unlock(); f.loaded = nil }

// Table is what the table holds now, and whether there is one.
func (f *Fake) Table() (firewall.Ruleset, bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.table.With(firewall.Union(f.table.Elements)), f.present
}

// Calls is how often Load and Change succeeded in changing something.
func (f *Fake) Calls() (loads, changes int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.loads, f.changes
}

// Load is nft.Loader.Load.
func (f *Fake) Load(ctx context.Context, r firewall.Ruleset) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	err := f.ready(ctx)
	if err == nil {
		err = r.Elements.Check()
	}
	if err == nil {
		_, err = r.Text(1)
	}
	if err != nil {
		return fmt.Errorf("load ruleset: %w", err)
	}
	f.table = r.With(firewall.Union(r.Elements))
	f.present, f.tampered = true, false
	f.loads++
	f.know()
	return nil
}

func (f *Fake) ready(ctx context.Context) error {
	if f.broken != nil {
		return f.broken
	}
	return ctx.Err()
}

func (f *Fake) know() {
	known := f.table.With(firewall.Union(f.table.Elements))
	f.loaded = &known
}

// Change is nft.Loader.Change.
func (f *Fake) Change(ctx context.Context, add, remove firewall.Elements) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if err := f.ready(ctx); err != nil {
		return fmt.Errorf("change ruleset: %w", err)
	}
	if f.loaded == nil {
		return fmt.Errorf("change ruleset: %w", firewall.ErrNotLoaded)
	}
	if err := add.Check(); err != nil {
		return fmt.Errorf("change ruleset: %w", err)
	}
	for _, have := range []firewall.Elements{f.loaded.Elements, f.table.Elements} {
		missing, _ := firewall.Union(have).Diff(firewall.Union(have, remove))
		for _, set := range missing.Sets() {
			return fmt.Errorf("change ruleset: remove element %s of set %s: %w", missing[set][0], set, fs.ErrNotExist)
		}
	}
	if add.Count()+remove.Count() == 0 {
		return nil
	}
	if !f.present {
		return fmt.Errorf("change ruleset: table %s: %w", firewall.Table, fs.ErrNotExist)
	}
	next := changed(f.table.Elements, add, remove)
	if _, err := f.table.With(next).Text(1); err != nil {
		return fmt.Errorf("change ruleset: %w", err)
	}
	f.table.Elements, f.loaded.Elements = next, changed(f.loaded.Elements, add, remove)
	f.changes++
	return nil
}

func changed(have, add, remove firewall.Elements) firewall.Elements {
	kept, gone := firewall.Elements{}, firewall.Union(remove)
	for set, list := range firewall.Union(have, add) {
		for _, element := range list {
			if _, out := slices.BinarySearch(gone[set], element); !out {
				kept[set] = append(kept[set], element)
			}
		}
	}
	return kept
}

// Observe is nft.Loader.Observe.
func (f *Fake) Observe(ctx context.Context) (firewall.Observation, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if err := f.ready(ctx); err != nil {
		return firewall.Observation{}, fmt.Errorf("observe ruleset: %w", err)
	}
	if f.loaded == nil {
		return firewall.Observation{}, fmt.Errorf("observe ruleset: %w", firewall.ErrNotLoaded)
	}
	if !f.tampered {
		return firewall.Observation{Present: true}, nil
	}
	drift := f.compare(*f.loaded)
	f.tampered = len(drift) > 0
	return firewall.Observation{Present: f.present, Drift: drift, Looked: true}, nil
}

// Matches is nft.Loader.Matches.
func (f *Fake) Matches(ctx context.Context, r firewall.Ruleset) ([]string, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if err := f.ready(ctx); err != nil {
		return nil, fmt.Errorf("compare ruleset: %w", err)
	}
	drift := f.compare(r)
	if len(drift) == 0 {
		f.know()
	}
	return drift, nil
}

func (f *Fake) compare(want firewall.Ruleset) []string {
	if !f.present {
		return []string{"table " + firewall.Table + " missing"}
	}
	var drift []string
	if f.table.Base != want.Base {
		drift = append(drift, "table "+firewall.Table+" is not the base that was asked for")
	}
	missing, added := f.table.Elements.Diff(firewall.Union(want.Elements))
	for _, set := range missing.Sets() {
		for _, element := range missing[set] {
			drift = append(drift, fmt.Sprintf("set %s: element %s missing", set, element))
		}
	}
	for _, set := range added.Sets() {
		for _, element := range added[set] {
			drift = append(drift, fmt.Sprintf("set %s: element %s added", set, element))
		}
	}
	return drift
}

// Remove is nft.Loader.Remove.
func (f *Fake) Remove(ctx context.Context) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if err := f.ready(ctx); err != nil {
		return fmt.Errorf("remove ruleset: %w", err)
	}
	f.present, f.table, f.loaded, f.tampered = false, firewall.Ruleset{}, nil, true
	return nil
}

// Counters is nft.Loader.Counters: no packet ever comes here.
func (f *Fake) Counters(context.Context) (map[string]firewall.Counter, error) {
	return map[string]firewall.Counter{}, nil
}

// Foreign is nft.Loader.Foreign: there is nobody else.
func (f *Fake) Foreign(context.Context) ([]string, error) { return nil, nil }
