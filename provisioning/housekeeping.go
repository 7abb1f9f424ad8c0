package provisioning

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
)

// tidy keeps the store quick to start from and bounded: it writes a snapshot when the chain of deltas has grown long, and removes
// revisions that have fallen out of the history. It runs beside everything else: files of revisions never change.
func (s *store) tidy() error {
	current := s.now().Current
	chain, err := s.chain(current)
	if err != nil {
		return err
	}
	if heavy, err := s.heavy(chain); err != nil {
		return err
	} else if heavy {
		if err := s.writeSnapshot(current); err != nil {
			return fmt.Errorf("write snapshot of revision %d: %w", current, err)
		}
	}
	return s.prune(keptRevisions)
}

// heavy reports whether reading the chain costs clearly more than reading a snapshot: by the number of files, or by their bytes.
func (s *store) heavy(chain []string) (bool, error) {
	if len(chain) < 2 {
		return false, nil
	}
	var deltas, base int64
	for i, name := range chain {
		info, err := os.Stat(s.path(name))
		if err != nil {
			return false, err
		}
		if i < len(chain)-1 {
			deltas += info.Size()
		} else {
			base = info.Size()
		}
	}
	const notWorthIt = 256 << 10
	return len(chain) > chainLength || deltas > base && deltas > notWorthIt, nil
}

func (s *store) writeSnapshot(id int) error {
	revision, err := s.get(id)
	if err != nil {
		return err
	}
	set, err := s.documents(id)
	if err != nil {
		return err
	}
	var text bytes.Buffer
	encoder := json.NewEncoder(&text)
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(revision); err != nil {
		return err
	}
	for _, k := range sortedKeys(set) {
		if err := encoder.Encode(line{Kind: k.kind, Name: k.name, YAML: set[k]}); err != nil {
			return err
		}
	}
	return s.disk.WriteFile(s.path(snapshotName(id)), seal(&text))
}

// prune removes the files of all but the newest revisions, the one in force, the last confirmed, and those that these are read from.
func (s *store) prune(keep int) error {
	s.mu.Lock()
	p := s.pointers
	var ids []int
	for _, r := range s.history {
		ids = append(ids, r.ID)
	}
	s.mu.Unlock()
	if len(ids) <= keep {
		return nil
	}
	needed := map[string]bool{}
	wanted := append(slices.Clone(ids[len(ids)-keep:]), p.Current, p.Confirmed)
	for _, id := range wanted {
		chain, err := s.chain(id)
		if err != nil {
			return err
		}
		for _, name := range chain {
			needed[name] = true
			needed[strings.TrimSuffix(name, ".snapshot")+".delta"] = true // the line about the revision
		}
		needed[deltaName(id)] = true
	}
	var gone []int
	for _, id := range ids {
		if !needed[deltaName(id)] {
			gone = append(gone, id)
		}
	}
	return errors.Join(s.forget(gone), s.removeSnapshots(needed))
}

// forget takes revisions out of the history before their files go: nobody can ask for a revision that is half removed.
func (s *store) forget(ids []int) error {
	s.mu.Lock()
	s.history = slices.DeleteFunc(s.history, func(r Revision) bool { return slices.Contains(ids, r.ID) })
	s.mu.Unlock()
	var errs []error
	for _, id := range ids {
		errs = append(errs, s.disk.Remove(s.path(snapshotName(id))), s.disk.Remove(s.path(deltaName(id))))
	}
	return errors.Join(errs...)
}

func (s *store) removeSnapshots(needed map[string]bool) error {
	entries, err := os.ReadDir(s.dir)
	if err != nil {
		return err
	}
	var errs []error
	for _, entry := range entries {
		digits, is := strings.CutSuffix(entry.Name(), ".snapshot")
		id, err := strconv.Atoi(digits)
		if is && err == nil && !needed[entry.Name()] && !needed[deltaName(id)] {
			errs = append(errs, s.disk.Remove(s.path(entry.Name())))
		}
	}
	return errors.Join(errs...)
}

func sortedKeys(set map[key]string) []key {
	keys := make([]key, 0, len(set))
	for k := range set {
		keys = append(keys, k)
	}
	slices.SortFunc(keys, func(a, b key) int { return cmp.Or(cmp.Compare(a.kind, b.kind), cmp.Compare(a.name, b.name)) })
	return keys
}

// compareSets gives the changes that make before into after, in order of kind and name.
func compareSets(before, after map[key]string) []Change {
	changes := []Change{}
	for _, k := range sortedKeys(before) {
		text, kept := after[k]
		switch {
		case !kept:
			changes = append(changes, Change{Verb: verbRemove, Kind: k.kind, Name: k.name, Before: before[k]})
		case text != before[k]:
			changes = append(changes, Change{Verb: verbChange, Kind: k.kind, Name: k.name, Before: before[k], After: text})
		}
	}
	for _, k := range sortedKeys(after) {
		if _, had := before[k]; !had {
			changes = append(changes, Change{Verb: verbAdd, Kind: k.kind, Name: k.name, After: after[k]})
		}
	}
	slices.SortStableFunc(changes, func(a, b Change) int { return cmp.Or(cmp.Compare(a.Kind, b.Kind), cmp.Compare(a.Name, b.Name)) })
	return changes
}
