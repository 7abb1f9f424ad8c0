package nstest

import (
	"context"
	"os"
	"os/exec"
	"regexp"
	"testing"
	"time"

	"shekara/netctl/probe"
	"shekara/netctl/probe/probetest"
)

// pidsPatience bounds a whole test that runs once more; it fails one that hangs and measures nothing.
const pidsPatience = 5 * time.Minute

// WithOwnPIDs runs a top-level test as it is, and then once more in a PID namespace of its own, as in a container.
func WithOwnPIDs(t *testing.T, test func(t *testing.T)) {
	if os.Getpid() == 1 { // the first process of its PID namespace: this is the second run
		test(t)
		return
	}
	name := t.Name()
	t.Run("same PIDs", test)
	t.Run("own PIDs", func(t *testing.T) {
		probetest.Need(t, probe.Root, probe.Namespaces, probe.Tool("unshare"))
		ctx, cancel := context.WithTimeout(t.Context(), pidsPatience)
		defer cancel()
		program, err := os.Executable()
		if err != nil {
			t.Fatal(err)
		}
		argv := []string{"--pid", "--fork", "--kill-child", "--mount-proc", program, "-test.v", "-test.run=^" + regexp.QuoteMeta(name) + "$"}
		if testing.Short() {
			argv = append(argv, "-test.short")
		}
		command := exec.CommandContext(ctx, "unshare", argv...)
		if out, err := command.CombinedOutput(); err != nil {
			t.Errorf("%v\n%s", err, out)
		}
	})
}
