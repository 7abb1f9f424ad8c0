package durable

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

func TestReserve(t *testing.T) {
	path := filepath.Join(t.TempDir(), "RESERVE")
	held := func() int64 {
		var stat unix.Stat_t
		if err := unix.Stat(path, &stat); err != nil {
			t.Fatal(err)
		}
		if stat.Size != 1<<20 {
			t.Errorf("it has %d bytes", stat.Size)
		}
		return stat.Blocks * 512
	}
	for range 2 { // one that is there is left as it is
		if err := Reserve(path, 1<<20, 1<<16); err != nil {
			t.Fatal(err)
		}
		if got := held(); got < 1<<20 || got > 1<<20+1<<15 {
			t.Errorf("%d bytes are held", got)
		}
	}
	// One whose bytes are not on the disk, as a copy leaves it, is made good.
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(os.Truncate(path, 1<<20), Reserve(path, 1<<20, 0)); err != nil || held() < 1<<20 {
		t.Errorf("%d bytes are held, %v", held(), err)
	}
	// More than any disk has.
	if err := errors.Join(os.Remove(path), Reserve(path, 1<<20, 1<<50)); !Full(err) && !errors.Is(err, unix.EFBIG) {
		t.Errorf("a reserve beside 1 PiB: %v", err)
	}
	if _, err := os.Stat(path); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a reserve that could not be had leaves %v", err)
	}
}

func TestFull(t *testing.T) {
	if err := os.WriteFile("/dev/full", []byte("x"), 0); !Full(err) {
		t.Errorf("a write to /dev/full: %v", err)
	}
	if err := os.WriteFile(t.TempDir(), []byte("x"), 0); err == nil || Full(err) {
		t.Errorf("a write to a folder: %v", err)
	}
}
