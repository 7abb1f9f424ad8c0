package vm

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
)

// Kernel is an unpacked kernel package.
type Kernel struct {
	Root    string // has boot/ and lib/modules/
	Version string // "6.1.0-56-amd64"
}

func (k Kernel) image() string { return filepath.Join(k.Root, "boot", "vmlinuz-"+k.Version) }

// metaPackage always depends on the distribution's present kernel.
const metaPackage = "linux-image-amd64"

// FetchKernel gives the kernel in a folder, which it fills first if it is empty: the present stock kernel by apt-get download, unpacked by
// dpkg. Nothing is installed. A folder that has a kernel is used as it is, without asking the network.
func FetchKernel(ctx context.Context, folder string) (Kernel, error) {
	folder, err := filepath.Abs(folder)
	if err != nil {
		return Kernel{}, err
	}
	root := filepath.Join(folder, "kernel")
	if k, err := find(root); err == nil || !errors.Is(err, fs.ErrNotExist) {
		return k, err
	}
	if err := os.MkdirAll(folder, 0o755); err != nil {
		return Kernel{}, err
	}
	// Beside its place and renamed when whole: a fetch that was cut off, or one at the same time, leaves no half.
	work, err := os.MkdirTemp(folder, "fetch-")
	if err != nil {
		return Kernel{}, err
	}
	defer os.RemoveAll(work)
	if err := fetch(ctx, work); err != nil {
		return Kernel{}, fmt.Errorf("fetch kernel: %w", err)
	}
	k, err := find(filepath.Join(work, "kernel"))
	if err != nil {
		return Kernel{}, err
	}
	if _, err := output(ctx, "", "depmod", "-b", k.Root, k.Version); err != nil {
		return Kernel{}, err
	}
	if err := os.Rename(k.Root, root); err != nil && !errors.Is(err, fs.ErrExist) {
		return Kernel{}, err
	}
	return find(root)
}

// find looks for the one kernel in an unpacked package; fs.ErrNotExist if there is none.
func find(root string) (Kernel, error) {
	images, err := filepath.Glob(filepath.Join(root, "boot", "vmlinuz-*"))
	if err != nil || len(images) == 0 {
		return Kernel{}, fmt.Errorf("kernel in %s: %w", root, errors.Join(err, fs.ErrNotExist))
	}
	return Kernel{Root: root, Version: strings.TrimPrefix(filepath.Base(images[0]), "vmlinuz-")}, nil
}

func fetch(ctx context.Context, work string) error {
	name, err := kernelPackage(ctx)
	if err != nil {
		// On a fresh machine the lists of packages are missing.
		if _, updateErr := output(ctx, "", "apt-get", "update", "-qq"); updateErr != nil {
			return errors.Join(err, updateErr)
		}
		if name, err = kernelPackage(ctx); err != nil {
			return err
		}
	}
	if _, err := output(ctx, work, "apt-get", "download", "-qq", name); err != nil {
		return err
	}
	packages, err := filepath.Glob(filepath.Join(work, "*.deb"))
	if err != nil || len(packages) != 1 {
		return fmt.Errorf("apt-get download %s left %d packages", name, len(packages))
	}
	_, err = output(ctx, "", "dpkg", "-x", packages[0], filepath.Join(work, "kernel"))
	return err
}

var kernelName = regexp.MustCompile(`(?m)^\s*Depends: (linux-image-[0-9][^\s<>]*)$`)

func kernelPackage(ctx context.Context) (string, error) {
	text, err := output(ctx, "", "apt-cache", "depends", metaPackage)
	if err != nil {
		return "", err
	}
	m := kernelName.FindStringSubmatch(text)
	if m == nil {
		return "", fmt.Errorf("package %s names no kernel: is this Debian on amd64?", metaPackage)
	}
	return m[1], nil
}

// modules gives the files of modules and of what they need, in loading order.
func (k Kernel) modules(ctx context.Context, names []string) ([]string, error) {
	var files []string
	seen := map[string]bool{}
	for _, name := range names {
		text, err := output(ctx, "", "modprobe", "-d", k.Root, "-S", k.Version, "--show-depends", name)
		if err != nil {
			return nil, fmt.Errorf("module %s: %w", name, err)
		}
		for line := range strings.Lines(text) {
			words := strings.Fields(line) // "insmod FILE [PARAMETERS]" or "builtin NAME"
			if len(words) >= 2 && words[0] == "insmod" && !seen[words[1]] {
				seen[words[1]] = true
				files = append(files, words[1])
			}
		}
	}
	return files, nil
}

// output runs a tool of the host and gives its standard output; the error holds what it said.
func output(ctx context.Context, folder string, argv ...string) (string, error) {
	command := exec.CommandContext(ctx, argv[0], argv[1:]...)
	command.Dir = folder
	var stdout, stderr bytes.Buffer
	command.Stdout, command.Stderr = &stdout, &stderr
	command.Env = append(os.Environ(), "LC_ALL=C", "DEBIAN_FRONTEND=noninteractive", "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
	if err := command.Run(); err != nil {
		return "", fmt.Errorf("%s: %w: %s", strings.Join(argv, " "), err, strings.TrimSpace(stderr.String()))
	}
	return stdout.String(), nil
}
