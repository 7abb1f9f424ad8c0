package export

import (
	"maps"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"shekara/journal"
)

// pairs are the parameters of a message in the profile.
func pairs(message string) map[string]string {
	found := map[string]string{}
	_, of, _ := strings.Cut(message, "[52nk@")
	for _, pair := range regexp.MustCompile(` ([a-zA-Z]+)="((?:[^"\\]|\\.)*)"`).FindAllStringSubmatch(of, -1) {
		found[pair[1]] = pair[2]
	}
	return found
}

// TestProfileOfAConnection: its day is that of the legal clock, and its parties, begin and bytes are there; what failed says so.
func TestProfileOfAConnection(t *testing.T) {
	at := time.Date(2026, 11, 25, 20, 5, 6, 0, time.UTC)
	e := journal.Event{Sequence: 7, Time: at, Type: journal.ConnectionEnd, Severity: journal.Info, Object: "tunnel/a", Message: "ended",
		Fields: map[string]string{"flow": "portal", "source": "10.0.0.1", "destination": "10.0.0.2", "began": "2026-11-25T20:00:00Z", "bytesTo": "1", "bytesBack": "2"}}
	want := map[string]string{"profile": "unverified", "date": "26:11:2026", "time": "01:05:06", "zone": "+05:00", "source": "owner", "client": "10.0.0.1", "server": "10.0.0.2", "object": "tunnel/a", "level": "INFO",
		"eventType": "connection.end", "description": "ended", "requestId": "owner/7", "flow": "portal", "started": "2026-11-25T20:00:00Z", "bytesSent": "1", "bytesReceived": "2", "clock": "unsynchronised", "success": "true"}
	of := func(e journal.Event) map[string]string {
		return pairs(string(message(nil, Sink{Site: "owner", Format: NK52}, record{event: e})))
	}
	if diff := cmp.Diff(want, of(e)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	e.Type, e.Actor = journal.AccessRefuse, journal.Actor{UID: 7}
	if got := of(e); got["success"] != "false" || got["account"] != "7" || got["started"] != "" {
		t.Errorf("%q", got)
	}
}

// TestProfileIsDocumented: docs/monitoring says what each name of the mapping is, and no other.
func TestProfileIsDocumented(t *testing.T) {
	text, err := os.ReadFile("../../docs/monitoring/README.md")
	if err != nil {
		t.Fatal(err)
	}
	_, table, _ := strings.Cut(string(text), "| 52nk | is |")
	table, _, _ = strings.Cut(table, "\n## ")
	told := map[string]bool{}
	for line := range strings.Lines(table) {
		if cells := strings.Split(line, "|"); len(cells) == 4 {
			for _, name := range regexp.MustCompile("`([a-zA-Z]+)`").FindAllStringSubmatch(cells[1], -1) {
				told[name[1]] = true
			}
		}
	}
	has := map[string]bool{}
	for _, m := range profile52nk().parameters {
		has[m.name] = true
	}
	if diff := cmp.Diff(slices.Sorted(maps.Keys(has)), slices.Sorted(maps.Keys(told))); diff != "" {
		t.Errorf("(-mapping +docs):\n%s", diff)
	}
	if p := profile52nk().parameters; p[0].name != "profile" || p[0].from[0] != "=unverified" {
		t.Errorf("it begins with %+v", p[0])
	}
	verbs := map[string]bool{}
	for _, entry := range journal.Catalogue() {
		_, verb, _ := strings.Cut(string(entry.Type), ".")
		verbs[verb] = true
	}
	for _, verb := range profile52nk().failed {
		if !verbs[verb] {
			t.Errorf("no event's verb is %q", verb)
		}
	}
}

func TestProfilesThatAreNone(t *testing.T) {
	for text, says := range map[string]string{"a": "comes from nowhere", "a b": "is nothing that a record has", "a]b date": "is no name", "a date\n# x\na time": `line 3: "a" is there twice`} {
		if p, err := parseProfile(text); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%q: %+v, %v", text, p, err)
		}
	}
}
