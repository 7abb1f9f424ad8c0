package source_test

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"shekara/provisioning/document"
	"shekara/provisioning/source"
)

func TestRead(t *testing.T) {
	dir := t.TempDir()
	for name, text := range map[string]string{"b.yaml": "b", "a.yml": "a", "notes.txt": "no", ".yaml.swp": "no", "below/c.yaml": "no"} {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	got, err := source.Read([]string{"-", dir, filepath.Join(dir, "notes.txt")}, strings.NewReader("in"))
	if err != nil {
		t.Fatal(err)
	}
	want := []document.File{{Name: "standard input", Data: []byte("in")}, {Name: filepath.Join(dir, "a.yml"), Data: []byte("a")},
		{Name: filepath.Join(dir, "b.yaml"), Data: []byte("b")}, {Name: filepath.Join(dir, "notes.txt"), Data: []byte("no")}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("Read (-want +got):\n%s", diff)
	}
}

func TestReadRefuses(t *testing.T) {
	dir := t.TempDir()
	binary := filepath.Join(dir, "binary.yaml")
	if err := os.WriteFile(binary, []byte{0xff, 0xfe, 0}, 0o644); err != nil {
		t.Fatal(err)
	}
	large := filepath.Join(dir, "large.yaml")
	if err := os.WriteFile(large, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(large, source.MaxBytes+1); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]error{filepath.Join(dir, "absent"): fs.ErrNotExist, binary: source.ErrNotText, large: source.ErrTooLarge} {
		_, err := source.Read([]string{name}, nil)
		var e *source.Error
		if !errors.Is(err, want) || !errors.As(err, &e) || e.Hint() == "" || strings.Count(err.Error(), name) != 1 {
			t.Errorf("Read(%s) = %v, want %v with a hint, naming the file once", name, err, want)
		}
	}
}
