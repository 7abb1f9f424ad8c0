package run

import "golang.org/x/sys/unix"

// Terminate asks the process to end; os.ErrProcessDone if it has ended.
func (p *Process) Terminate() error { return p.Signal(unix.SIGTERM) }

// Kill ends the process at once; os.ErrProcessDone if it has ended.
func (p *Process) Kill() error { return p.Signal(unix.SIGKILL) }
