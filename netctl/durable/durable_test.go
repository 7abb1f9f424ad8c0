package durable

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"shekara/netctl/probe"
	"shekara/netctl/probe/probetest"
)

var errInjected = errors.New("injected")

// commitPoints runs work once for each system call that it makes, failing that call, before or after it was made.
func commitPoints(t *testing.T, setup func(dir string), work func(d disk, dir string) error, check func(t *testing.T, dir string, failed bool)) {
	var names []string
	dir := t.TempDir()
	setup(dir)
	if err := work(disk{func(name string, do func() error) error { names = append(names, name); return do() }}, dir); err != nil {
		t.Fatal(err)
	}
	check(t, dir, false)
	if len(names) < 2 {
		t.Fatalf("only the steps %q go through the seam", names)
	}
	for at, name := range names {
		for _, persisted := range []bool{false, true} {
			t.Run(fmt.Sprintf("%d %s, persisted %v", at, name, persisted), func(t *testing.T) {
				dir := t.TempDir()
				setup(dir)
				count := 0
				err := work(disk{func(_ string, do func() error) error {
					count++
					if count-1 != at {
						return do()
					}
					if persisted {
						if err := do(); err != nil {
							return err
						}
					}
					return errInjected
				}}, dir)
				if !errors.Is(err, errInjected) {
					t.Errorf("error is %v", err)
				}
				check(t, dir, true)
			})
		}
	}
}

func TestWriteFileOldOrNew(t *testing.T) {
	old, renewed := bytes.Repeat([]byte("old"), 1000), bytes.Repeat([]byte("new"), 5000)
	commitPoints(t, func(dir string) {
		if err := os.WriteFile(filepath.Join(dir, "f"), old, 0o600); err != nil {
			t.Fatal(err)
		}
	}, func(d disk, dir string) error {
		return d.writeFile(filepath.Join(dir, "f"), renewed, 0o640, true)
	}, func(t *testing.T, dir string, failed bool) {
		got, err := os.ReadFile(filepath.Join(dir, "f"))
		if err != nil || !bytes.Equal(got, renewed) && !(failed && bytes.Equal(got, old)) {
			t.Errorf("file holds %d bytes, %v", len(got), err)
		}
		if entries, _ := os.ReadDir(dir); len(entries) != 1 {
			t.Errorf("folder holds %v", entries)
		}
		if info, _ := os.Stat(filepath.Join(dir, "f")); bytes.Equal(got, renewed) && info.Mode() != 0o640 {
			t.Errorf("mode is %v", info.Mode())
		}
	})
}

