package secret

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"shekara/netctl/durable"
)

// Kinds of secrets, the first part of their names.
const (
	WireGuard = "wireguard" // private keys: wireguard/<peer>.<far zone>.<environment>
	Preshared = "preshared" // preshared/<name>
	Signing   = "signing"   // signing/journal: the seed of what signs the journal
)

func kinds() []string { return []string{Preshared, Signing, WireGuard} }

const (
	identityFile = "identity"
	maxFile      = 4 << 10 // bytes; a key has 45, an age identity 75
)

// Store is a folder of secrets. It may be used by several processes at once.
type Store struct{ dir string }

// Open opens the store in a folder, making it with mode 0700. A folder that others may enter is refused.
func Open(dir string) (*Store, error) {
	for _, folder := range foldersOf(dir) {
		if err := durable.MkdirAll(folder, 0o700); err != nil {
			return nil, fmt.Errorf("open secrets: %w", err)
		}
		info, err := os.Stat(folder)
		if err != nil {
			return nil, fmt.Errorf("open secrets: %w", err)
		}
		if info.Mode()&0o077 != 0 {
			return nil, &hinted{fmt.Errorf("open secrets: %s has mode %04o, want 0700", folder, info.Mode().Perm()),
				fmt.Sprintf("chmod 0700 %s, and think who may have read it", folder)}
		}
	}
	return &Store{dir}, nil
}

func foldersOf(dir string) []string {
	folders := []string{dir}
	for _, kind := range kinds() {
		folders = append(folders, filepath.Join(dir, kind))
	}
	return folders
}

// CheckName says whether name is that of a secret that can be kept: wireguard/, preshared/ or signing/, then at most 200 letters,
// digits, dots, hyphens and underscores, beginning with a letter or a digit, so that it is a file name and no way out of the folder.
func CheckName(name string) error {
	kind, rest, found := strings.Cut(name, "/")
	if !found || !slices.Contains(kinds(), kind) {
		return fmt.Errorf("secret %q: a name begins with %s/", name, strings.Join(kinds(), "/ or "))
	}
	if len(rest) > 200 || !regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]*$`).MatchString(rest) {
		return fmt.Errorf("secret %q: after %s/ come letters, digits, dots, hyphens and underscores, 200 at most", name, kind)
	}
	return nil
}

func (s *Store) path(name string) (string, error) {
	if err := CheckName(name); err != nil {
		return "", err
	}
	return filepath.Join(s.dir, filepath.FromSlash(name)), nil
}

// Get returns a secret. The error is fs.ErrNotExist if there is none of that name.
func (s *Store) Get(name string) (Key, error) {
	path, err := s.path(name)
	if err != nil {
		return Key{}, err
	}
	data, err := read(path)
	if err != nil {
		return Key{}, fmt.Errorf("secret %q: %w", name, err)
	}
	key, err := ParseKey(data)
	if err != nil {
		return Key{}, fmt.Errorf("secret %q: file %s: %w", name, path, err)
	}
	return key, nil
}

// read refuses a file that others could have read or written.
func read(path string) ([]byte, error) {
	info, err := os.Lstat(path)
	if err != nil {
		return nil, pathless(err)
	}
	if info.Mode() != 0o600 {
		return nil, fmt.Errorf("file %s has mode %v, want a regular file with 0600", path, info.Mode())
	}
	return durable.ReadFile(path, maxFile)
}

// pathless drops the file's path, which says no more than the secret's name.
func pathless(err error) error {
	var at *fs.PathError
	if errors.As(err, &at) {
		return at.Err
	}
	return err
}

// New makes a secret: a private key under wireguard/, else 32 random bytes. One that is there is fs.ErrExist unless replace is set.
func (s *Store) New(name string, replace bool) (Key, error) {
	key := GeneratePreshared()
	if strings.HasPrefix(name, WireGuard+"/") {
		key = GeneratePrivate()
	}
	if err := s.Import(name, key, replace); err != nil {
		return Key{}, err
	}
	return key, nil
}

// GetOrNew returns a secret and makes it if there is none. Callers side by side get the same one.
func (s *Store) GetOrNew(name string) (Key, error) {
	key, err := s.Get(name)
	if !errors.Is(err, fs.ErrNotExist) {
		return key, err
	}
	key, err = s.New(name, false)
	if errors.Is(err, fs.ErrExist) {
		return s.Get(name)
	}
	return key, err
}

// Import keeps a secret. One that is there is fs.ErrExist unless replace is set or it is the same.
func (s *Store) Import(name string, key Key, replace bool) error {
	path, err := s.path(name)
	if err != nil {
		return err
	}
	if key.IsZero() {
		return fmt.Errorf("secret %q: there is nothing to keep", name)
	}
	err = write(path, key.RevealText(), replace)
	if errors.Is(err, fs.ErrExist) {
		if old, getErr := s.Get(name); getErr == nil && old.Equal(key) {
			return nil
		}
		return fmt.Errorf("secret %q: %w", name, fs.ErrExist)
	}
	if err != nil {
		return fmt.Errorf("secret %q: %w", name, err)
	}
	return nil
}

func write(path string, data []byte, replace bool) error {
	if replace {
		return durable.WriteFile(path, data, 0o600)
	}
	return durable.CreateFile(path, data, 0o600)
}

// Delete forgets a secret; fs.ErrNotExist if there is none. The disk may still hold its bytes.
func (s *Store) Delete(name string) error {
	path, err := s.path(name)
	if err != nil {
		return err
	}
	if _, err := os.Lstat(path); err != nil {
		return fmt.Errorf("secret %q: %w", name, pathless(err))
	}
	return durable.Remove(path)
}

// List returns the names of all secrets, sorted.
func (s *Store) List() ([]string, error) {
	var names []string
	for _, kind := range kinds() {
		entries, err := os.ReadDir(filepath.Join(s.dir, kind))
		if err != nil {
			return nil, fmt.Errorf("list secrets: %w", err)
		}
		for _, entry := range entries {
			if name := kind + "/" + entry.Name(); CheckName(name) == nil { // a temporary file begins with a dot
				names = append(names, name)
			}
		}
	}
	slices.Sort(names)
	return names, nil
}

// RemoveTemporary removes what killed writers left. Call it at the daemon's start, while nobody else writes.
func (s *Store) RemoveTemporary() error {
	for _, dir := range foldersOf(s.dir) {
		if err := durable.RemoveTemporary(dir); err != nil {
			return fmt.Errorf("clean secrets: %w", err)
		}
	}
	return nil
}
