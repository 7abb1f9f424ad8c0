package vm

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// Config says what to run. The program must not need what the machine lacks: services, other modules, and without TAP a network.
type Config struct {
	Kernel      Kernel
	Argv        []string // Argv[0] is an absolute path of the host
	Folder      string   // where it runs; "" means /
	Environment []string // "NAME=value"; besides PATH, HOME and TMPDIR nothing else is set
	Modules     []string // kernel modules by name, loaded first with what they need; what the kernel itself asks for later comes by itself
	// TAP is a TAP device that is there, in the network namespace of the thread that calls Run. The machine has its other end as eth0, down and without addresses.
	// "": no network but loopback.
	TAP string
	// Disk is a file that the machine has as /dev/vda; "": none. It outlives the machine. What the machine has not synchronised when it is stopped is lost, as in a power cut.
	Disk      string
	Clock     time.Time // what the machine's clock shows when it starts, in whole seconds; zero: the host's time
	Output    io.Writer
	MemoryMiB int           // 0: 2048
	CPUs      int           // 0: 2
	Timeout   time.Duration // 0: 15 minutes
}

// ErrNoExit is in the error of a run of which no exit status came: the machine crashed, or was stopped by the time limit.
var ErrNoExit = errors.New("the program's exit status did not come")

// Run starts the machine, runs the program to its end, and gives its exit status. 125 means that the program could not be started (see the error
// of a run that never came to it). The machine is gone when Run returns.
func Run(ctx context.Context, c Config) (exit int, err error) {
	if len(c.Argv) == 0 || !filepath.IsAbs(c.Argv[0]) {
		return 0, fmt.Errorf("run in a machine: %q is not an absolute path", c.Argv)
	}
	if c.Folder == "" {
		c.Folder = "/"
	}
	if c.MemoryMiB == 0 {
		c.MemoryMiB = 2048
	}
	if c.CPUs == 0 {
		c.CPUs = 2
	}
	if c.Timeout == 0 {
		c.Timeout = 15 * time.Minute
	}
	if c.Output == nil {
		c.Output = io.Discard
	}
	work, err := os.MkdirTemp("", "vm-")
	if err != nil {
		return 0, err
	}
	defer os.RemoveAll(work)
	initrd, err := initramfs(ctx, work, c.Kernel, c)
	if err != nil {
		return 0, fmt.Errorf("make initramfs: %w", err)
	}
	if strings.ContainsRune(c.TAP, ',') {
		return 0, fmt.Errorf("run in a machine: %q is no name of a TAP device", c.TAP) // qemu would read options
	}
	ctx, cancel := context.WithTimeout(ctx, c.Timeout)
	defer cancel()
	console, status := filepath.Join(work, "console"), filepath.Join(work, "status")
	command := exec.CommandContext(ctx, "qemu-system-x86_64", arguments(c, initrd, console, status)...)
	command.WaitDelay = 5 * time.Second
	var stderr bytes.Buffer
	command.Stdout, command.Stderr = c.Output, &stderr
	runErr := command.Run()
	if exit, err := readStatus(status); err == nil {
		return exit, nil // whatever came after: the program has ended
	}
	return 0, fmt.Errorf("%w (qemu: %v, %v: %s); the console ends:\n%s", ErrNoExit, runErr, ctx.Err(), strings.TrimSpace(stderr.String()), tail(console))
}

func arguments(c Config, initrd, console, status string) []string {
	words := []string{
		"-accel", "tcg,thread=multi", "-cpu", "max", "-m", strconv.Itoa(c.MemoryMiB), "-smp", strconv.Itoa(c.CPUs),
		"-display", "none", "-nodefaults", "-no-reboot", "-monitor", "none",
		"-serial", "file:" + console, "-serial", "stdio", "-serial", "file:" + status,
		"-kernel", c.Kernel.image(), "-initrd", initrd,
		// A panic ends the machine (panic=-1 with -no-reboot) rather than the time limit. Clock and watchdog messages of a slow, emulated machine stay on ttyS0.
		"-append", "console=ttyS0 loglevel=4 panic=-1 mitigations=off nowatchdog",
		"-fsdev", "local,id=host,path=/,security_model=none,readonly=on,multidevs=remap",
		"-device", "virtio-9p-pci,fsdev=host,mount_tag=host",
		"-object", "rng-random,id=rng,filename=/dev/urandom", "-device", "virtio-rng-pci,rng=rng",
	}
	if c.TAP != "" {
		words = append(words, "-netdev", "tap,id=net,ifname="+c.TAP+",script=no,downscript=no", "-device", "virtio-net-pci,netdev=net,romfile=")
	} else {
		words = append(words, "-net", "none")
	}
	if c.Disk != "" {
		words = append(words, "-drive", "if=none,id=disk,format=raw,file="+strings.ReplaceAll(c.Disk, ",", ",,"), "-device", "virtio-blk-pci,drive=disk")
	}
	if !c.Clock.IsZero() {
		words = append(words, "-rtc", "base="+c.Clock.UTC().Format("2006-01-02T15:04:05"))
	}
	return words
}

func readStatus(file string) (int, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return 0, err
	}
	var exit int
	if _, err := fmt.Sscanf(strings.TrimSpace(string(text)), "exit %d", &exit); err != nil {
		return 0, err
	}
	return exit, nil
}

// tail is the end of a file, for an error.
func tail(file string) string {
	const most = 4096
	text, err := os.ReadFile(file)
	if err != nil {
		return err.Error()
	}
	return string(text[max(0, len(text)-most):])
}
