package systemd

import (
	"context"
	"fmt"
	"net"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/coreos/go-systemd/v22/activation"
	"github.com/coreos/go-systemd/v22/daemon"
)

// Manager is the service manager that started this process, if one did: it is found by the environment at each call.
type Manager struct{}

// Managed reports whether systemd started this process as a unit: systemd.exec(5) sets INVOCATION_ID for each. NOTIFY_SOCKET says only
// that somebody listens, which a test bench may do too.
func (Manager) Managed() bool {
	return os.Getenv("INVOCATION_ID") != "" && os.Getenv("NOTIFY_SOCKET") != ""
}

// Ready says that start or reload is finished.
func (Manager) Ready() error { return notify(daemon.SdNotifyReady) }

// Reloading says that a reload began; Ready ends it.
func (Manager) Reloading() error {
	return notify(daemon.SdNotifyReloading + "\n" + strings.TrimSpace(daemon.SdNotifyMonotonicUsec()))
}

// Stopping says that the end began.
func (Manager) Stopping() error { return notify(daemon.SdNotifyStopping) }

// Status shows one line in systemctl status.
func (Manager) Status(text string) error {
	return notify("STATUS=" + strings.ReplaceAll(text, "\n", " ")) // a line break would begin another assignment
}

// Main says which process is the service from now on.
func (Manager) Main(pid int) error { return notify("MAINPID=" + strconv.Itoa(pid)) }

func notify(state string) error {
	if _, err := daemon.SdNotify(false, strings.TrimSpace(state)); err != nil {
		return fmt.Errorf("notify systemd: %w", err)
	}
	return nil
}

// Watchdog tells systemd that the process lives, twice in the interval that the unit asks for (WatchdogSec=), as long as
// alive says so; systemd kills and restarts it otherwise. It returns when ctx ends. Without a watchdog it only waits.
func (Manager) Watchdog(ctx context.Context, alive func() bool) {
	interval, err := daemon.SdWatchdogEnabled(false)
	if err != nil || interval <= 0 { // a malformed interval is systemd's fault; it would kill us for silence, visibly
		<-ctx.Done()
		return
	}
	watch(ctx, interval/2, alive, func() error { return notify(daemon.SdNotifyWatchdog) })
}

// watch loses no ping to an error: the next one comes in time.
func watch(ctx context.Context, every time.Duration, alive func() bool, ping func() error) {
	ticker := time.NewTicker(every)
	defer ticker.Stop()
	for {
		if alive() {
			_ = ping() // systemd is gone or busy; the next may reach it
		}
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
	}
}

// Listeners returns the sockets that systemd opened for this process, by the names that their unit gives them
// (FileDescriptorName=); none without socket activation. It can be called once: the environment is cleared.
func (Manager) Listeners() (map[string][]net.Listener, error) {
	listeners, err := activation.ListenersWithNames()
	if err != nil {
		return nil, fmt.Errorf("take sockets from systemd: %w", err)
	}
	return listeners, nil
}
