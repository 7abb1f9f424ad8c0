package client_test

import (
	"context"
	"errors"
	"io/fs"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"shekara/journal"
	"shekara/provisioning/api"
	"shekara/provisioning/client"
)

// runDirectory is short: a unix socket's path holds 107 bytes.
func runDirectory(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "sk")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

// answer serves a handler at one of the sockets.
func answer(t *testing.T, path string, handle http.HandlerFunc) {
	t.Helper()
	listener, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{Handler: handle}
	done := make(chan struct{})
	go func() { _ = server.Serve(listener); close(done) }()
	t.Cleanup(func() { server.Close(); <-done })
}

func TestNobodyListens(t *testing.T) {
	dir := runDirectory(t)
	_, err := client.New(dir).Status(t.Context())
	var e *client.Error
	if !errors.As(err, &e) || !errors.Is(err, fs.ErrNotExist) || e.Problem != nil || !strings.Contains(e.Text, filepath.Join(dir, client.ActSocket)) || e.Hint == "" {
		t.Errorf("without a socket: %#v", err)
	}
	// What a killed daemon leaves: a file that nobody holds.
	listener, err := net.ListenUnix("unix", &net.UnixAddr{Net: "unix", Name: filepath.Join(dir, client.ActSocket)})
	if err != nil {
		t.Fatal(err)
	}
	listener.SetUnlinkOnClose(false)
	listener.Close()
	if _, err := client.New(dir).Status(t.Context()); err == nil || !strings.Contains(err.Error(), "shekarad does not run") {
		t.Errorf("with a stale socket: %v", err)
	}
}

func TestInterrupted(t *testing.T) {
	dir := runDirectory(t)
	ctx, interrupt := context.WithCancel(t.Context())
	answer(t, filepath.Join(dir, client.ActSocket), func(_ http.ResponseWriter, r *http.Request) {
		interrupt()
		<-r.Context().Done()
	})
	if _, err := client.New(dir).Status(ctx); err == nil || err.Error() != "interrupted" || !errors.Is(err, context.Canceled) {
		t.Errorf("interrupted: %v", err)
	}
}

func TestAnswersThatAreNotOurs(t *testing.T) {
	for name, c := range map[string]struct {
		status int
		body   string
		want   string
	}{
		"an error that is no problem":   {502, "<html>", "shekarad answered 502 Bad Gateway"},
		"a problem without a word":      {500, "{}", "shekarad answered 500"},
		"an answer that is not JSON":    {200, "hello", "read the answer to GET /status"},
		"an answer that is cut":         {200, `{"site":"ow`, "read the answer to GET /status"},
		"a problem with its own fields": {422, `{"detail":"no","fields":[{"location":"query.a","message":"b"}]}`, "no; query.a: b"},
	} {
		dir := runDirectory(t)
		answer(t, filepath.Join(dir, client.ActSocket), func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(c.status)
			_, _ = w.Write([]byte(c.body))
		})
		if _, err := client.New(dir).Status(t.Context()); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", name, err, c.want)
		}
	}
}

func TestStreamThatEnds(t *testing.T) {
	for name, c := range map[string]struct{ body, want string }{
		"well":      {"\n{\"sequence\":1}\n\n{\"sequence\":2}\n", "shekarad ended the stream"},
		"in a line": {"{\"sequence\":1}\n{\"sequence\":2}\n{\"sequ", "read /events/stream"},
	} {
		dir := runDirectory(t)
		answer(t, filepath.Join(dir, client.ActSocket), func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte(c.body)) })
		var got []uint64
		err := client.New(dir).FollowEvents(t.Context(), 0, api.EventFilter{}, func(e journal.Event) error { got = append(got, e.Sequence); return nil })
		if err == nil || !strings.Contains(err.Error(), c.want) || len(got) != 2 {
			t.Errorf("a stream that ends %s: %v after %v, want %q after 2", name, err, got, c.want)
		}
	}
}

// TestBaseTravels: the revision that a plan was made from is an entity tag (RFC 9110, section 8.8.3); "0" is that of an empty box.
func TestBaseTravels(t *testing.T) {
	dir := runDirectory(t)
	matches := make(chan string, 2)
	answer(t, filepath.Join(dir, client.ActSocket), func(w http.ResponseWriter, r *http.Request) {
		matches <- r.Header.Get("If-Match")
		_, _ = w.Write([]byte("{}"))
	})
	for base, want := range map[int]string{client.Newest: "*", 0: `"0"`, 12: `"12"`} {
		if _, err := client.New(dir).Apply(t.Context(), api.Documents{}, base); err != nil {
			t.Fatal(err)
		}
		if got := <-matches; got != want {
			t.Errorf("If-Match of base %d is %s, want %s", base, got, want)
		}
	}
}
