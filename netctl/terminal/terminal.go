package terminal

import (
	"os"

	"golang.org/x/sys/unix"
)

// Size is the number of columns and rows, and whether the stream is a terminal at all. A terminal that does not know its size
// (a serial console) has 80 by 24. Streams that are no *os.File are no terminals.
func Size(stream any) (columns, rows int, terminal bool) {
	file, ok := stream.(*os.File)
	if !ok {
		return 0, 0, false
	}
	raw, err := file.SyscallConn()
	if err != nil {
		return 0, 0, false
	}
	controlErr := raw.Control(func(descriptor uintptr) {
		var size *unix.Winsize
		if size, err = unix.IoctlGetWinsize(int(descriptor), unix.TIOCGWINSZ); err == nil {
			columns, rows = int(size.Col), int(size.Row)
		}
	})
	if controlErr != nil || err != nil {
		return 0, 0, false
	}
	if columns == 0 {
		columns = 80
	}
	if rows == 0 {
		rows = 24
	}
	return columns, rows, true
}
