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

// FetchKernel gives the kernel in a folder, which it fills first if it is empty: the present stock kernel. A folder that has a kernel is
// used as it is, without asking the network.
func FetchKernel(ctx context.Context, folder string) (Kernel, error) {
	root, err := filepath.Abs(filepath.Join(folder, "kernel"))
	if err != nil {
		return Kernel{}, err
	}
	if k, err := find(root); err == nil || !errors.Is(err, fs.ErrNotExist) {
		return k, err
	}
	name, err := fresh(ctx, func() (string, error) { return kernelPackage(ctx) })
	if err != nil {
		return Kernel{}, fmt.Errorf("fetch kernel: %w", err)
	}
	err = Unpack(ctx, root, name, func(root string) error {
		k, err := find(root)
		if err == nil {
			_, err = output(ctx, "", "depmod", "-b", k.Root, k.Version)
		}
		return err
	})
	if err != nil {
		return Kernel{}, err
	}
	return find(root)
}

// Unpack fills the folder root with a package's files, unless it is there: fetched by apt-get download, unpacked by dpkg. Nothing is installed, so a
// package may conflict with what is. finish, if not nil, is called on the files before they are at root.
func Unpack(ctx context.Context, root, name string, finish func(root string) error) error {
	if _, err := os.Stat(root); err == nil || !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(root), 0o755); err != nil {
		return err
	}
	// Beside its place and renamed when whole: a fetch that was cut off, or one at the same time, leaves no half.
	work, err := os.MkdirTemp(filepath.Dir(root), "fetch-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(work)
	files := filepath.Join(work, "files")
	if err := fetch(ctx, work, name, files); err != nil {
		return fmt.Errorf("fetch package %s: %w", name, err)
	}
	if finish != nil {
		if err := finish(files); err != nil {
			return fmt.Errorf("package %s: %w", name, err)
		}
	}
	if err := os.Rename(files, root); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	return nil
}

// find looks for the one kernel in an unpacked package; fs.ErrNotExist if there is none.
func find(root string) (Kernel, error) {
	images, err := filepath.Glob(filepath.Join(root, "boot", "vmlinuz-*"))
	if err != nil || len(images) == 0 {
		return Kernel{}, fmt.Errorf("kernel in %s: %w", root, errors.Join(err, fs.ErrNotExist))
	}
	return Kernel{Root: root, Version: strings.TrimPrefix(filepath.Base(images[0]), "vmlinuz-")}, nil
}

func fetch(ctx context.Context, work, name, to string) error {
	if _, err := fresh(ctx, func() (string, error) { return output(ctx, work, "apt-get", "download", "-qq", name) }); err != nil {
		return err
	}
	packages, err := filepath.Glob(filepath.Join(work, "*.deb"))
	if err != nil || len(packages) != 1 {
		return fmt.Errorf("apt-get download %s left %d packages", name, len(packages))
	}
	_, err = output(ctx, "", "dpkg", "-x", packages[0], to)
	return err
}

// fresh does what needs the lists of packages; on a fresh machine they are missing, or too old, and are fetched.
func fresh(ctx context.Context, do func() (string, error)) (string, error) {
	text, err := do()
	if err == nil {
		return text, nil
	}
	if _, updateErr := output(ctx, "", "apt-get", "update", "-qq"); updateErr != nil {
		return "", errors.Join(err, updateErr)
	}
	return do()
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
