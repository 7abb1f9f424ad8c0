package export

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/leodido/go-syslog/v4"
	"github.com/leodido/go-syslog/v4/octetcounting"
	"github.com/leodido/go-syslog/v4/rfc5424"

	"shekara/journal"
)

func sample() record {
	e := journal.Event{Sequence: 4711, Time: time.Date(2026, 11, 26, 4, 5, 6, 789, time.UTC), Type: journal.TunnelState, Severity: journal.Warning,
		Actor: journal.Actor{UID: 1001, User: "anna", PID: 7}, Object: "tunnel/agency-a", Organisation: "body", Systems: []string{"registry", "tax"}, ClockErrorMicroseconds: 250, Links: []journal.Link{{Of: "tunnel/agency-a", Number: 1}, {Of: "organisation/body", Number: 9, Before: "aGFzaA=="}}, Message: "шекара: \"down\" [a]\nnext", Fields: map[string]string{"from": `a"b\c]d`, "bad name=": "x\x7f"}}
	line, err := json.Marshal(e)
	if err != nil {
		panic(err)
	}
	return record{e, line}
}

func TestMessages(t *testing.T) {
	const head = `<108>1 2026-11-26T04:05:06.000000Z owner shekara - tunnel.state [shekara@32473 sequence="4711"`
	for format, want := range map[string]string{
		JSON: head + `][timeQuality tzKnown="1" isSynced="1" syncAccuracy="250"] ` + string(sample().line),
		Text: head + ` severity="warning" object="tunnel/agency-a" organisation="body" system="registry" system="tax" user="anna" uid="1001" link="tunnel/agency-a 1" link="organisation/body 9 aGFzaA=="]` +
			`[timeQuality tzKnown="1" isSynced="1" syncAccuracy="250"][fields@32473 bad_name_="x#177" from="a\"b\\c\]d"] шекара: "down" [a]#012next`,
		NK52: head + `][timeQuality tzKnown="1" isSynced="1" syncAccuracy="250"][52nk@32473 profile="unverified" date="26:11:2026" time="09:05:06" zone="+05:00" source="owner" account="anna" object="tunnel/agency-a" organisation="body" ` +
			`level="WARNING" eventType="tunnel.state" description="шекара: \"down\" [a\]#012next" requestId="owner/4711" clock="synchronised" success="true"] шекара: "down" [a]#012next`,
	} {
		if diff := cmp.Diff(want, string(message(nil, Sink{Site: "owner", Format: format}, sample()))); diff != "" {
			t.Errorf("%s (-want +got):\n%s", format, diff)
		}
	}
}

func TestUnknownClock(t *testing.T) {
	r := sample()
	r.event.ClockErrorMicroseconds = 0
	if got := string(message(nil, Sink{Site: "owner", Format: JSON}, r)); !strings.Contains(got, `][timeQuality tzKnown="1" isSynced="0"] {`) {
		t.Errorf("of a clock that nobody keeps: %s", got)
	}
}

func TestSeveritiesAreThoseOfTheStandard(t *testing.T) {
	for i, of := range journal.Severities() {
		if want := []int{1, 3, 4, 5, 6}[i]; severity(of) != want {
			t.Errorf("%s is %d, want %d", of, severity(of), want)
		}
	}
}

// FuzzMessage: whatever stands in an event, a parser that is not ours reads the message, alone and among others, and finds its sequence.
func FuzzMessage(f *testing.F) {
	f.Add("owner", "tunnel.state", "alert", "a message", "tunnel/a", "user", "key", "value", uint64(7))
	f.Add("", strings.Repeat("x", 40), "", "\x00\n\xff]", "\\\"]", "\t", "", "\\", uint64(1<<63))
	f.Fuzz(func(t *testing.T, site, kind, of, text, object, user, key, value string, sequence uint64) {
		e := journal.Event{Sequence: sequence, Time: time.Unix(1700000000, 123456789).UTC(), Type: journal.Type(kind), Severity: journal.Severity(of), Message: text, Object: object,
			Actor: journal.Actor{User: user}, Fields: map[string]string{key: value}}
		line, err := json.Marshal(e)
		if err != nil {
			return
		}
		for _, format := range []string{JSON, Text, CEF, NK52} {
			one := message(nil, Sink{Site: site, Format: format}, record{e, line})
			check := func(m syslog.Message, err error) {
				t.Helper()
				read, is := m.(*rfc5424.SyslogMessage)
				if err != nil || !is || read.StructuredData == nil || read.Hostname == nil && site != "" && site != "-" {
					t.Fatalf("%s: %q: %v, %+v", format, one, err, m)
				}
				if got := (*read.StructuredData)["shekara@32473"]["sequence"]; got != fmt.Sprint(sequence) {
					t.Errorf("%s: %q has sequence %q", format, one, got)
				}
				if format == JSON && (read.Message == nil || *read.Message != string(line)) {
					t.Errorf("%q does not hold the record %q", one, line)
				}
			}
			check(rfc5424.NewParser().Parse(one))
			framed := fmt.Appendf(nil, "%d %s", len(one), one)
			count := 0
			octetcounting.NewParser(syslog.WithMaxMessageLength(1<<20), syslog.WithListener(func(r *syslog.Result) { count++; check(r.Message, r.Error) })).Parse(bytes.NewReader(append(framed, framed...)))
			if count != 2 {
				t.Errorf("%q twice is read as %d messages", framed, count)
			}
		}
	})
}
