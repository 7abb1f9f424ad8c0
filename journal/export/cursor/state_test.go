package cursor

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestState(t *testing.T) {
	dir := t.TempDir()
	if _, err := Read(dir, "soc"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("of a sink that was never seen: %v", err)
	}
	want := State{Delivered: 7, Sent: 9, Records: 12, Failures: 1, Connected: true, Error: "x", Since: time.Unix(1700000000, 0).UTC(), Written: time.Unix(1700000001, 5).UTC()}
	if err := want.Write(dir, "soc"); err != nil {
		t.Fatal(err)
	}
	if got, err := Read(dir, "soc"); err != nil || !cmp.Equal(got, want) {
		t.Errorf("%+v, %v; want %+v", got, err, want)
	}
	want.Error = strings.Repeat("\x01", 100_000) // six bytes each as JSON
	if err := want.Write(dir, "soc"); err != nil {
		t.Fatal(err)
	}
	if _, err := Read(dir, "soc"); err != nil {
		t.Errorf("with a long error: %v", err)
	}
	want.Error = "x509: certificate is valid for \x1b[2Jevil\u202e\n, not «soc»"
	if err := want.Write(dir, "soc"); err != nil {
		t.Fatal(err)
	}
	if got, err := Read(dir, "soc"); err != nil || got.Error != `x509: certificate is valid for \x1b[2Jevil\u202e\n, not «soc»` {
		t.Errorf("what a stranger said is read as %q, %v", got.Error, err)
	}
	for _, text := range []string{"", "[]", `{"delivered":2,"sent":1}`, `{"delivered":-1}`, strings.Repeat(" ", maxBytes+1)} {
		if err := os.WriteFile(filepath.Join(dir, "soc.json"), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		if s, err := Read(dir, "soc"); err == nil || s != (State{}) {
			t.Errorf("%.20q is read as %+v", text, s)
		}
	}
}

func FuzzState(f *testing.F) {
	f.Add([]byte(`{"delivered":7,"sent":9,"records":12,"failures":1,"connected":true,"error":"x","since":"2026-11-26T04:05:06Z","written":"2026-11-26T04:05:06Z"}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		s, err := decode(text)
		if err != nil && s != (State{}) || s.Sent < s.Delivered {
			t.Errorf("%q is read as %+v, %v", text, s, err)
		}
	})
}
