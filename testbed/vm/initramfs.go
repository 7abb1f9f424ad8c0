package vm

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
)

// modules are those that the machine itself is made of, and those that the program needs.
func modules(c Config) []string {
	names := []string{"virtio_pci", "9p", "9pnet_virtio", "overlay"}
	if c.TAP != "" {
		names = append(names, "virtio_net")
	}
	if c.Disk != "" {
		names = append(names, "virtio_blk")
	}
	return append(names, c.Modules...)
}

// initScript is process 1. It has the shell that everybody has, and as little as can be in it: what may hold any character goes by file.
const initScript = `#!/bin/busybox sh
# Made by package vm: see its doc.go.
export PATH=/bin
/bin/busybox --install -s /bin
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev
stty -F /dev/ttyS1 raw -echo
stty -F /dev/ttyS2 raw -echo
finish() { echo "exit $1" > /dev/ttyS2; sync; poweroff -f; sleep 1000; }
for module in $(cat /modules.order); do
	insmod "/modules/$module" || { echo "cannot load $module"; finish 125; }
done
mkdir -p /host /memory /new
mount -t 9p -o ro,trans=virtio,version=9p2000.L,msize=512000,cache=loose host /host || finish 125
mount -t tmpfs -o size=75% memory /memory
mkdir -p /memory/upper /memory/work
mount -t overlay -o lowerdir=/host,upperdir=/memory/upper,workdir=/memory/work overlay /new || finish 125
mount -t proc proc /new/proc
mount -t sysfs sys /new/sys
mount -t devtmpfs dev /new/dev
mkdir -p /new/dev/pts /new/dev/shm /new/run
mount -t devpts devpts /new/dev/pts
mount -t tmpfs tmpfs /new/dev/shm
mount -t tmpfs tmpfs /new/run
mkdir -p /new/run/lock
ln -s /proc/self/fd /new/dev/fd
ln -s /proc/self/fd/0 /new/dev/stdin
ln -s /proc/self/fd/1 /new/dev/stdout
ln -s /proc/self/fd/2 /new/dev/stderr
ip link set lo up
cp /program /new/run/program
chroot /new /bin/sh /run/program < /dev/null > /dev/ttyS1 2>&1
finish $?
`

// modprobeScript is what the kernel calls for a module that it needs: a file system, a part of the packet filter. It looks for it in the host's files.
func modprobeScript(k Kernel) string {
	return "#!/bin/busybox sh\nexec /bin/busybox chroot /new /sbin/modprobe -d " + quote(k.Root) + " -S " + quote(k.Version) + " \"$@\"\n"
}

// programScript is what runs in the host's files, by the host's shell.
func programScript(c Config) string {
	var b strings.Builder
	b.WriteString("cd " + quote(c.Folder) + " || exit 125\nexec env -i PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root TMPDIR=/tmp")
	for _, word := range append(append([]string{}, c.Environment...), c.Argv...) {
		b.WriteString(" " + quote(word))
	}
	b.WriteString("\n")
	return b.String()
}

// quote makes one word of the shell's from any text without zero bytes.
func quote(s string) string { return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'" }

// initramfs writes a compressed archive with busybox, the modules and the two scripts.
func initramfs(ctx context.Context, folder string, k Kernel, c Config) (string, error) {
	root := filepath.Join(folder, "initramfs")
	for _, d := range []string{"bin", "sbin", "proc", "sys", "dev", "modules"} {
		if err := os.MkdirAll(filepath.Join(root, d), 0o755); err != nil {
			return "", err
		}
	}
	files, err := k.modules(ctx, modules(c))
	if err != nil {
		return "", err
	}
	var order []string
	for i, file := range files {
		name := strconv.Itoa(i) + ".ko"
		if err := unpackModule(ctx, file, filepath.Join(root, "modules", name)); err != nil {
			return "", err
		}
		order = append(order, name)
	}
	busybox, err := exec.LookPath("busybox")
	if err != nil {
		return "", fmt.Errorf("busybox: %w (install busybox-static)", err)
	}
	program, err := os.ReadFile(busybox)
	if err != nil {
		return "", err
	}
	err = errors.Join(
		os.WriteFile(filepath.Join(root, "bin", "busybox"), program, 0o755),
		os.WriteFile(filepath.Join(root, "modules.order"), []byte(strings.Join(order, "\n")+"\n"), 0o644),
		os.WriteFile(filepath.Join(root, "init"), []byte(initScript), 0o755),
		os.WriteFile(filepath.Join(root, "sbin", "modprobe"), []byte(modprobeScript(k)), 0o755),
		os.WriteFile(filepath.Join(root, "program"), []byte(programScript(c)), 0o644),
	)
	if err != nil {
		return "", err
	}
	return archive(ctx, root, filepath.Join(folder, "initramfs.cpio"))
}

// unpackModule copies a module; newer Debian has them compressed, and the kernel is given them plain.
func unpackModule(ctx context.Context, file, to string) error {
	var raw []byte
	var err error
	if strings.HasSuffix(file, ".xz") {
		var text string
		text, err = output(ctx, "", "xz", "-dc", file)
		raw = []byte(text)
	} else {
		raw, err = os.ReadFile(file)
	}
	if err != nil {
		return err
	}
	return os.WriteFile(to, raw, 0o644)
}

// archive makes the archive that the kernel unpacks. It is small, so it is not compressed.
func archive(ctx context.Context, root, to string) (string, error) {
	var names bytes.Buffer
	err := filepath.WalkDir(root, func(path string, _ os.DirEntry, err error) error {
		if err != nil || path == root {
			return err
		}
		relative, err := filepath.Rel(root, path)
		names.WriteString(relative + "\n")
		return err
	})
	if err != nil {
		return "", err
	}
	out, err := os.Create(to)
	if err != nil {
		return "", err
	}
	defer out.Close()
	command := exec.CommandContext(ctx, "cpio", "-o", "-H", "newc", "--quiet", "-R", "0:0")
	var stderr bytes.Buffer
	command.Dir, command.Stdin, command.Stdout, command.Stderr = root, &names, out, &stderr
	if err := command.Run(); err != nil {
		return "", fmt.Errorf("cpio: %w: %s", err, stderr.String())
	}
	return to, out.Close()
}
