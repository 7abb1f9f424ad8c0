package durable

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"strconv"

	"golang.org/x/sys/unix"
)

// Lock is held by one process at a time and let go by the kernel when that process ends, however it ends.
type Lock struct{ file *os.File }

// HeldError says that another process, or another part of this one, has the lock.
type HeldError struct {
	Path string
	PID  int // 0: not known
}

func (e *HeldError) Error() string {
	if e.PID == 0 {
		return fmt.Sprintf("lock %s: held by another process", e.Path)
	}
	return fmt.Sprintf("lock %s: held by process %d", e.Path, e.PID)
}

// AcquireLock takes the lock at path (made with mode 0600, and left there: removing it would let two hold it), or
// returns a *HeldError at once.
func AcquireLock(path string) (*Lock, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if errors.Is(err, unix.EROFS) {
		f, err = os.Open(path) // a lock is no writing
	}
	if err != nil {
		return nil, err
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		defer f.Close()
		if !errors.Is(err, unix.EWOULDBLOCK) {
			return nil, fmt.Errorf("lock %s: %w", path, err)
		}
		held := &HeldError{Path: path}
		text := make([]byte, 20)
		if n, err := f.ReadAt(text, 0); n > 0 && (err == nil || n < len(text)) {
			held.PID, _ = strconv.Atoi(string(bytes.TrimSpace(text[:n]))) // a holder that is just writing: 0
		}
		return nil, held
	}
	// The number only helps whom we keep out: on a disk that is full or read-only the lock holds without it.
	if err := f.Truncate(0); err == nil {
		_, _ = fmt.Fprintf(f, "%d\n", os.Getpid())
	}
	return &Lock{f}, nil
}

// Release lets the lock go.
func (l *Lock) Release() error {
	_ = l.file.Truncate(0) // only so that nobody reads an old process ID
	return l.file.Close()
}
