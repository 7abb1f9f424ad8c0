package client

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"net/url"
	"path/filepath"
	"strconv"
	"time"

	"shekara/journal"
	"shekara/provisioning"
	"shekara/provisioning/api"
	"shekara/provisioning/verification"
)

// ActSocket and ViewSocket are the names of the daemon's sockets in its run directory.
const (
	ActSocket  = "shekarad.sock"
	ViewSocket = "shekarad-view.sock"
)

const (
	base        = "http://shekarad/api/v1"
	maxAnswer   = 512 << 20 // 10,000 tunnels are some 10 MiB; this only stops a runaway
	maxLine     = 4 << 20
	dialTimeout = 5 * time.Second
)

// Client is safe for use by several goroutines.
type Client struct {
	http  *http.Client
	plans url.Values // query of what is answered with a plan
}

// New makes a client for the daemon whose sockets are in runDirectory. It does not connect yet.
func New(runDirectory string) *Client {
	dial := func(ctx context.Context, _, _ string) (net.Conn, error) {
		dialer := net.Dialer{Timeout: dialTimeout}
		conn, err := dialer.DialContext(ctx, "unix", filepath.Join(runDirectory, ActSocket))
		if errors.Is(err, fs.ErrPermission) {
			// Members of shekara-view may not open the first; the second only looks.
			if view, viewErr := dialer.DialContext(ctx, "unix", filepath.Join(runDirectory, ViewSocket)); viewErr == nil {
				return view, nil
			}
		}
		return conn, err
	}
	return &Client{http: &http.Client{Transport: &http.Transport{DialContext: dial, DisableCompression: true}}}
}

// Error is what went wrong, with the next step. Problem is the daemon's answer; nil if it was not reached.
type Error struct {
	Text    string
	Hint    string
	Problem *api.Problem
	Err     error
}

func (e *Error) Error() string { return e.Text }
func (e *Error) Unwrap() error { return e.Err }

// unreachable says in the operator's words why the daemon could not be asked.
func unreachable(err error) error {
	var where *net.OpError
	path, dialing := "its socket", false
	if errors.As(err, &where) && where.Addr != nil {
		path, dialing = where.Addr.String(), where.Op == "dial"
	}
	e := &Error{Err: err}
	switch {
	case errors.Is(err, context.Canceled):
		e.Text = "interrupted"
	case errors.Is(err, fs.ErrPermission):
		e.Text = "you may not speak to shekarad: " + path + " is not open to you"
		e.Hint = "ask the administrator to add you to group shekara (acts) or shekara-view (looks), then log in anew; or use sudo"
	case dialing: // no such file, or a socket that nobody holds any more
		e.Text = "shekarad does not run: nobody listens at " + path
		e.Hint = "start it with systemctl start shekarad; its log is in journalctl -u shekarad"
	default:
		e.Text = fmt.Sprintf("ask shekarad at %s: %v", path, errors.Unwrap(err))
		e.Hint = "journalctl -u shekarad shows what the daemon did meanwhile"
	}
	return e
}

type request struct {
	method, path string
	query        url.Values
	body         any
	match        string // If-Match
}

func (c *Client) do(ctx context.Context, r request) (*http.Response, error) {
	answer, err := c.send(ctx, r)
	if err != nil {
		return nil, err
	}
	if answer.StatusCode >= 400 {
		defer answer.Body.Close()
		return nil, refused(answer)
	}
	return answer, nil
}

func (c *Client) send(ctx context.Context, r request) (*http.Response, error) {
	var body io.Reader
	if r.body != nil {
		text, err := json.Marshal(r.body)
		if err != nil {
			return nil, fmt.Errorf("encode request: %w", err)
		}
		body = bytes.NewReader(text)
	}
	target := base + r.path
	if len(r.query) > 0 {
		target += "?" + r.query.Encode()
	}
	req, err := http.NewRequestWithContext(ctx, r.method, target, body)
	if err != nil {
		return nil, fmt.Errorf("make request: %w", err)
	}
	if body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	if r.match != "" {
		req.Header.Set("If-Match", r.match)
	}
	answer, err := c.http.Do(req)
	if err != nil {
		return nil, unreachable(err)
	}
	return answer, nil
}

// refused reads the problem that the daemon answered.
func refused(answer *http.Response) error {
	var p api.Problem
	text, err := io.ReadAll(io.LimitReader(answer.Body, maxAnswer))
	if err == nil {
		err = json.Unmarshal(text, &p)
	}
	if err != nil || p.Detail == "" {
		return &Error{Text: "shekarad answered " + answer.Status, Err: err, Hint: "journalctl -u shekarad has the details"}
	}
	e := &Error{Text: p.Detail, Hint: p.Hint, Problem: &p}
	for _, f := range p.Fields {
		if f.Message != p.Detail {
			e.Text += fmt.Sprintf("; %s: %s", f.Location, f.Message)
		}
	}
	return e
}

