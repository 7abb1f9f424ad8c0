package dataplane

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
)

// TestHandover gives a file through the real sockets, with a process that is a goroutine.
func TestHandover(t *testing.T) {
	order := Order{Name: "sk-x", MTU: 1420, Port: 51820, Mark: 0x5301}
	for name, c := range map[string]struct {
		result error // what the process says
		want   string
	}{
		"ready":   {nil, ""},
		"refused": {errors.New("listen on UDP port 51820: in use"), "listen on UDP port 51820: in use"},
	} {
		t.Run(name, func(t *testing.T) {
			folder, err := os.MkdirTemp("", "sk") // a socket's path is short
			if err != nil {
				t.Fatal(err)
			}
			defer os.RemoveAll(folder)
			null, err := os.Open(os.DevNull)
			if err != nil {
				t.Fatal(err)
			}
			defer null.Close()
			process := make(chan error, 1)
			err = Give(t.Context(), folder+"/dataplane", order, null, func() error {
				go func() {
					h, err := take(t.Context(), folder, order.Name)
					if err == nil {
						if diff := cmp.Diff(order, h.order); diff != "" {
							err = errors.New(diff)
						}
						h.tun.Close()
						err = errors.Join(err, h.answer(c.result))
					}
					process <- err
				}()
				return nil
			})
			if got := fmt.Sprint(err); got != c.want && (c.want != "" || err != nil) {
				t.Errorf("the daemon hears %q, want %q", got, c.want)
			}
			if err := <-process; err != nil {
				t.Error(err)
			}
			if left, err := os.ReadDir(folder + "/dataplane"); err != nil || len(left) > 0 {
				t.Errorf("sockets left: %v, %v", left, err)
			}
		})
	}
}

func TestHandoverThatFails(t *testing.T) {
	order := Order{Name: "sk-x"}
	ctx, cancel := context.WithCancel(t.Context())
	err := Give(ctx, t.TempDir()+"/d", order, nil, func() error { cancel(); return nil })
	if err == nil || !strings.Contains(err.Error(), "wait for the process of sk-x") {
		t.Errorf("a process that does not come gives %v", err)
	}
	if err := Give(t.Context(), t.TempDir()+strings.Repeat("/long", 25), order, nil, nil); err == nil || !strings.Contains(err.Error(), "longer than 107") {
		t.Errorf("a path that is too long gives %v", err)
	}
	if _, err := take(t.Context(), t.TempDir(), "sk-x"); err == nil || !strings.Contains(err.Error(), "no daemon offers") {
		t.Errorf("a process without daemon gets %v", err)
	}
}

// TestLogIsBounded: a burst is shown, the rest of a minute is counted, and the next minute shows again.
func TestLogIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var out strings.Builder
		l := logger(slog.New(slog.NewTextHandler(&out, nil)))
		for range 1000 {
			l.Errorf("peer %s - no known endpoint", "abcd…efgh")
		}
		if got := strings.Count(out.String(), "\n"); got != linesEach {
			t.Errorf("%d lines of 1000, want %d", got, linesEach)
		}
		l.Verbosef("handshake with everybody")
		time.Sleep(linesPeriod)
		l.Errorf("again")
		if text := out.String(); !strings.Contains(text, "suppressed=970") || !strings.Contains(text, "again") || strings.Contains(text, "everybody") {
			t.Errorf("after a minute the log ends %q", text[max(0, len(text)-200):])
		}
	})
}
