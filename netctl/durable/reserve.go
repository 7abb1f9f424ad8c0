package durable

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// Full says that an error is a disk, or a quota, without room.
func Full(err error) bool { return errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.EDQUOT) }

// Unreadable says that an error is a disk, or a file system on it, that has lost what is asked for: it cannot be read, its checksum is wrong, or its structure is.
func Unreadable(err error) bool {
	return errors.Is(err, unix.EIO) || errors.Is(err, unix.EBADMSG) || errors.Is(err, unix.EUCLEAN)
}

// Free is how many bytes of the file system that a path is on a process without privilege can still take.
func Free(path string) (int64, error) {
	var stat unix.Statfs_t
	if err := unix.Statfs(path, &stat); err != nil {
		return 0, fmt.Errorf("ask for the room beside %s: %w", path, err)
	}
	return int64(stat.Bavail) * stat.Bsize, nil
}

// Reserve keeps size bytes of the file system in a file at path, for when there is no room any more: Remove gives them back. It takes none
// unless there are beside bytes more, so that a reserve that was given back is not taken again out of the very last room. One that is there is left as it is.
func Reserve(path string, size, beside int64) error {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return fmt.Errorf("reserve %d bytes: %w", size, err)
	}
	var stat unix.Stat_t
	if unix.Fstat(int(f.Fd()), &stat) == nil && stat.Size == size && stat.Blocks*512 >= size {
		return f.Close()
	}
	err = allocate(f, size+beside)
	if err == nil {
		err = f.Truncate(size)
	}
	if err == nil {
		err = f.Sync()
	}
	err = errors.Join(err, f.Close())
	if err != nil {
		return errors.Join(fmt.Errorf("reserve %d bytes in %s: %w", size, path, err), os.Remove(path))
	}
	return nil
}

// allocate gives a file its blocks. Where the file system cannot do it by itself they are written.
func allocate(f *os.File, size int64) error {
	err := unix.Fallocate(int(f.Fd()), 0, 0, size)
	if !errors.Is(err, unix.EOPNOTSUPP) && !errors.Is(err, unix.ENOSYS) {
		return err
	}
	zeros := make([]byte, 64<<10)
	for at := int64(0); at < size; at += int64(len(zeros)) {
		if _, err := f.WriteAt(zeros[:min(int64(len(zeros)), size-at)], at); err != nil {
			return err
		}
	}
	return nil
}
