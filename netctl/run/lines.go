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

// lineBuffer is what is kept in memory for a line; only while there is a longer one it is more.
const lineBuffer = 64 << 10

// Lines runs a program that goes on, and hands over each line of its standard output, without its end, until the context ends, the program does, or each
// returns an error, which is returned. Of a line that is longer than MaxOutput bytes so many are handed over, and cut says so; it is followed by the next as any other. A line is not to be
// kept; Timeout counts for nothing here. The error is as of Run; nil where the program ended well by itself. The program ends with this process, also if that is killed.
func (c Command) Lines(ctx context.Context, each func(line []byte, cut bool) error) error {
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
	refused := eachLine(bufio.NewReaderSize(stdout, lineBuffer), most, each)
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

func eachLine(from *bufio.Reader, most int, each func(line []byte, cut bool) error) error {
	var line []byte
	cut := false
	for {
		part, err := from.ReadSlice('\n')
		if err == nil {
			part = part[:len(part)-1]
		}
		if room := most - len(line); len(part) > room {
			part, cut = part[:room], true
		}
		line = append(line, part...)
		switch {
		case errors.Is(err, bufio.ErrBufferFull):
			continue
		case errors.Is(err, io.EOF):
			return nil // a line that has no end was not said
		case err != nil:
			return err
		}
		if err := each(line, cut); err != nil {
			return err
		}
		if line, cut = line[:0], false; cap(line) > lineBuffer {
			line = nil
		}
	}
}
