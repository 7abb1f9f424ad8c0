package provisioning

import (
	"bytes"
	"fmt"
	"os"
	"strconv"
	"time"
)

// window is the time in which a revision may be confirmed, as it stands on disk.
type window struct {
	Opened   time.Time     `json:"opened"`   // by the wall clock
	Deadline time.Time     `json:"deadline"` // by the wall clock
	Length   time.Duration `json:"length"`
	Boot     string        `json:"boot"`   // which boot of the machine the next is a time of
	Uptime   time.Duration `json:"uptime"` // the deadline, by the clock that counts from boot and that nobody can set
}

// Boot tells one boot of the machine from another, and the time since it began, sleep included.
type Boot func() (id string, uptime time.Duration, err error)

// KernelBoot asks the kernel: random(4) for the boot, /proc/uptime for CLOCK_BOOTTIME in hundredths of a second.
func KernelBoot() (string, time.Duration, error) {
	id, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return "", 0, err
	}
	text, err := os.ReadFile("/proc/uptime")
	if err != nil {
		return "", 0, err
	}
	words := bytes.Fields(text)
	if len(words) == 0 {
		return "", 0, fmt.Errorf("/proc/uptime says %q", text)
	}
	seconds, err := strconv.ParseFloat(string(words[0]), 64)
	if err != nil {
		return "", 0, fmt.Errorf("/proc/uptime says %q: %w", text, err)
	}
	return string(bytes.TrimSpace(id)), time.Duration(seconds * float64(time.Second)), nil
}

func openWindow(length time.Duration, boot Boot) (*window, error) {
	id, uptime, err := boot()
	if err != nil {
		return nil, fmt.Errorf("open confirm window: %w", err)
	}
	now := time.Now().UTC().Round(0)
	return &window{Opened: now, Deadline: now.Add(length), Length: length, Boot: id, Uptime: uptime + length}, nil
}

// remaining is how long the window is still open. Within one boot it is told by the kernel's own clock, so that setting the wall
// clock neither prolongs nor shortens it. After a reboot only the wall clock is left; one that stands before the window was
// opened is wrong, and a window whose end nobody can tell is over: going back is the safe side.
func (w *window) remaining(boot Boot) time.Duration {
	id, uptime, err := boot()
	if err == nil && id == w.Boot {
		return min(w.Uptime-uptime, w.Length)
	}
	now := time.Now().Round(0)
	if err != nil || now.Before(w.Opened) {
		return 0
	}
	return w.Deadline.Sub(now)
}
