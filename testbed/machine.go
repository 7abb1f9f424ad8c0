package testbed

import (
	"context"
	"flag"
	"fmt"
	"io"
	"os/exec"
	"path/filepath"
	"time"

	"shekara/testbed/vm"
)

// boot runs a command in a virtual machine with a clock of its own, on the network of the host that it is called on. The output and the exit
// status are the command's. On a host of a scenario, which has no way out, the kernel must have been fetched before.
func boot(ctx context.Context, args []string, stdout io.Writer) (exit int, err error) {
	flags := flag.NewFlagSet("machine", flag.ContinueOnError)
	flags.SetOutput(io.Discard)
	folder := flags.String("machines", "", "")
	tap := flags.String("tap", "", "")
	disk := flags.String("disk", "", "")
	clock := flags.String("clock", "", "")
	timeout := flags.Duration("timeout", 2*time.Minute, "")
	if err := flags.Parse(args); err != nil || flags.NArg() == 0 || *folder == "" {
		return 0, flag.ErrHelp
	}
	c := vm.Config{Argv: flags.Args(), TAP: *tap, Disk: *disk, Timeout: *timeout, Output: stdout, MemoryMiB: 512, CPUs: 1}
	if *clock != "" {
		if c.Clock, err = time.Parse(time.RFC3339, *clock); err != nil {
			return 0, fmt.Errorf("--clock: %w", err)
		}
	}
	if c.Argv[0], err = exec.LookPath(c.Argv[0]); err != nil {
		return 0, err
	}
	if c.Kernel, err = vm.FetchKernel(ctx, *folder); err != nil {
		return 0, err
	}
	return vm.Run(ctx, c)
}

// fetchMachines fetches what the scenario's machines need, while there is a way out.
func (e *engine) fetchMachines(ctx context.Context) error {
	if e.scenario.Machines == nil {
		return nil
	}
	folder, err := filepath.Abs(e.machines)
	if err != nil {
		return err
	}
	if _, err := vm.FetchKernel(ctx, folder); err != nil {
		return err
	}
	for _, name := range e.scenario.Machines.Packages {
		if err := vm.Unpack(ctx, filepath.Join(folder, name), name, nil); err != nil {
			return err
		}
	}
	e.set("machines", folder)
	return nil
}
