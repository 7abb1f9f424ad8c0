package durable

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// Log is a file that only grows. It is not safe for concurrent use, and a file must have one Log at a time (Lock).
type Log struct {
	file  *os.File
	disk  disk
	size  int64
	spoil error // once set, what is on disk is unknown and every call returns it
}

// OpenLog opens path for appending, or makes it, with size the length of what is there. The caller has looked at what is
// there, or will: a crash can leave a torn end, which Truncate removes.
func OpenLog(path string, mode fs.FileMode) (*Log, error) { return disk{}.openLog(path, mode) }

func (d disk) openLog(path string, mode fs.FileMode) (*Log, error) {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_APPEND, mode)
	if err != nil {
		return nil, err
	}
	info, err := f.Stat()
	if err == nil {
		err = d.syncDir(filepath.Dir(path)) // always: it may have been made by one who was killed before this
	}
	if err != nil {
		f.Close()
		return nil, fmt.Errorf("open %s: %w", path, err)
	}
	return &Log{file: f, disk: d, size: info.Size()}, nil
}

// Size is the number of bytes written so far, durable or not.
func (l *Log) Size() int64 { return l.size }

// Append writes data at the end. It is durable only after Sync. On error nothing of data is in the file.
func (l *Log) Append(data []byte) error {
	if l.spoil != nil {
		return l.spoil
	}
	err := l.disk.do("write", func() error { _, err := l.file.Write(data); return err })
	if err == nil {
		l.size += int64(len(data))
		return nil
	}
	err = fmt.Errorf("append to %s: %w", l.file.Name(), err)
	// A full disk takes a part. Cut it off, else the next record would begin in the middle of this one.
	if cut := l.disk.do("truncate", func() error { return l.file.Truncate(l.size) }); cut != nil {
		l.spoil = errors.Join(err, cut)
	}
	return err
}

// Sync makes all that was appended durable (fdatasync, which includes the length). After an error the Log is spoilt: the
// kernel reports a lost page once and then calls it clean, so a second Sync would lie. Open it anew and look.
func (l *Log) Sync() error {
	if l.spoil != nil {
		return l.spoil
	}
	err := l.disk.do("fdatasync", func() error { return unix.Fdatasync(int(l.file.Fd())) })
	if err != nil {
		l.spoil = fmt.Errorf("sync %s: %w", l.file.Name(), err)
	}
	return l.spoil
}

// Truncate cuts the file to its first size bytes and makes that durable.
func (l *Log) Truncate(size int64) error {
	if l.spoil != nil {
		return l.spoil
	}
	if size < 0 || size > l.size {
		return fmt.Errorf("truncate %s to %d bytes: it has %d", l.file.Name(), size, l.size)
	}
	if err := l.disk.do("truncate", func() error { return l.file.Truncate(size) }); err != nil {
		l.spoil = fmt.Errorf("truncate %s: %w", l.file.Name(), err)
		return l.spoil
	}
	l.size = size
	return l.Sync()
}

// Close closes the file without making it durable.
func (l *Log) Close() error { return l.file.Close() }
