package socket

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"

	"golang.org/x/sys/unix"
)

const maxFiles = 16 // in one message; the kernel's own limit is 253 (SCM_MAX_FD)

// SendFiles sends data, at least one byte, with open files. The receiver gets copies; these may be closed on return.
func SendFiles(conn *net.UnixConn, data []byte, files ...*os.File) error {
	if len(data) == 0 || len(files) > maxFiles {
		return fmt.Errorf("send %d bytes with %d files: want a byte at least and %d files at most", len(data), len(files), maxFiles)
	}
	descriptors := make([]int, 0, len(files))
	defer func() {
		for _, fd := range descriptors {
			unix.Close(fd)
		}
	}()
	for _, file := range files {
		fd, err := duplicate(file)
		if err != nil {
			return fmt.Errorf("send files: %w", err)
		}
		descriptors = append(descriptors, fd)
	}
	n, _, err := conn.WriteMsgUnix(data, unix.UnixRights(descriptors...), nil)
	if err == nil && n < len(data) { // a stream may take a part; the files went with it
		_, err = conn.Write(data[n:])
	}
	if err != nil {
		return fmt.Errorf("send files: %w", err)
	}
	return nil
}

// duplicate does without File.Fd, which makes the file blocking, for the receiver too.
func duplicate(file *os.File) (int, error) {
	raw, err := file.SyscallConn()
	if err != nil {
		return -1, err
	}
	copied := -1
	var failed error
	err = raw.Control(func(fd uintptr) { copied, failed = unix.FcntlInt(fd, unix.F_DUPFD_CLOEXEC, 0) })
	return copied, errors.Join(err, failed)
}

// ReceiveFiles receives into buffer what one SendFiles sent, or a part of it on a stream socket, and the files that came
// along, close-on-exec. It is io.EOF at the end. More than 16 files are an error, and none is left open.
func ReceiveFiles(conn *net.UnixConn, buffer []byte) (n int, files []*os.File, err error) {
	control := make([]byte, unix.CmsgSpace(maxFiles*4))
	n, controlLength, flags, _, err := conn.ReadMsgUnix(buffer, control)
	if err != nil {
		return 0, nil, fmt.Errorf("receive files: %w", err)
	}
	messages, err := unix.ParseSocketControlMessage(control[:controlLength])
	for i := range messages {
		descriptors, parseErr := unix.ParseUnixRights(&messages[i])
		err = errors.Join(err, parseErr)
		for _, fd := range descriptors {
			files = append(files, os.NewFile(uintptr(fd), fmt.Sprintf("received:%d", len(files))))
		}
	}
	if flags&unix.MSG_CTRUNC != 0 {
		err = errors.Join(err, fmt.Errorf("more than %d files", maxFiles))
	}
	if err != nil {
		for _, file := range files {
			file.Close()
		}
		return 0, nil, fmt.Errorf("receive files: %w", err)
	}
	if n == 0 && len(files) == 0 {
		return 0, nil, io.EOF
	}
	return n, files, nil
}
