package export

import (
	"fmt"
	"maps"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"shekara/journal"
)

func TestCEF(t *testing.T) {
	s := Sink{Site: "owner", Format: CEF, Version: `v1|a\b`}
	const head = `CEF:0|Shekara|Shekara|v1\|a\\b|`
	const want = head + `tunnel.state|tunnel state|6|rt=1795665906000 dvchost=owner externalId=4711 msg=шекара: "down" [a]\nnext suser=anna suid=1001 spid=7 cs1=tunnel/agency-a cs1Label=object ` +
		`cs2=body cs2Label=organisation cs3=tunnel/agency-a 1, organisation/body 9 aGFzaA\=\= cs3Label=links cs4=registry, tax cs4Label=systems cn1=250 cn1Label=clockErrorMicroseconds shekaraBadname=x#177 shekaraFrom=a"b\\c]d`
	if diff := cmp.Diff(want, string(cef(nil, s, sample().event))); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	e := journal.Event{Sequence: 1, Time: time.Unix(1, 0), Type: journal.ConnectionEnd, Severity: journal.Info, Message: "m", Fields: map[string]string{"source": "10.64.1.5", "destination": "2001:db8::7",
		"sourcePort": "1000", "destinationPort": "443", "protocol": "tcp", "bytesTo": "7", "bytesBack": "9", "in": "sk-a", "out": "dmz0"}}
	const connection = head + `connection.end|connection end|1|rt=1000 dvchost=owner externalId=1 msg=m in=9 out=7 c6a3=2001:db8::7 c6a3Label=Destination IPv6 Address dpt=443 ` +
		`deviceInboundInterface=sk-a deviceOutboundInterface=dmz0 proto=tcp src=10.64.1.5 spt=1000`
	if diff := cmp.Diff(connection, string(cef(nil, s, e))); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// readCEF reads by the standard's rules alone: seven bars that have no backslash before them, then pairs, each key from the last space before an equals sign
// that has no backslash.
func readCEF(text string) (head []string, pairs map[string]string, err error) {
	part := ""
	for len(head) < 7 {
		bar := strings.IndexAny(text, `|\`)
		if bar < 0 {
			return nil, nil, fmt.Errorf("%d parts", len(head))
		}
		if text[bar] == '|' {
			head, part = append(head, part+text[:bar]), ""
			text = text[bar+1:]
			continue
		}
		if bar+1 == len(text) || !strings.ContainsRune(`|\`, rune(text[bar+1])) {
			return nil, nil, fmt.Errorf("in the header %q", text[bar:])
		}
		part += text[:bar] + text[bar+1:bar+2]
		text = text[bar+2:]
	}
	pairs = map[string]string{}
	key, value := "", []byte{}
	for i := 0; i < len(text); i++ {
		switch {
		case text[i] == '=':
			space := strings.LastIndexByte(string(value), ' ')
			next := string(value[space+1:])
			if key != "" {
				pairs[key] = string(value[:space])
			} else if space >= 0 {
				return nil, nil, fmt.Errorf("first key %q", value)
			}
			if next == "" || strings.Trim(next, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789") != "" {
				return nil, nil, fmt.Errorf("key %q", next)
			}
			if _, twice := pairs[next]; twice {
				return nil, nil, fmt.Errorf("key %q twice", next)
			}
			key, value = next, nil
		case text[i] == '\\':
			if i++; i == len(text) {
				return nil, nil, fmt.Errorf("a backslash at the end")
			}
			replaced, known := map[byte]byte{'\\': '\\', '=': '=', 'n': '\n', 'r': '\r'}[text[i]]
			if !known {
				return nil, nil, fmt.Errorf("in a value %q", text[i-1:])
			}
			value = append(value, replaced)
		case text[i] < ' ':
			return nil, nil, fmt.Errorf("byte %d in a value", text[i])
		default:
			value = append(value, text[i])
		}
	}
	pairs[key] = string(value)
	return head, pairs, nil
}

// TestCEFIsReadBack: whatever stands in an event, a reader that keeps to the rules has it all.
func TestCEFIsReadBack(t *testing.T) {
	words := rapid.StringOf(rapid.OneOf(rapid.RuneFrom([]rune("a=|\\ \n\r\"#яb")), rapid.RuneFrom([]rune("xyz 0"))))
	rapid.Check(t, func(t *rapid.T) {
		e := journal.Event{Sequence: rapid.Uint64().Draw(t, "sequence"), Time: time.Unix(1700000000, 5).UTC(), Type: journal.TunnelState, Severity: journal.Alert,
			Message: words.Draw(t, "message"), Object: words.Draw(t, "object"), Organisation: words.Draw(t, "organisation"),
			Actor:  journal.Actor{User: words.Draw(t, "user"), UID: 7, PID: 9},
			Fields: rapid.MapOf(rapid.StringMatching(`[a-z][a-zA-Z0-9]{0,10}`), words).Draw(t, "fields")}
		version := strings.NewReplacer("\n", "", "\r", "").Replace(words.Draw(t, "version"))
		head, pairs, err := readCEF(string(cef(nil, Sink{Site: "owner", Version: version}, e)))
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff([]string{"CEF:0", "Shekara", "Shekara", version, "tunnel.state", "tunnel state", "10"}, head); diff != "" {
			t.Fatal(diff)
		}
		want := map[string]string{"rt": "1700000000000", "dvchost": "owner", "externalId": fmt.Sprint(e.Sequence), "msg": e.Message, "suser": e.Actor.User, "suid": "7", "spid": "9",
			"cs1": e.Object, "cs1Label": "object", "cs2": e.Organisation, "cs2Label": "organisation"}
		for field, value := range e.Fields {
			key := cefKey(field)
			if (key == "src" || key == "dst") && value != "" {
				key = "shekara" + strings.ToUpper(field[:1]) + field[1:] // none of these is an address
			}
			want[key] = value
		}
		for key, value := range maps.Clone(want) {
			if value == "" {
				delete(want, key)
				delete(want, key+"Label")
			}
		}
		if diff := cmp.Diff(want, pairs); diff != "" {
			t.Fatal(diff)
		}
	})
}

func FuzzCEF(f *testing.F) {
	f.Add("owner", "tunnel.state", "a message", "key", "value")
	f.Add("\\", "|\n", "=\r\\", "\xff=", "\x00 a=b")
	f.Fuzz(func(t *testing.T, site, kind, text, key, value string) {
		e := journal.Event{Type: journal.Type(kind), Message: text, Object: value, Fields: map[string]string{key: value}}
		if _, _, err := readCEF(string(cef(nil, Sink{Site: site, Version: text}, e))); err != nil {
			t.Error(err)
		}
	})
}
