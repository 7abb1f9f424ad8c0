package socket

import (
	"errors"

	"golang.org/x/sys/unix"
)

// Unserved reports whether an error of connecting to a unix socket says that nobody listens: there is no such file, or its process has ended.
func Unserved(err error) bool {
	return errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ECONNREFUSED)
}
