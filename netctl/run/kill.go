package run

import "golang.org/x/sys/unix"

// Kill ends the process at once; os.ErrProcessDone if it has ended.
func (p *Process) Kill() error { return p.Signal(unix.SIGKILL) }
