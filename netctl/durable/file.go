package durable

// WriteFile, in system calls:
//
//	openat(dir, ".NAME.N.tmp", O_CREAT|O_EXCL)  fchmod  write  fsync  close
//	renameat(".NAME.N.tmp", "NAME")             now every process sees the new content
//	fsync(dir)                                  now a power cut leaves the new content
//
// CreateFile is the same with linkat and unlinkat for renameat, so that it fails if NAME is there.
//
// BUG: after an error at the last step the new content is visible though perhaps not durable: a caller must treat the
// change as undecided and read again. A disk that lies about having flushed its cache cannot be made durable, nor can a
// file system mounted without barriers; on network file systems rename and fsync promise less.

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// ErrTooLarge is in the error of ReadFile for a file above its limit.
var ErrTooLarge = errors.New("file is larger than allowed")

// disk makes each system call of a commit through step, which tests replace to fail it. The zero disk just makes them.
type disk struct {
	step func(name string, do func() error) error
}

func (d disk) do(name string, do func() error) error {
	if d.step == nil {
		return do()
	}
	return d.step(name, do)
}

// WriteFile makes path hold data, replacing what is there. On return without error that is durable; on error path holds
// the old content or the new, whole.
func WriteFile(path string, data []byte, mode fs.FileMode) error {
	return disk{}.writeFile(path, data, mode, true)
}

// CreateFile is WriteFile for a file that must not be there yet: else its error is fs.ErrExist.
func CreateFile(path string, data []byte, mode fs.FileMode) error {
	return disk{}.writeFile(path, data, mode, false)
}

func (d disk) writeFile(path string, data []byte, mode fs.FileMode, replace bool) error {
	temporary, err := d.writeTemporary(path, data, mode)
	if err == nil && replace {
		err = d.do("rename", func() error { return os.Rename(temporary, path) })
	}
	if err == nil && !replace {
		err = d.do("link", func() error { return os.Link(temporary, path) })
		if err == nil {
			err = d.do("unlink", func() error { return os.Remove(temporary) })
		}
	}
	if err != nil {
		if temporary != "" {
			_ = os.Remove(temporary) // gone already where rename failed but persisted
		}
		return fmt.Errorf("write %s: %w", path, err)
	}
	if err := d.syncDir(filepath.Dir(path)); err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	return nil
}

func (d disk) writeTemporary(path string, data []byte, mode fs.FileMode) (name string, err error) {
	var f *os.File
	err = d.do("create", func() (err error) {
		f, err = os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+".*.tmp")
		return err
	})
	if f == nil {
		return "", err
	}
	if err == nil {
		err = d.do("chmod", func() error { return f.Chmod(mode) })
	}
	if err == nil {
		err = d.do("write", func() error { _, err := f.Write(data); return err })
	}
	if err == nil {
		err = d.do("fsync", f.Sync)
	}
	closed := d.do("close", f.Close)
	return f.Name(), errors.Join(err, closed)
}

// RemoveTemporary removes from dir the temporary files of writers that were killed. Call it while none is writing there.
func RemoveTemporary(dir string) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, entry := range entries {
		name := entry.Name()
		if strings.HasPrefix(name, ".") && strings.HasSuffix(name, ".tmp") && entry.Type().IsRegular() {
			if err := os.Remove(filepath.Join(dir, name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
				return err
			}
		}
	}
	return nil
}

// Remove removes a file or an empty folder. That it is gone is durable on return without error; so it is if it was gone before.
func Remove(path string) error { return disk{}.remove(path) }

func (d disk) remove(path string) error {
	err := d.do("unlink", func() error { return os.Remove(path) })
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("remove %s: %w", path, err)
	}
	if err := d.syncDir(filepath.Dir(path)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("remove %s: %w", path, err)
	}
	return nil
}

// Rename moves a file or a folder within one file system, replacing a file or an empty folder that has the new name.
func Rename(from, to string) error { return disk{}.rename(from, to) }

func (d disk) rename(from, to string) error {
	err := d.do("rename", func() error { return os.Rename(from, to) })
	if err == nil {
		err = d.syncDir(filepath.Dir(to))
	}
	if err == nil && filepath.Dir(from) != filepath.Dir(to) {
		err = d.syncDir(filepath.Dir(from))
	}
	if err != nil {
		return fmt.Errorf("rename %s to %s: %w", from, to, err)
	}
	return nil
}

// MkdirAll makes a folder and its missing parents, each made durable in its parent. Folders that are there are left as they are.
func MkdirAll(path string, mode fs.FileMode) error { return disk{}.mkdirAll(path, mode) }

func (d disk) mkdirAll(path string, mode fs.FileMode) error {
	if info, err := os.Stat(path); err == nil {
		if !info.IsDir() {
			return fmt.Errorf("make folder %s: %w", path, fs.ErrExist)
		}
		return nil
	}
	parent := filepath.Dir(path)
	if parent != path {
		if err := d.mkdirAll(parent, mode); err != nil {
			return err
		}
	}
	err := d.do("mkdir", func() error { return os.Mkdir(path, mode) })
	if err != nil && !errors.Is(err, fs.ErrExist) { // another process may have been faster
		return fmt.Errorf("make folder %s: %w", path, err)
	}
	if err := d.syncDir(parent); err != nil {
		return fmt.Errorf("make folder %s: %w", path, err)
	}
	return nil
}

// ReadFile reads a regular file of at most limit bytes.
func ReadFile(path string, limit int64) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("read %s: not a regular file", path)
	}
	data, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err != nil {
		return nil, err
	}
	if int64(len(data)) > limit {
		return nil, fmt.Errorf("read %s: %w (%d bytes)", path, ErrTooLarge, limit)
	}
	return data, nil
}

func (d disk) syncDir(dir string) error {
	return d.do("fsync folder", func() error {
		f, err := os.Open(dir)
		if err != nil {
			return err
		}
		return errors.Join(f.Sync(), f.Close())
	})
}
