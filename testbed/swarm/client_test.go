package swarm

import (
	"context"
	"errors"
	"io"
	"os"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// A client and Main at the two ends of the pipes, in one process.
func TestClientAndMain(t *testing.T) {
	ended := make(chan int, 1)
	c, err := Start(func(in, out *os.File) error {
		// Start closes its own ends: the program has copies, as one in another process would.
		copies := make([]*os.File, 2)
		for i, f := range []*os.File{in, out} {
			fd, err := dup(f)
			if err != nil {
				return err
			}
			copies[i] = fd
		}
		go func() {
			ended <- Main(t.Context(), nil, copies[0], copies[1], io.Discard)
			copies[0].Close()
			copies[1].Close()
		}()
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if answer, err := c.Ask(t.Context(), Command{Do: "report"}); err != nil || len(answer.Reports) != 0 {
		t.Errorf("report of nobody: %+v, %v", answer, err)
	}
	if _, err := c.Ask(t.Context(), Command{Do: "fly"}); err == nil || !strings.Contains(err.Error(), "fly") {
		t.Errorf("a command that there is not: %v", err)
	}
	c.Close()
	select {
	case <-ended:
	case <-time.After(20 * time.Second):
		t.Fatal("the swarm goes on without its input")
	}
}

// Asking ends with its context, though the swarm says nothing.
func TestAskEndsWithItsContext(t *testing.T) {
	var kept []*os.File
	c, err := Start(func(in, out *os.File) error {
		for _, f := range []*os.File{in, out} {
			fd, err := dup(f)
			if err != nil {
				return err
			}
			kept = append(kept, fd)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		for _, f := range kept {
			f.Close()
		}
	}()
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	if _, err := c.Ask(ctx, Command{Do: "report"}); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("asking a swarm that is silent: %v", err)
	}
}

func TestStartThatFailsLeavesNothing(t *testing.T) {
	refused := errors.New("refused")
	if c, err := Start(func(_, _ *os.File) error { return refused }); !errors.Is(err, refused) || c != nil {
		t.Errorf("Start = %v, %v", c, err)
	}
}

func dup(f *os.File) (*os.File, error) {
	fd, err := unix.Dup(int(f.Fd())) // Fd makes both of them blocking
	if err != nil {
		return nil, err
	}
	return os.NewFile(uintptr(fd), f.Name()), nil
}