func TestCreateFileNothingOrNew(t *testing.T) {
	content := []byte("content")
	commitPoints(t, func(string) {}, func(d disk, dir string) error {
		return d.writeFile(filepath.Join(dir, "f"), content, 0o600, false)
	}, func(t *testing.T, dir string, failed bool) {
		got, err := os.ReadFile(filepath.Join(dir, "f"))
		if !(err == nil && bytes.Equal(got, content)) && !(failed && errors.Is(err, fs.ErrNotExist)) {
			t.Errorf("file holds %q, %v", got, err)
		}
	})
	path := filepath.Join(t.TempDir(), "f")
	if err := CreateFile(path, content, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := CreateFile(path, []byte("other"), 0o600); !errors.Is(err, fs.ErrExist) {
		t.Errorf("second CreateFile: %v", err)
	}
	if got, _ := os.ReadFile(path); !bytes.Equal(got, content) {
		t.Errorf("the first content became %q", got)
	}
}

func TestRemoveRenameMkdirAll(t *testing.T) {
	write := func(dir string) {
		if err := os.WriteFile(filepath.Join(dir, "f"), []byte("x"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	exists := func(path ...string) bool { _, err := os.Stat(filepath.Join(path...)); return err == nil }
	t.Run("remove", func(t *testing.T) {
		commitPoints(t, write, func(d disk, dir string) error { return d.remove(filepath.Join(dir, "f")) },
			func(t *testing.T, dir string, failed bool) {
				if exists(dir, "f") && !failed {
					t.Error("still there")
				}
			})
		if err := Remove(filepath.Join(t.TempDir(), "never", "was")); err != nil {
			t.Errorf("remove what is not there: %v", err)
		}
	})
	t.Run("rename", func(t *testing.T) {
		commitPoints(t, write, func(d disk, dir string) error { return d.rename(filepath.Join(dir, "f"), filepath.Join(dir, "g")) },
			func(t *testing.T, dir string, failed bool) {
				if exists(dir, "f") == exists(dir, "g") || !failed && exists(dir, "f") {
					t.Errorf("old name %v, new name %v", exists(dir, "f"), exists(dir, "g"))
				}
			})
	})
	t.Run("mkdir", func(t *testing.T) {
		commitPoints(t, func(string) {}, func(d disk, dir string) error { return d.mkdirAll(filepath.Join(dir, "a", "b"), 0o700) },
			func(t *testing.T, dir string, failed bool) {
				if !failed && !exists(dir, "a", "b") || exists(dir, "a", "b") && !exists(dir, "a") {
					t.Error("not there")
				}
				if err := MkdirAll(filepath.Join(dir, "a", "b"), 0o700); err != nil { // again, to the end
					t.Error(err)
				}
			})
	})
}

func TestReadFileIsBounded(t *testing.T) {
	path := filepath.Join(t.TempDir(), "f")
	if err := WriteFile(path, make([]byte, 100), 0o600); err != nil {
		t.Fatal(err)
	}
	if data, err := ReadFile(path, 100); err != nil || len(data) != 100 {
		t.Errorf("%d bytes, %v", len(data), err)
	}
	if _, err := ReadFile(path, 99); !errors.Is(err, ErrTooLarge) {
		t.Errorf("error is %v", err)
	}
	if _, err := ReadFile(filepath.Dir(path), 99); err == nil {
		t.Error("a folder was read")
	}
}

func TestLog(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log")
	var fail string
	short := false
	var l *Log
	d := disk{func(name string, do func() error) error {
		if name != fail {
			return do()
		}
		if short {
			_, _ = l.file.Write([]byte("sec"))
		}
		return errInjected
	}}
	l, err := d.openLog(path, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	must(l.Append([]byte("first\n")))
	must(l.Sync())
	fail, short = "write", true
	if err := l.Append([]byte("second\n")); !errors.Is(err, errInjected) {
		t.Errorf("append: %v", err)
	}
	fail = ""
	must(l.Append([]byte("third\n")))
	must(l.Truncate(int64(len("first\nthi"))))
	must(l.Truncate(int64(len("first\n"))))
	must(l.Append([]byte("fourth\n")))
	fail, short = "fdatasync", false
	if err := l.Sync(); !errors.Is(err, errInjected) {
		t.Errorf("sync: %v", err)
	}
	fail = ""
	if l.Sync() == nil || l.Append(nil) == nil || l.Truncate(0) == nil {
		t.Error("a log goes on after a failed sync")
	}
	must(l.Close())
	if got, err := os.ReadFile(path); err != nil || string(got) != "first\nfourth\n" {
		t.Errorf("log holds %q, %v", got, err)
	}
	again, err := OpenLog(path, 0o600)
	must(err)
	if again.Size() != int64(len("first\nfourth\n")) {
		t.Errorf("size is %d", again.Size())
	}
	must(again.Close())
}

func TestLockNamesItsHolder(t *testing.T) {
	path := filepath.Join(t.TempDir(), "lock")
	lock, err := AcquireLock(path)
	if err != nil {
		t.Fatal(err)
	}
	var held *HeldError
	if _, err := AcquireLock(path); !errors.As(err, &held) || held.PID != os.Getpid() {
		t.Errorf("second lock: %v", err)
	}
	if err := lock.Release(); err != nil {
		t.Fatal(err)
	}
	if lock, err = AcquireLock(path); err != nil {
		t.Fatal(err)
	}
	lock.Release()
}

// A disk that takes no writing neither keeps the lock from being taken nor keeps nobody out.
func TestLockOnAReadOnlyDisk(t *testing.T) {
	probetest.Need(t, probe.Root) // to mount a read-only file system
	dir := t.TempDir()
	path := filepath.Join(dir, "lock")
	if lock, err := AcquireLock(path); err != nil || lock.Release() != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // and never unlocked: the thread's mount namespace ends with it
		done <- func() error {
			if err := errors.Join(unix.Unshare(unix.CLONE_FS|unix.CLONE_NEWNS), unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, "")); err != nil {
				return err
			}
			if err := errors.Join(unix.Mount(dir, dir, "", unix.MS_BIND, ""), unix.Mount("", dir, "", unix.MS_BIND|unix.MS_REMOUNT|unix.MS_RDONLY, "")); err != nil {
				return err
			}
			if err := os.WriteFile(filepath.Join(dir, "control"), nil, 0o600); !errors.Is(err, unix.EROFS) {
				return fmt.Errorf("the control: a write answers %w", err)
			}
			lock, err := AcquireLock(path)
			if err != nil {
				return err
			}
			defer lock.Release()
			var held *HeldError
			if _, err := AcquireLock(path); !errors.As(err, &held) {
				return fmt.Errorf("second lock: %w", err)
			}
			return nil
		}()
	}()
	if err := <-done; err != nil {
		t.Error(err)
	}
}

// childFolder makes the test binary a writer that is killed; see TestKilledWriter.
const childFolder = "SHEKARA_DURABLE_TEST_FOLDER"

func TestMain(m *testing.M) {
	if dir := os.Getenv(childFolder); dir != "" {
		for i := 0; ; i++ {
			body := bytes.Repeat([]byte{byte(i)}, 1+i*37%100_000)
			sum := sha256.Sum256(body)
			if err := WriteFile(filepath.Join(dir, "f"), append(sum[:], body...), 0o600); err != nil {
				fmt.Println(err)
				os.Exit(1)
			}
			if i == 0 {
				fmt.Println("ready")
			}
		}
	}
	os.Exit(m.Run())
}

func TestKilledWriter(t *testing.T) {
	dir := t.TempDir()
	left := 0
	for round := range 40 {
		child := exec.Command(os.Args[0])
		child.Env = append(os.Environ(), childFolder+"="+dir)
		out, err := child.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := child.Start(); err != nil {
			t.Fatal(err)
		}
		ready := make([]byte, 5)
		if _, err := out.Read(ready); err != nil || string(ready) != "ready" {
			t.Fatalf("child says %q, %v", ready, err)
		}
		time.Sleep(time.Duration(round*97%1000) * 10 * time.Microsecond) // where it dies is the point, not when
		if err := child.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		_ = child.Wait() // killed
		data, err := os.ReadFile(filepath.Join(dir, "f"))
		if err != nil || len(data) < sha256.Size {
			t.Fatalf("round %d: %d bytes, %v", round, len(data), err)
		}
		if sum := sha256.Sum256(data[sha256.Size:]); !bytes.Equal(sum[:], data[:sha256.Size]) {
			t.Fatalf("round %d: the file is torn", round)
		}
		entries, _ := os.ReadDir(dir)
		for _, entry := range entries {
			if strings.HasSuffix(entry.Name(), ".tmp") {
				left++
			}
		}
		if err := RemoveTemporary(dir); err != nil {
			t.Fatal(err)
		}
		if entries, _ := os.ReadDir(dir); len(entries) != 1 {
			t.Fatalf("round %d: folder holds %v", round, entries)
		}
	}
	if left == 0 {
		t.Error("no kill ever hit a write under way: the test shows nothing")
	}
}
