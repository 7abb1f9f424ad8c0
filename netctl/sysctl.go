package netctl

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"shekara/netctl/durable"
)

const (
	sysctlRoot   = "/proc/sys"
	maxOriginals = 4 << 20 // bytes of the file of originals
)

// sysctlPath turns "net.ipv4.conf.eth0/100.rp_filter" into a path: dots separate, a slash stands for a dot in a name (sysctl(8)).
func sysctlPath(key string) (string, error) {
	for _, part := range strings.Split(key, ".") {
		if part == "" || part == "/" || part == "//" || strings.ContainsAny(part, "\x00*?[\\") {
			return "", fmt.Errorf("sysctl %q: %w", key, fs.ErrInvalid)
		}
	}
	return filepath.Join(sysctlRoot, strings.NewReplacer(".", "/", "/", ".").Replace(key)), nil
}

func sysctlKey(path string) string {
	return strings.NewReplacer(".", "/", "/", ".").Replace(strings.TrimPrefix(path, sysctlRoot+"/"))
}

// sortedSysctls puts first what must be set before packets are forwarded, then the switches that the kernel copies to every interface, before
// those of one interface.
func sortedSysctls[V any](values map[string]V) []string {
	return slices.SortedFunc(maps.Keys(values), func(a, b string) int {
		return cmp.Or(cmp.Compare(sysctlRank(a), sysctlRank(b)), strings.Compare(a, b))
	})
}

func sysctlRank(key string) int {
	switch {
	case strings.HasPrefix(key, "net.netfilter."): // what they ask of connections holds for those that are opened from then on
		return 0
	case key == "net.ipv4.ip_forward":
		return 1
	case strings.HasPrefix(key, "net.ipv4.conf.all.") || strings.HasPrefix(key, "net.ipv6.conf.all."):
		return 2
	case strings.HasPrefix(key, "net.ipv4.conf.default.") || strings.HasPrefix(key, "net.ipv6.conf.default."):
		return 3
	}
	return 4
}

// readSysctls reads those keys that the kernel has.
func readSysctls(keys []string) (map[string]string, error) {
	values := make(map[string]string, len(keys))
	for _, key := range keys {
		path, err := sysctlPath(key)
		if err != nil {
			return nil, err
		}
		value, err := os.ReadFile(path)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, &Error{Op: "read sysctl", Object: key, Err: err}
		}
		values[key] = strings.TrimSpace(string(value))
	}
	return values, nil
}

func writeSysctl(key, value string) error {
	path, err := sysctlPath(key)
	if err != nil {
		return err
	}
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		return &Error{Op: "set sysctl", Object: key, Err: err}
	}
	_, err = f.WriteString(value)
	if err = errors.Join(err, f.Close()); err != nil {
		return &Error{Op: "set sysctl", Object: key, Err: err}
	}
	return nil
}

// companions are the other keys that the kernel writes when key is written. Setting ip_forward turns accept_redirects of
// "all" the other way and copies itself to every interface (inet_forward_change in net/ipv4/devinet.c), so that setting it
// back would leave a host open that its administrator had closed.
func companions(key string) []string {
	var patterns []string
	switch key {
	case "net.ipv4.ip_forward", "net.ipv4.conf.all.forwarding":
		patterns = []string{"net.ipv4.conf.all.accept_redirects", "net.ipv4.conf.*.forwarding", "net.ipv4.ip_forward"}
	case "net.ipv6.conf.all.forwarding":
		patterns = []string{"net.ipv6.conf.*.forwarding"}
	}
	var keys []string
	for _, pattern := range patterns {
		paths, _ := filepath.Glob(filepath.Join(sysctlRoot, strings.ReplaceAll(pattern, ".", "/"))) // the patterns are well formed
		for _, path := range paths {
			keys = append(keys, sysctlKey(path))
		}
	}
	return keys
}

// originals are the values of sysctls before we changed them, in a file.
type originals struct{ path string }

func (o originals) load() (map[string]string, error) {
	values := map[string]string{}
	data, err := durable.ReadFile(o.path, maxOriginals)
	if errors.Is(err, fs.ErrNotExist) {
		return values, nil
	}
	if err == nil {
		err = json.Unmarshal(data, &values)
	}
	if err != nil {
		return nil, &Error{Op: "read original sysctls", Object: o.path, Err: err}
	}
	return values, nil
}

// keep saves the present values of keys and their companions, except those that are saved already: they are the older.
func (o originals) keep(keys []string) error {
	saved, err := o.load()
	if err != nil {
		return err
	}
	var missing []string
	for _, key := range keys {
		for _, affected := range append(companions(key), key) {
			if _, found := saved[affected]; !found {
				missing = append(missing, affected)
			}
		}
	}
	values, err := readSysctls(missing)
	if err != nil {
		return err
	}
	if len(values) == 0 {
		return nil
	}
	maps.Copy(saved, values)
	data, err := json.MarshalIndent(saved, "", "  ")
	if err == nil {
		err = durable.WriteFile(o.path, append(data, '\n'), 0o600)
	}
	if err != nil {
		return &Error{Op: "save original sysctls", Object: o.path, Err: err}
	}
	return nil
}

// restore sets back every value that is saved and then forgets them. Keys that are gone (an interface was removed) are passed over.
func (o originals) restore() error {
	saved, err := o.load()
	if err != nil {
		return err
	}
	var failed []error
	for _, key := range sortedSysctls(saved) {
		if err := writeSysctl(key, saved[key]); err != nil && !errors.Is(err, fs.ErrNotExist) {
			failed = append(failed, err)
		}
	}
	if len(failed) > 0 {
		return errors.Join(failed...)
	}
	return durable.Remove(o.path)
}
