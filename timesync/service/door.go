package service

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"shekara/netctl/socket"
	"shekara/timesync/server"
)

const (
	socketName  = "time.sock"
	answerTime  = 10 * time.Second
	reportBytes = 8 << 20 // of an answer that the daemon reads
	// MaxClients is how many clients are given at once.
	MaxClients = 10_000
)

// teller is what the door tells of.
type teller interface {
	Report() Report
	Clients(after netip.Addr, limit int) []server.Client
}

// listen takes over a socket that a killed process left: the lock on the state folder says that no other lives. The daemon has no right to pass over modes (CAP_DAC_OVERRIDE), so
// anybody may connect; who he is decides.
func listen(dir string) (net.Listener, error) {
	path := filepath.Join(dir, socketName)
	if info, err := os.Lstat(path); err == nil && info.Mode().Type() != fs.ModeSocket {
		return nil, fmt.Errorf("%s is there and is no socket", path)
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	l, err := net.Listen("unix", path)
	if err != nil {
		return nil, err
	}
	return l, os.Chmod(path, 0o666)
}

// known lets in root and its own user. Of anybody else a connection is closed at once, so that none can be used up.
type known struct {
	net.Listener
	own uint32
}

// Accept is net.Listener's.
func (k known) Accept() (net.Conn, error) {
	for {
		c, err := k.Listener.Accept()
		if err != nil {
			return nil, err
		}
		if u, is := c.(*net.UnixConn); is {
			if peer, err := socket.Peer(u); err == nil && (peer.UID == 0 || peer.UID == k.own) {
				return c, nil
			}
		}
		_ = c.Close()
	}
}

// serve answers until the context ends.
func serve(ctx context.Context, l net.Listener, t teller) error {
	own := uint32(os.Getuid())
	mux := http.NewServeMux()
	answer := func(w http.ResponseWriter, body any) {
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(body) // who went away needs no answer
	}
	mux.HandleFunc("GET /report", func(w http.ResponseWriter, _ *http.Request) { answer(w, t.Report()) })
	mux.HandleFunc("GET /clients", func(w http.ResponseWriter, r *http.Request) {
		after, _ := netip.ParseAddr(r.URL.Query().Get("after")) // none: from the first
		limit, err := strconv.Atoi(r.URL.Query().Get("limit"))
		if err != nil || limit < 1 || limit > MaxClients {
			limit = MaxClients
		}
		answer(w, t.Clients(after, limit))
	})
	doorkeeper := &http.Server{Handler: mux, ReadTimeout: answerTime, WriteTimeout: answerTime, MaxHeaderBytes: 4096}
	stop := context.AfterFunc(ctx, func() { _ = doorkeeper.Close() })
	defer stop()
	if err := doorkeeper.Serve(known{l, own}); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

// Reporter asks the process whose run folder this is.
type Reporter struct{ client *http.Client }

// NewReporter opens nothing yet.
func NewReporter(runDir string) *Reporter {
	path := filepath.Join(runDir, socketName)
	dial := func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", path)
	}
	return &Reporter{&http.Client{Transport: &http.Transport{DialContext: dial, MaxIdleConns: 1, IdleConnTimeout: time.Minute}}}
}

// Report is how it stands.
func (r *Reporter) Report(ctx context.Context) (report Report, err error) {
	err = r.ask(ctx, "/report", &report)
	return report, err
}

// Clients are at most limit addresses that asked, those after one ("": from the first), by address.
func (r *Reporter) Clients(ctx context.Context, after string, limit int) (clients []server.Client, err error) {
	err = r.ask(ctx, "/clients?"+url.Values{"after": {after}, "limit": {strconv.Itoa(limit)}}.Encode(), &clients)
	return clients, err
}

func (r *Reporter) ask(ctx context.Context, path string, into any) error {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://time"+path, nil)
	if err != nil {
		return err
	}
	response, err := r.client.Do(request)
	if err != nil {
		var why *url.Error // its text repeats the address that nobody knows
		if errors.As(err, &why) {
			err = why.Err
		}
		return err
	}
	defer response.Body.Close()
	body := io.LimitReader(response.Body, reportBytes)
	if response.StatusCode != http.StatusOK {
		text, _ := io.ReadAll(io.LimitReader(body, 200))
		return fmt.Errorf("%s: %s", response.Status, text)
	}
	if err := json.NewDecoder(body).Decode(into); err != nil {
		return fmt.Errorf("read the answer: %w", err)
	}
	return nil
}
