package secret_test

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"filippo.io/age"
	"filippo.io/age/armor"
	"github.com/google/go-cmp/cmp"

	"shekara/netctl/secret"
)

func open(t *testing.T) (*secret.Store, string) {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "lib", "keys")
	store, err := secret.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	return store, dir
}

func TestStore(t *testing.T) {
	store, dir := open(t)
	const name = "wireguard/owner-edge.agencies.production"
	if _, err := store.Get(name); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("get nothing: %v", err)
	}
	k, err := store.New(name, false)
	if err != nil {
		t.Fatal(err)
	}
	if raw := k.Reveal(); raw[0]&7 != 0 {
		t.Error("a private key is not clamped")
	}
	if _, err := store.New(name, false); !errors.Is(err, fs.ErrExist) {
		t.Errorf("new over old: %v", err)
	}
	if got, err := store.Get(name); err != nil || !got.Equal(k) {
		t.Errorf("get: %v", err)
	}
	if err := store.Import(name, k, false); err != nil {
		t.Errorf("import of the same: %v", err)
	}
	other, err := store.New(name, true)
	if err != nil || other.Equal(k) {
		t.Errorf("replace: %v", err)
	}
	if _, err := store.New("preshared/agency-a", false); err != nil {
		t.Fatal(err)
	}
	if names, err := store.List(); err != nil || !cmp.Equal(names, []string{"preshared/agency-a", name}) {
		t.Errorf("list: %q, %v", names, err)
	}
	if err := store.Import("preshared/none", secret.Key{}, false); err == nil {
		t.Error("nothing was kept")
	}
	if err := store.Delete(name); err != nil {
		t.Fatal(err)
	}
	if err := store.Delete(name); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("delete again: %v", err)
	}
	err = filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := entry.Info()
		if err != nil {
			return err
		}
		if info.Mode()&0o077 != 0 {
			t.Errorf("%s has mode %v", path, info.Mode())
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

func TestStoreRefuses(t *testing.T) {
	store, dir := open(t)
	for _, name := range []string{"", "identity", "../x", "preshared/", "preshared/../identity", "preshared/a/b", "preshared/.a", "other/a",
		"/etc/passwd", "preshared/a\x00b", "preshared/a\n", "preshared/" + strings.Repeat("a", 201)} {
		if _, err := store.New(name, true); err == nil {
			t.Errorf("name %q was taken", name)
		}
		if _, err := store.Get(name); err == nil || errors.Is(err, fs.ErrNotExist) {
			t.Errorf("name %q: %v", name, err)
		}
	}
	path := filepath.Join(dir, "preshared", "open")
	if _, err := store.New("preshared/open", false); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(path, 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := store.Get("preshared/open"); err == nil || !strings.Contains(err.Error(), "0600") {
		t.Errorf("a file that others may read: %v", err)
	}
	if err := os.WriteFile(filepath.Join(dir, "preshared", "torn"), []byte("SECRETpart"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := store.Get("preshared/torn"); err == nil || strings.Contains(err.Error(), "SECRETpart") {
		t.Errorf("a torn file: %v", err)
	}
	if err := os.Symlink("/etc/hostname", filepath.Join(dir, "preshared", "link")); err != nil {
		t.Fatal(err)
	}
	if _, err := store.Get("preshared/link"); err == nil {
		t.Error("a symbolic link was followed")
	}
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	if _, err := secret.Open(dir); hintOf(err) == "" {
		t.Errorf("a folder that others may enter: %v", err)
	}
}

// hintOf is the next step that an error bears; "" if there is no error or no step.
func hintOf(err error) string {
	var hinted interface{ Hint() string }
	if errors.As(err, &hinted) {
		return hinted.Hint()
	}
	return ""
}

func TestGetOrNewTogether(t *testing.T) {
	store, _ := open(t)
	keys := make([]secret.Key, 16)
	var group sync.WaitGroup
	for i := range keys {
		group.Go(func() {
			var err error
			if keys[i], err = store.GetOrNew("wireguard/a.b.c"); err != nil {
				t.Error(err)
			}
		})
	}
	group.Wait()
	for _, k := range keys {
		if !k.Equal(keys[0]) {
			t.Fatal("two keys under one name")
		}
	}
}

func TestSealed(t *testing.T) {
	here, _ := open(t)
	there, _ := open(t)
	recipient, err := there.Recipient()
	if err != nil {
		t.Fatal(err)
	}
	if again, _ := there.Recipient(); again != recipient {
		t.Errorf("recipient is %s, then %s", recipient, again)
	}
	k, err := here.New("preshared/agency-a", false)
	if err != nil {
		t.Fatal(err)
	}
	sealed, err := here.Export("preshared/agency-a", recipient)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.HasPrefix(sealed, []byte(armor.Header)) || bytes.Contains(sealed, bytes.TrimSpace(k.RevealText())) {
		t.Errorf("sealed is %s", sealed)
	}
	if err := there.ImportSealed("preshared/from-here", sealed, false); err != nil {
		t.Fatal(err)
	}
	if got, err := there.Get("preshared/from-here"); err != nil || !got.Equal(k) {
		t.Errorf("imported: %v", err)
	}
	if err := here.ImportSealed("preshared/mine", sealed, false); hintOf(err) == "" {
		t.Errorf("opened by one to whom it is not sealed: %v", err)
	}
	// As age(1) would seal it, not armored.
	to, err := age.ParseX25519Recipient(recipient)
	if err != nil {
		t.Fatal(err)
	}
	var binary bytes.Buffer
	w, err := age.Encrypt(&binary, to)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write(k.RevealText()); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	if got, err := there.Unseal(binary.Bytes()); err != nil || !got.Equal(k) {
		t.Errorf("not armored: %v", err)
	}
	damaged := bytes.Clone(binary.Bytes())
	damaged[len(damaged)-1] ^= 1
	for name, bad := range map[string][]byte{"nothing": nil, "damaged": damaged, "long": make([]byte, 1<<20), "cut": sealed[:100]} {
		if _, err := there.Unseal(bad); err == nil {
			t.Errorf("%s was opened", name)
		}
	}
	if _, err := here.Export("preshared/agency-a", "age1nonsense"); err == nil {
		t.Error("sealed to nobody")
	}
	if _, err := here.Export("preshared/none", recipient); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("export nothing: %v", err)
	}
}
