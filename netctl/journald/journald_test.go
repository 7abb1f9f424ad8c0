package journald

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

const head = `{"__CURSOR":"s=1;i=2","__REALTIME_TIMESTAMP":"1795694641467359",`

func TestDecode(t *testing.T) {
	at := time.UnixMicro(1795694641467359).UTC()
	for line, want := range map[string]Message{
		`"_SYSTEMD_UNIT":"ssh.service","PRIORITY":"4","SYSLOG_IDENTIFIER":"sshd","MESSAGE":"қала \u0007 \t <&> \u202e\""}`: {Unit: "ssh.service", Identifier: "sshd", Priority: 4,
			Text: `қала \u0007   <&> \u202e"`},
		`"_SYSTEMD_UNIT":"ssh.service","MESSAGE":[115,27,91,49,109,255]}`:                                               {Unit: "ssh.service", Priority: 6, Text: `s\u001b[1m` + "\ufffd"},
		`"_SYSTEMD_UNIT":"ssh.service","MESSAGE":["one","two"],"PRIORITY":["3","4"]}`:                                   {Unit: "ssh.service", Priority: 3, Text: "one", Cut: true},
		`"_SYSTEMD_UNIT":"ssh.service","MESSAGE":[[111,110,101],"two"]}`:                                                {Unit: "ssh.service", Priority: 6, Text: "one", Cut: true},
		`"_SYSTEMD_UNIT":"ssh.service","MESSAGE":"` + strings.Repeat(`\u0007`, 200) + `"}`:                              {Unit: "ssh.service", Priority: 6, Text: strings.Repeat(`\u0007`, 166), Cut: true},
		`"_SYSTEMD_UNIT":"ssh.service","MESSAGE":"` + strings.Repeat("x", 1000) + `"}`:                                  {Unit: "ssh.service", Priority: 6, Text: strings.Repeat("x", 1000)},
		`"_SYSTEMD_UNIT":"a\\x2db.service","MESSAGE":"\\u001b is \u001b"}`:                                              {Unit: `a\x2db.service`, Priority: 6, Text: `\\u001b is \u001b`},
		`"_SYSTEMD_UNIT":"ssh.service","MESSAGE":null}`:                                                                 {Unit: "ssh.service", Priority: 6, Text: "a message that is longer than journalctl gives", Cut: true},
		`"_SYSTEMD_UNIT":"ssh.service","MESSAGE":"` + strings.Repeat("қ", 600) + `"}`:                                   {Unit: "ssh.service", Priority: 6, Text: strings.Repeat("қ", 500), Cut: true},
		`"_SYSTEMD_UNIT":"init.scope","_PID":"1","UNIT":"shekarad.service","PRIORITY":"3","MESSAGE":"Failed"}`:          {Unit: "shekarad.service", Manager: true, Priority: 3, Text: "Failed"},
		`"_SYSTEMD_UNIT":"ssh.service","_PID":"77","UNIT":"shekarad.service","PRIORITY":"3","MESSAGE":"as if systemd"}`: {Unit: "ssh.service", Priority: 3, Text: "as if systemd"},
		`"_TRANSPORT":"kernel","PRIORITY":"4","SYSLOG_IDENTIFIER":"kernel","MESSAGE":"Out of memory"}`:                  {Unit: Kernel, Identifier: "kernel", Priority: 4, Text: "Out of memory"},
	} {
		want.Cursor, want.Time = "s=1;i=2", at
		got, err := decode([]byte(head + line))
		if diff := cmp.Diff(want, got); diff != "" || err != nil {
			t.Errorf("%s: %v (-want +got):\n%s", line, err, diff)
		}
	}
	for _, line := range []string{head + `"_SYSTEMD_UNIT":"a\u001b.service","MESSAGE":"x"}`, head + `"MESSAGE":"x"}`, "", "{}", "null", "[]", `{"__CURSOR":"s=1"}`, `{"__REALTIME_TIMESTAMP":"7"}`} {
		if m, err := decode([]byte(line)); err == nil {
			t.Errorf("%s: %+v", line, m)
		}
	}
}

// FuzzDecode: whatever comes is refused, or bounded and without control characters.
func FuzzDecode(f *testing.F) {
	f.Add([]byte(head + `"_SYSTEMD_UNIT":"a.service","MESSAGE":[1,2,[3]],"PRIORITY":"9"}`))
	f.Add([]byte(head + `"UNIT":"a.service","_PID":"1","MESSAGE":"\u001b\ud800"}`))
	f.Fuzz(func(t *testing.T, line []byte) {
		m, err := decode(line)
		if err != nil {
			return
		}
		for _, text := range []string{m.Text, m.Identifier, m.Unit} {
			if len(text) > maxText || strings.ContainsFunc(text, func(r rune) bool { return r < ' ' || r >= 0x7f && r < 0xa0 }) {
				t.Errorf("%q", text)
			}
		}
		if m.Priority < 0 || m.Priority > 7 || m.Cursor == "" {
			t.Errorf("%+v", m)
		}
	})
}

func TestArguments(t *testing.T) {
	argv, err := Reader{}.arguments([]string{"ssh.service", "shekarad.service", "shekara-export.service", Kernel}, Position{Since: time.Unix(7, 5)}, "beef")
	if err != nil {
		t.Fatal(err)
	}
	_, got, _ := strings.Cut(strings.Join(argv, " "), "_PID --system ")
	grave, kernel := "PRIORITY=0 PRIORITY=1 PRIORITY=2 PRIORITY=3 PRIORITY=4 PRIORITY=5 PRIORITY=6", "PRIORITY=0 PRIORITY=1 PRIORITY=2 PRIORITY=3 PRIORITY=4"
	want := "--since=@7 _MACHINE_ID=beef _SYSTEMD_UNIT=ssh.service " + grave + " + _MACHINE_ID=beef _PID=1 UNIT=ssh.service " + grave + " + _MACHINE_ID=beef _PID=1 UNIT=shekarad.service " + grave + " + _MACHINE_ID=beef _PID=1 UNIT=shekara-export.service " + grave + " + _MACHINE_ID=beef _TRANSPORT=kernel " + kernel
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	for _, units := range [][]string{nil, {"ssh"}, {"--vacuum-size=1"}, {"a b.service"}, {"../x.service", "ssh.service"}} {
		if argv, err := (Reader{}).arguments(units, Position{}, "beef"); err == nil {
			t.Errorf("%q: %q", units, argv)
		}
	}
}

// TestUnreadLines are told as such.
func TestUnreadLines(t *testing.T) {
	whole := []byte(head + `"_SYSTEMD_UNIT":"ssh.service","MESSAGE":"one"}`)
	if m := readLine(whole, false); m.Unread != nil || m.Text != "one" {
		t.Errorf("%+v", m)
	}
	for _, m := range []Message{readLine(whole, true), readLine(whole[:40], true), readLine([]byte("{}"), false), readLine(nil, false)} {
		if m.Unread == nil || m.Cursor != "" || m.Text != "" {
			t.Errorf("%+v", m)
		}
	}
}
