package run

import (
	"bufio"
	"context"
	"errors"
	"io"
	"runtime"
	"strings"

	"golang.org/x/sys/unix"

	"shekara/netctl"
)

// Lines runs a program that goes on, and hands over each line of its standard output, without its end, until the context ends, the program does, or each
// returns an error, which is returned. A line is not to be kept, and has MaxOutput bytes at most; Timeout counts for nothing here. The error is as of Run; nil where
// the program ended well by itself. The program ends with this process, also if that is killed.
func (c Command) Lines(ctx context.Context, each func(line []byte) error) error {
	path, err := find(c.Argv)
	if err != nil {
		return err
	}
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	most := c.MaxOutput
	if most == 0 {
		most = defaultMaxOutput
	}
	stderr := &tail{}
	command := c.prepare(ctx, path, stderr)
	// The kernel sends it when the thread that started the program ends, so that has to stay.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	command.SysProcAttr.Pdeathsig = unix.SIGKILL
	stdout, err := command.StdoutPipe()
	if err == nil {
		err = command.Start()
	}
	if err != nil {
		return &netctl.Error{Op: "run " + c.Argv[0], Object: strings.Join(c.Argv[1:], " "), Err: err}
	}
	if c.Started != nil {
		c.Started(command.Process.Pid)
	}
	unhook := context.AfterFunc(ctx, func() { _ = stdout.Close() }) // a grandchild may hold its other end
	defer unhook()
	refused := eachLine(bufio.NewReaderSize(stdout, most+1), each)
	cause := ctx.Err()
	if refused != nil {
		stop()
	}
	err = command.Wait()
	switch {
	case cause != nil:
		err = cause
	case refused != nil:
		err = refused
	}
	if err == nil {
		return nil
	}
	return &netctl.Error{Op: "run " + c.Argv[0], Object: strings.Join(c.Argv[1:], " "), Err: err, Detail: stderr.text()}
}

func eachLine(from *bufio.Reader, each func([]byte) error) error {
	for {
		line, err := from.ReadSlice('\n')
		switch {
		case errors.Is(err, bufio.ErrBufferFull):
			return ErrOutputTooLong
		case errors.Is(err, io.EOF):
			return nil // a line that has no end was not said
		case err != nil:
			return err
		}
		if err := each(line[:len(line)-1]); err != nil {
			return err
		}
	}
}
