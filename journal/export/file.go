package export

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"shekara/journal"
	"shekara/netctl/durable"
)

const fileMode = 0o640

// file is a sink that is a file of lines. What send has written is on disk.
type file struct {
	path     string
	log      *durable.Log
	info     os.FileInfo
	position uint64
}

func openFile(path string) (*file, error) {
	log, err := durable.OpenLog(path, fileMode)
	if err != nil {
		return nil, err
	}
	f := &file{path: path, log: log}
	if f.info, err = os.Stat(path); err == nil {
		err = f.cutTorn()
	}
	if err != nil {
		return nil, errors.Join(err, log.Close())
	}
	return f, nil
}

// cutTorn cuts off a line without end, as a power cut leaves it: it is written again.
func (f *file) cutTorn() error {
	in, err := os.Open(f.path)
	if err != nil {
		return err
	}
	defer func() { _ = in.Close() }()
	begin := max(0, f.log.Size()-journal.MaxEventBytes)
	text, err := io.ReadAll(io.NewSectionReader(in, begin, f.log.Size()-begin))
	if err != nil {
		return err
	}
	whole := bytes.LastIndexByte(text, '\n') + 1
	if whole == 0 && begin > 0 {
		return fmt.Errorf("%s does not end in records: it is another's file, or damaged; move it away", f.path)
	}
	if whole == len(text) {
		return nil
	}
	return f.log.Truncate(begin + int64(whole))
}

func (f *file) send(_ context.Context, position uint64, records []record) error {
	if now, err := os.Stat(f.path); err != nil || !os.SameFile(now, f.info) {
		// Somebody rotates it.
		anew, err := openFile(f.path)
		if err != nil {
			return err
		}
		old := f.log
		*f = *anew
		if err := old.Close(); err != nil {
			return err
		}
	}
	var text []byte
	for _, r := range records {
		text = append(append(text, r.line...), '\n')
	}
	if len(text) > 0 {
		if err := f.log.Append(text); err != nil {
			return err
		}
		if err := f.log.Sync(); err != nil {
			return err
		}
	}
	f.position = position
	return nil
}

func (f *file) settled(time.Time) (delivered, held uint64) { return f.position, f.position }

func (f *file) ended() <-chan error { return nil }

func (f *file) close() error { return f.log.Close() }