func call[T any](ctx context.Context, c *Client, r request) (T, error) {
	var out T
	answer, err := c.do(ctx, r)
	if err != nil {
		return out, err
	}
	defer answer.Body.Close()
	if err := json.NewDecoder(io.LimitReader(answer.Body, maxAnswer)).Decode(&out); err != nil {
		return out, fmt.Errorf("read the answer to %s %s: %w", r.method, r.path, err)
	}
	return out, nil
}

func (c *Client) text(ctx context.Context, r request) ([]byte, error) {
	answer, err := c.do(ctx, r)
	if err != nil {
		return nil, err
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(io.LimitReader(answer.Body, maxAnswer))
	if err != nil {
		return nil, fmt.Errorf("read the answer to %s %s: %w", r.method, r.path, err)
	}
	return text, nil
}

func (c *Client) act(ctx context.Context, r request) error {
	answer, err := c.do(ctx, r)
	if err != nil {
		return err
	}
	return answer.Body.Close()
}

// Briefly is the same client, but its plans are brief (provisioning.Plan.Brief), those in answers to Apply too.
func (c *Client) Briefly() *Client {
	return &Client{http: c.http, plans: url.Values{"brief": {"true"}}}
}

// Plan says what would change.
func (c *Client) Plan(ctx context.Context, d api.Documents) (provisioning.Plan, error) {
	return call[provisioning.Plan](ctx, c, request{method: "POST", path: "/plans", query: c.plans, body: d})
}

// Newest as the base of Apply is whichever revision is newest then.
const Newest = -1

// Apply makes documents real. Base is the revision that the plan was made from, 0 if there was none: the daemon refuses if another
// came meanwhile.
func (c *Client) Apply(ctx context.Context, d api.Documents, base int) (provisioning.Result, error) {
	match := "*"
	if base != Newest {
		match = strconv.Quote(strconv.Itoa(base))
	}
	return call[provisioning.Result](ctx, c, request{method: "POST", path: "/applies", query: c.plans, body: d, match: match})
}

// Confirm keeps the revision that waits for it.
func (c *Client) Confirm(ctx context.Context) (provisioning.Result, error) {
	return call[provisioning.Result](ctx, c, request{method: "POST", path: "/confirmations"})
}

// Rollback goes back to a revision; 0: the one before.
func (c *Client) Rollback(ctx context.Context, revision int) (provisioning.Result, error) {
	return call[provisioning.Result](ctx, c, request{method: "POST", path: "/rollbacks", body: api.Return{Revision: revision}})
}

// Hold keeps drift from being repaired for that long; 0 ends it, and answers the zero time.
func (c *Client) Hold(ctx context.Context, length time.Duration) (time.Time, error) {
	if length == 0 {
		return time.Time{}, c.act(ctx, request{method: "DELETE", path: "/holds"})
	}
	hold, err := call[api.Hold](ctx, c, request{method: "POST", path: "/holds", body: api.HoldRequest{For: length.String()}})
	return hold.Until, err
}

// History is every revision kept, newest first.
func (c *Client) History(ctx context.Context) ([]provisioning.Revision, error) {
	out, err := call[api.Revisions](ctx, c, request{method: "GET", path: "/revisions"})
	return out.Revisions, err
}

// Compare says what differs between two revisions; to 0 is the one in force.
func (c *Client) Compare(ctx context.Context, from, to int) (api.Comparison, error) {
	return call[api.Comparison](ctx, c, request{method: "GET", path: fmt.Sprintf("/revisions/%d/comparison", from),
		query: url.Values{"to": {strconv.Itoa(to)}}})
}

// Documents are the canonical documents of a revision; 0: the one in force.
func (c *Client) Documents(ctx context.Context, revision int) ([]byte, error) {
	return c.text(ctx, request{method: "GET", path: "/documents", query: url.Values{"revision": {strconv.Itoa(revision)}}})
}

// Status is the box at a glance.
func (c *Client) Status(ctx context.Context) (provisioning.Status, error) {
	return call[provisioning.Status](ctx, c, request{method: "GET", path: "/status"})
}

// Tunnels is every tunnel, or those in one state.
func (c *Client) Tunnels(ctx context.Context, state string) ([]provisioning.TunnelStatus, error) {
	r := request{method: "GET", path: "/tunnels"}
	if state != "" {
		r.query = url.Values{"state": {state}}
	}
	out, err := call[api.Tunnels](ctx, c, r)
	return out.Tunnels, err
}

// Tunnel is one tunnel.
func (c *Client) Tunnel(ctx context.Context, name string) (provisioning.TunnelStatus, error) {
	return call[provisioning.TunnelStatus](ctx, c, request{method: "GET", path: "/tunnels/" + url.PathEscape(name)})
}

// Flows is what each flow carried, by name: all, or those whose names match a pattern.
func (c *Client) Flows(ctx context.Context, pattern string) (provisioning.FlowReport, error) {
	query := url.Values{"limit": {"10000"}}
	if pattern != "" {
		query.Set("name", pattern)
	}
	all := []provisioning.FlowStatus{}
	for {
		page, err := call[provisioning.FlowReport](ctx, c, request{method: "GET", path: "/flows", query: query})
		if err != nil {
			return provisioning.FlowReport{}, err
		}
		all = append(all, page.Flows...)
		if page.Next == "" {
			page.Flows = all
			return page, nil
		}
		query.Set("after", page.Next)
	}
}

// Explain says what becomes of a packet: by what is in force, or with files by what would be.
func (c *Client) Explain(ctx context.Context, question api.Explain) (provisioning.Explanation, error) {
	return call[provisioning.Explanation](ctx, c, request{method: "POST", path: "/explanations", body: question})
}

// Matrix says who may open connections to whom: by what is in force, or with files by what would be.
func (c *Client) Matrix(ctx context.Context, r api.MatrixRequest) (provisioning.Matrix, error) {
	return call[provisioning.Matrix](ctx, c, request{method: "POST", path: "/matrices", body: r})
}

// Verify holds what is loaded now against what the documents in force ask.
func (c *Client) Verify(ctx context.Context) (verification.Report, error) {
	return call[verification.Report](ctx, c, request{method: "POST", path: "/verifications"})
}

// PeerExport is this box's Peer documents, with public keys.
func (c *Client) PeerExport(ctx context.Context) ([]byte, error) {
	return c.text(ctx, request{method: "GET", path: "/peers/export"})
}

// Metrics is Prometheus' text format.
func (c *Client) Metrics(ctx context.Context) ([]byte, error) {
	return c.text(ctx, request{method: "GET", path: "/metrics"})
}

// Healthy asks for "live" or "ready". The reason is why not.
func (c *Client) Healthy(ctx context.Context, which string) (ok bool, reason string, err error) {
	answer, err := c.send(ctx, request{method: "GET", path: "/health/" + which})
	if err != nil {
		return false, "", err
	}
	defer answer.Body.Close()
	if answer.StatusCode != http.StatusOK && answer.StatusCode != http.StatusServiceUnavailable {
		return false, "", refused(answer)
	}
	var health api.Health
	if err := json.NewDecoder(io.LimitReader(answer.Body, maxAnswer)).Decode(&health); err != nil {
		return false, "", fmt.Errorf("read the answer to GET /health/%s: %w", which, err)
	}
	return health.OK, health.Reason, nil
}

// Secrets are names and this box's recipient.
func (c *Client) Secrets(ctx context.Context) (api.Secrets, error) {
	return call[api.Secrets](ctx, c, request{method: "GET", path: "/secrets"})
}

// NewSecret makes a preshared key on the box.
func (c *Client) NewSecret(ctx context.Context, name string) error {
	return c.act(ctx, request{method: "POST", path: "/secrets", body: api.SecretName{Name: name}})
}

// ImportSecret keeps a preshared key: sealed, or as wg genpsk prints it.
func (c *Client) ImportSecret(ctx context.Context, name string, value []byte) error {
	return c.act(ctx, request{method: "PUT", path: "/secrets/" + url.PathEscape(name), body: api.SecretValue{Value: string(value)}})
}

// ExportSecret seals a preshared key to a recipient.
func (c *Client) ExportSecret(ctx context.Context, name, recipient string) ([]byte, error) {
	out, err := call[api.SealedSecret](ctx, c, request{method: "POST", path: "/secrets/" + url.PathEscape(name) + "/exports",
		body: api.Recipient{Recipient: recipient}})
	return []byte(out.Sealed), err
}

// Events is a page of those events that the filter chooses.
func (c *Client) Events(ctx context.Context, after uint64, limit int, filter api.EventFilter) (api.Events, error) {
	query := filter.Query()
	query.Set("after", strconv.FormatUint(after, 10))
	query.Set("limit", strconv.Itoa(limit))
	return call[api.Events](ctx, c, request{method: "GET", path: "/events", query: query})
}

// Incidents are those that are open, and with closed the last ones that are over.
func (c *Client) Incidents(ctx context.Context, closed bool) (provisioning.IncidentReport, error) {
	return call[provisioning.IncidentReport](ctx, c, request{method: "GET", path: "/incidents", query: url.Values{"closed": {strconv.FormatBool(closed)}}})
}

// TimeService is what shekarad time is to do.
func (c *Client) TimeService(ctx context.Context) (provisioning.TimeService, error) {
	return call[provisioning.TimeService](ctx, c, request{method: "GET", path: "/time/service"})
}

// Time is how good the box's clock is, by which sources, and whom it was given to.
func (c *Client) Time(ctx context.Context) (provisioning.TimeStatus, error) {
	return call[provisioning.TimeStatus](ctx, c, request{method: "GET", path: "/time"})
}

// TimeClients are at most limit addresses that asked for the time, those after one ("": from the first).
func (c *Client) TimeClients(ctx context.Context, after string, limit int) (api.TimeClients, error) {
	return call[api.TimeClients](ctx, c, request{method: "GET", path: "/time/clients", query: url.Values{"after": {after}, "limit": {strconv.Itoa(limit)}}})
}

// Sinks are to whom the journal goes, and of which Site it is.
func (c *Client) Sinks(ctx context.Context) (api.Sinks, error) {
	return call[api.Sinks](ctx, c, request{method: "GET", path: "/sinks"})
}

// JournalLines are at most limit records as they stand in the journal's files, with sequences above after. It waits so long for the first one.
func (c *Client) JournalLines(ctx context.Context, after uint64, limit int, wait time.Duration) ([][]byte, error) {
	query := url.Values{"after": {strconv.FormatUint(after, 10)}, "limit": {strconv.Itoa(limit)}, "wait": {strconv.Itoa(int(wait / time.Second))}}
	text, err := c.text(ctx, request{method: "GET", path: "/journal/lines", query: query})
	if err != nil || len(text) == 0 {
		return nil, err
	}
	return bytes.Split(bytes.TrimSuffix(text, []byte("\n")), []byte("\n")), nil
}

// JournalHead is the journal's key and newest signed checkpoint.
func (c *Client) JournalHead(ctx context.Context) (api.JournalHead, error) {
	return call[api.JournalHead](ctx, c, request{method: "GET", path: "/journal"})
}

// RotateJournalKey has the journal go on with a new key. lost: without the one before.
func (c *Client) RotateJournalKey(ctx context.Context, lost bool) (api.JournalKey, error) {
	return call[api.JournalKey](ctx, c, request{method: "POST", path: "/journal/key", body: api.RotateKey{Lost: lost}})
}

// JournalStats is what the journal takes on its disk.
func (c *Client) JournalStats(ctx context.Context) (journal.Stats, error) {
	return call[journal.Stats](ctx, c, request{method: "GET", path: "/journal/stats"})
}

// ExportPartition writes the records of one tunnel or legal entity ("tunnel/NAME", "organisation/NAME") and the proof of the last, or those of a system ("system/NAME"). An error means that what was written is not all.
func (c *Client) ExportPartition(ctx context.Context, of string, to io.Writer) error {
	answer, err := c.do(ctx, request{method: "GET", path: "/journal/partition", query: url.Values{"of": {of}}})
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	if _, err := io.Copy(to, answer.Body); err != nil {
		return fmt.Errorf("export %s: what came is not all: %w", of, err)
	}
	return nil
}

// ProveEvent is the proof that a record is among those of a signed checkpoint.
func (c *Client) ProveEvent(ctx context.Context, sequence uint64) (journal.Proof, error) {
	return call[journal.Proof](ctx, c, request{method: "GET", path: "/events/" + strconv.FormatUint(sequence, 10) + "/proof"})
}

// FollowEvents hands on each event that the filter chooses as it comes, until the context ends, the daemon stops or handle fails. After -1 is from now.
func (c *Client) FollowEvents(ctx context.Context, after int64, filter api.EventFilter, handle func(journal.Event) error) error {
	query := filter.Query()
	query.Set("after", strconv.FormatInt(after, 10))
	return follow(ctx, c, request{method: "GET", path: "/events/stream", query: query}, handle)
}

// FollowChanges hands on status and tunnels whenever they change, the status first.
func (c *Client) FollowChanges(ctx context.Context, handle func(api.Update) error) error {
	return follow(ctx, c, request{method: "GET", path: "/changes"}, handle)
}

func follow[T any](ctx context.Context, c *Client, r request, handle func(T) error) error {
	answer, err := c.do(ctx, r)
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	scanner := bufio.NewScanner(answer.Body)
	scanner.Buffer(make([]byte, 0, 64<<10), maxLine)
	for scanner.Scan() {
		if len(scanner.Bytes()) == 0 {
			continue // a heartbeat
		}
		var item T
		if err := json.Unmarshal(scanner.Bytes(), &item); err != nil {
			return fmt.Errorf("read %s: %w", r.path, err)
		}
		if err := handle(item); err != nil {
			return err
		}
	}
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if err := scanner.Err(); err != nil {
		return unreachable(err)
	}
	return &Error{Text: "shekarad ended the stream", Hint: "it is being stopped or restarted: try again in a moment"}
}
