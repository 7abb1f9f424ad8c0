package certificate_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"shekara/netctl/certificate"
	"shekara/netctl/certificate/certificatetest"
)

func TestRoots(t *testing.T) {
	of := certificatetest.New(t, "authority")
	if _, err := certificate.Roots(of.File()); err != nil {
		t.Error(err)
	}
	_, key := of.Leaf("a.example.org")
	for _, file := range []string{key, t.TempDir(), filepath.Join(t.TempDir(), "none")} {
		if _, err := certificate.Roots(file); err == nil {
			t.Errorf("authorities were read from %s", file)
		}
	}
}

// TestRenewed takes files through what happens to them: the certificate is always the last that was whole.
func TestRenewed(t *testing.T) {
	of := certificatetest.New(t, "authority")
	dir := t.TempDir()
	files := certificate.Files{Certificate: filepath.Join(dir, "a.pem"), Key: filepath.Join(dir, "a.key"), Group: "clockmakers"}
	renewed := certificate.Renew(files)
	move := func(from, to string) {
		t.Helper()
		if err := os.Rename(from, to); err != nil {
			t.Fatal(err)
		}
	}
	serial := func() string {
		t.Helper()
		pair, err := renewed.Now()
		if err != nil {
			t.Fatal(err)
		}
		return pair.Leaf.SerialNumber.String()
	}
	if pair, err := renewed.Now(); pair != nil || err == nil {
		t.Errorf("no files: %v, %v", pair, err)
	}
	made, key := of.Leaf("a.example.org")
	move(made, files.Certificate)
	move(key, files.Key)
	first := serial()
	if again := serial(); again != first {
		t.Errorf("nothing changed, and %s became %s", first, again)
	}

	made, key = of.Leaf("a.example.org")
	move(made, files.Certificate) // and the key not yet
	for range 2 {
		pair, err := renewed.Now()
		if err == nil || !strings.Contains(err.Error(), files.Key) || pair.Leaf.SerialNumber.String() != first {
			t.Errorf("half renewed: %v, %v", pair.Leaf.SerialNumber, err)
		}
	}
	move(key, files.Key)
	second := serial()
	if second == first {
		t.Error("a renewed certificate is not used")
	}

	if err := os.Chmod(files.Key, 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := files.Read(); err == nil || !strings.Contains(err.Error(), "everybody may read") || !strings.Contains(err.Error(), "chgrp clockmakers") {
		t.Errorf("a key that everybody may read: %v", err)
	}
	if err := os.Remove(files.Key); err != nil {
		t.Fatal(err)
	}
	if pair, err := renewed.Now(); err == nil || pair.Leaf.SerialNumber.String() != second {
		t.Errorf("the key is gone: %v, %v", pair, err)
	}
}
