package source

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"unicode/utf8"

	"shekara/provisioning/document"
)

// MaxBytes is how much all files of one Read may hold together: what the daemon takes in one request, less its quoting.
const MaxBytes = 60 << 20

// Error is what kept a file from being read, with the next step.
type Error struct {
	Name string
	Err  error
	hint string
}

func (e *Error) Error() string { return fmt.Sprintf("read %s: %v", e.Name, e.Err) }
func (e *Error) Unwrap() error { return e.Err }

// Hint is the next step.
func (e *Error) Hint() string { return e.hint }

var (
	// ErrTooLarge says that the files hold more than MaxBytes together.
	ErrTooLarge = fmt.Errorf("the documents hold more than %d MiB together", MaxBytes>>20)
	// ErrNotText says that a file is not UTF-8, and so not YAML.
	ErrNotText = errors.New("it is not UTF-8 text")
)

// Read gathers documents in the order of names: files, "-" for stdin, and of a directory its *.yaml and *.yml, sorted.
// A directory without any is no error. Errors are of type *Error.
func Read(names []string, stdin io.Reader) ([]document.File, error) {
	var files []document.File
	left := MaxBytes
	for _, name := range names {
		paths, err := expand(name)
		if err != nil {
			return nil, refuse(name, err)
		}
		for _, path := range paths {
			data, err := readPath(path, stdin, left)
			if path == "-" {
				path = "standard input"
			}
			if err != nil {
				return nil, refuse(path, err)
			}
			left -= len(data)
			files = append(files, document.File{Name: path, Data: data})
		}
	}
	return files, nil
}

func expand(name string) ([]string, error) {
	if name == "-" {
		return []string{name}, nil
	}
	info, err := os.Stat(name)
	if err != nil || !info.IsDir() {
		return []string{name}, err
	}
	entries, err := os.ReadDir(name)
	if err != nil {
		return nil, err
	}
	var paths []string
	for _, e := range entries {
		if extension := filepath.Ext(e.Name()); !e.IsDir() && (extension == ".yaml" || extension == ".yml") {
			paths = append(paths, filepath.Join(name, e.Name()))
		}
	}
	slices.Sort(paths)
	return paths, nil
}

func readPath(path string, stdin io.Reader, most int) ([]byte, error) {
	if path == "-" {
		return readAll(stdin, most)
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return readAll(f, most)
}

func readAll(from io.Reader, most int) ([]byte, error) {
	data, err := io.ReadAll(io.LimitReader(from, int64(most)+1))
	switch {
	case err != nil:
		return nil, err
	case len(data) > most:
		return nil, ErrTooLarge
	case !utf8.Valid(data):
		return nil, ErrNotText
	}
	return data, nil
}

func refuse(name string, err error) error {
	e := &Error{Name: name, Err: err, hint: "give files or directories with *.yaml in them, or - for standard input"}
	var path *fs.PathError
	if errors.As(err, &path) {
		e.Err = path.Err // the name stands before it already
	}
	switch {
	case errors.Is(err, ErrTooLarge):
		e.hint = "apply them in several steps, each with some of the files"
	case errors.Is(err, ErrNotText):
		e.hint = "is it a YAML file? save it as UTF-8"
	case errors.Is(err, fs.ErrPermission):
		e.hint = "it must be readable to you"
	}
	return e
}
