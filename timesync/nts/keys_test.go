package nts

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

func openKeys(t testing.TB) *Keys {
	t.Helper()
	k, err := OpenKeys(filepath.Join(t.TempDir(), "cookies"))
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// paired is a session as establishing keys would have made it.
func paired(k *Keys) *Session {
	c2s, s2c := bytes.Repeat([]byte("<"), keyLen), bytes.Repeat([]byte(">"), keyLen)
	return &Session{c2s: newSIV((*[keyLen]byte)(c2s)), s2c: newSIV((*[keyLen]byte)(s2c)), cookies: k.cookies(c2s, s2c, maxCookies)}
}

func TestCookiesSurviveARestart(t *testing.T) {
	k := openKeys(t)
	s := paired(k)
	again, err := OpenKeys(k.path)
	if err != nil {
		t.Fatal(err)
	}
	exchange(t, again, s, nil)
	if info, err := os.Stat(k.path); err != nil || info.Mode() != 0o600 {
		t.Errorf("the file: %v, %v", info.Mode(), err)
	}
}

func TestRotation(t *testing.T) {
	k := openKeys(t)
	s := paired(k)
	now := (*k.ring.Load())[0].made
	for _, step := range []struct {
		after   time.Duration
		kept    int
		unknown bool // the cookies of the beginning
	}{
		{rotateAfter - time.Second, 1, false},
		{rotateAfter, 2, false},
		{rotateAfter + rotateAfter - time.Second, 2, false},
		{3 * rotateAfter, 3, false},
		{-24 * 365 * time.Hour, 3, true}, // the clock was set back: waiting for the future would keep one key for a year
		{-24*365*time.Hour + time.Hour, 3, true},
		{24 * 3650 * time.Hour, 3, true}, // and forth: one key more, not ten years of them
	} {
		if err := k.Rotate(now.Add(step.after)); err != nil {
			t.Fatal(err)
		}
		if kept := len(*k.ring.Load()); kept != step.kept {
			t.Fatalf("after %s: %d keys, want %d", step.after, kept, step.kept)
		}
		if step.unknown {
			refused(t, k, s)
		} else {
			exchange(t, k, s, nil)
			s.cookies = s.cookies[:maxCookies-1] // one of the beginning is always next
		}
		again, err := OpenKeys(k.path)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(formatKeys(*again.ring.Load()), formatKeys(*k.ring.Load())) {
			t.Fatalf("after %s: other keys are on disk", step.after)
		}
	}
	exchange(t, k, paired(k), nil) // the control: who established keys anew is served
}

func TestWhatCannotBeKeptIsNotUsed(t *testing.T) {
	k := openKeys(t)
	before := formatKeys(*k.ring.Load())
	if err := os.RemoveAll(filepath.Dir(k.path)); err != nil {
		t.Fatal(err)
	}
	if err := k.Rotate(time.Now().Add(48 * time.Hour)); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("rotate without a folder: %v", err)
	}
	if !bytes.Equal(formatKeys(*k.ring.Load()), before) {
		t.Error("a key is used that a restart would forget")
	}
}

func TestRunRotates(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := openKeys(t)
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() { k.Run(ctx, func(err error) { t.Error(err) }); close(done) }()
		first := (*k.ring.Load())[0].number
		time.Sleep(rotateAfter + lookEvery)
		synctest.Wait()
		if ring := *k.ring.Load(); len(ring) != 2 || ring[0].number == first || ring[1].number != first {
			t.Errorf("after a day: %d keys", len(ring))
		}
		cancel()
		<-done
	})
}

func TestOpenKeysRefuses(t *testing.T) {
	path := openKeys(t).path
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for want, change := range map[string]func(){
		"no key":                  func() { write(t, path, nil) },
		"line 1: want number":     func() { write(t, path, text[:20]) },
		"line 2":                  func() { write(t, path, append(text, text...)) },
		"not the number of a key": func() { write(t, path, append([]byte("x"), text[1:]...)) },
		"larger than allowed":     func() { write(t, path, make([]byte, maxKeyFile+1)) },
		"want a regular file":     func() { write(t, path, text); os.Chmod(path, 0o640) },
	} {
		change()
		_, err := OpenKeys(path)
		if err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), path) {
			t.Errorf("want %q: %v", want, err)
		}
		os.Chmod(path, 0o600)
	}
	write(t, path, text)
	if _, err := OpenKeys(path); err != nil { // the control
		t.Error(err)
	}
}

func write(t *testing.T, path string, text []byte) {
	t.Helper()
	if err := os.WriteFile(path, text, 0o600); err != nil {
		t.Fatal(err)
	}
}

func FuzzParseKeys(f *testing.F) {
	f.Add([]byte("1a2b3c4d 2026-11-26T10:00:00Z yAnz5TF+lXXJte14tji3zlMNq+hd2rYUIgJBgB3fBmk=\n"))
	f.Add([]byte("1a2b3c4d 2026-11-26T10:00:00Z yAnz5TF+lXXJte14tji3zlMNq+hd2rYUIgJBgB3fBmk=\n1a2b3c4e 2026-11-25T10:00:00Z yAnz5TF+lXXJte14tji3zlMNq+hd2rYUIgJBgB3fBmk=\n"))
	f.Add([]byte("1a2b3c4d yAnz5TF+lXXJte14tji3zlMNq+hd2rYUIgJBgB3fBmk=\n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		ring, err := parseKeys(text)
		if err != nil {
			if words := bytes.Fields(text); len(words) > 2 && len(words[2]) > 8 && strings.Contains(err.Error(), string(words[2])) {
				t.Errorf("the error shows a key: %v", err)
			}
			return
		}
		again, err := parseKeys(formatKeys(ring))
		if err != nil || !bytes.Equal(formatKeys(again), formatKeys(ring)) || len(ring) > keptKeys {
			t.Errorf("%q comes back as %q: %v", formatKeys(ring), formatKeys(again), err)
		}
	})
}

// TestKeysDoNotPrint looks for the bytes of all keys in what fmt makes of what holds them.
func TestKeysDoNotPrint(t *testing.T) {
	k := openKeys(t)
	s := paired(k)
	request, err := s.Seal(header())
	if err != nil {
		t.Fatal(err)
	}
	x, err := k.Open(request)
	if err != nil {
		t.Fatal(err)
	}
	key := (*k.ring.Load())[0].key.Reveal()
	var printed strings.Builder
	type holds struct{ x, s any }
	for _, value := range []any{k, x, &x, s, holds{x, s}, &holds{&x, s}, *k.ring.Load(), (*k.ring.Load())[0]} {
		fmt.Fprintf(&printed, "%v %+v %#v %s %x %d\n", value, value, value, value, value, value)
	}
	for _, raw := range [][]byte{key[:8], []byte("<<<<<<<<"), []byte(">>>>>>>>"), s.c2s.k1[:8], s.s2c.start[:8]} {
		for _, bad := range []string{hex.EncodeToString(raw), base64.StdEncoding.EncodeToString(raw)[:8], strings.Trim(fmt.Sprint(raw), "[]"), string(raw)} {
			if strings.Contains(printed.String(), bad) {
				t.Errorf("%q is in what is printed", bad)
			}
		}
	}
}
