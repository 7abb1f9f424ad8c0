package accounting

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"shekara/netctl/durable"
)

// maxEnds is how many bytes of ends may be written before all is written anew.
const maxEnds = 16 << 20

// Store is the two files of a ledger. It belongs to one goroutine.
type Store struct {
	totals, living string // paths; living "": none
	boot           string
	log            *durable.Log // of ends, behind what lives; nil: nothing of that is written
	logged         int          // bytes
	buffer         []byte
	saved          uint64 // version of the ledger that is in totals
}

// Open reads what was counted until now. Boot is the machine's present one: what was counted of connections that lived counts only in the boot
// that they lived in. A file that cannot be read is set aside, and in the error: the ledger is there all the same, without what it had.
func Open(stateDir, runDir, boot string, most int) (*Ledger, *Store, error) {
	s := &Store{totals: filepath.Join(stateDir, "flow-totals"), boot: boot}
	if runDir != "" {
		s.living = filepath.Join(runDir, "flow-connections")
	}
	totals, err := read(s.totals)
	living, err2 := read(s.living)
	l := NewLedger(most)
	switch {
	case living != nil && living.boot == boot:
		l.restore(living)
	case living != nil && (totals == nil || totals.written.Before(living.written)):
		l.restore(living)
		l.forget() // they went with the boot
	case totals != nil:
		l.restore(totals)
		l.baseline = totals.boot == boot
	}
	l.keepEnds = s.living != ""
	return l, s, errors.Join(err, err2)
}

// read answers nil if there is no such file.
func read(path string) (*saved, error) {
	if path == "" {
		return nil, nil
	}
	data, err := durable.ReadFile(path, MaxFile)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	var s *saved
	if err == nil {
		s, err = decode(data)
	}
	if err != nil {
		err = fmt.Errorf("read what flows carried: %s: %w; it is kept as %s.damaged", path, err, path)
		return nil, errors.Join(err, os.Rename(path, path+".damaged"))
	}
	return s, nil
}

func (l *Ledger) restore(s *saved) {
	l.figures.Missed, l.figures.Unattributed = s.missed, s.unattributed
	places := make([]uint32, len(s.flows))
	for i, f := range s.flows {
		places[i] = l.flow(f.Name)
		l.flows[places[i]].Totals = f.Totals
	}
	for _, c := range s.connections {
		if _, twice := l.live[c.key]; !twice && len(l.live) < l.most {
			l.live[c.key] = connection{to: c.to, back: c.back, flow: places[c.flow]}
			l.flows[places[c.flow]].held++
		}
	}
	for _, e := range s.ends {
		l.end(e)
	}
}

// forget lets go of all connections. What they carried stays.
func (l *Ledger) forget() {
	clear(l.live)
	for _, f := range l.flows {
		f.held = 0
	}
}

// SaveLiving writes everything for a daemon that is killed: after a look, or when Append says that it is time.
func (s *Store) SaveLiving(l *Ledger) error {
	if s.living == "" {
		return nil
	}
	if s.log != nil {
		_ = s.log.Close() // what it wrote to is replaced
		s.log = nil
	}
	s.buffer = l.encode(s.buffer[:0], s.boot, true)
	l.takeEnds(nil) // they are in it
	err := durable.WriteFile(s.living, s.buffer, 0o600)
	if err == nil {
		s.log, err = durable.OpenLog(s.living, 0o600)
	}
	s.logged = 0
	if err != nil { // of what is there nobody knows how old it is
		err = errors.Join(err, durable.Remove(s.living))
	}
	return err
}

// Append writes what ended since, so that it is not lost with the daemon. full says that all should be written anew.
func (s *Store) Append(l *Ledger) (full bool, err error) {
	if s.living == "" {
		return false, nil
	}
	s.buffer = l.takeEnds(frame(s.buffer[:0], 'e'))
	if len(s.buffer) == frameHead+1 {
		return false, nil
	}
	if s.log == nil {
		return true, nil // the next SaveLiving has it
	}
	s.logged += len(s.buffer)
	return s.logged > maxEnds, s.log.Append(seal(s.buffer, 0))
}

// takeEnds hands over the ends that were not written yet.
func (l *Ledger) takeEnds(out []byte) []byte {
	l.mu.Lock()
	defer l.mu.Unlock()
	out = append(out, l.ends...)
	if l.ends = l.ends[:0]; cap(l.ends) > frameBytes {
		l.ends = nil
	}
	return out
}

// SaveTotals writes the totals durably, if they have changed. It may run beside the others.
func (s *Store) SaveTotals(l *Ledger) error {
	l.mu.Lock()
	version := l.version
	l.mu.Unlock()
	if version == s.saved {
		return nil
	}
	err := durable.WriteFile(s.totals, l.encode(nil, s.boot, false), 0o600)
	if err == nil {
		s.saved = version
	}
	return err
}

// Close closes the files without writing to them.
func (s *Store) Close() error {
	if s.log == nil {
		return nil
	}
	return s.log.Close()
}
