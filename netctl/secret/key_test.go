package secret_test

import (
	"bytes"
	"encoding/base64"
	"encoding/gob"
	"encoding/hex"
	"encoding/json"
	"encoding/xml"
	"fmt"
	"log/slog"
	"strings"
	"testing"

	"go.yaml.in/yaml/v4"
	"pgregory.net/rapid"

	"shekara/netctl/probe"
	"shekara/netctl/probe/probetest"
	"shekara/netctl/run"
	"shekara/netctl/secret"
)

func key(t testing.TB, text string) secret.Key {
	t.Helper()
	raw, err := hex.DecodeString(text)
	if err != nil {
		t.Fatal(err)
	}
	k, err := secret.NewKey(raw)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// TestKeyDoesNotPrint puts a key where programs put them, also where fmt cannot call its methods, and looks for its
// bytes in every rendering.
func TestKeyDoesNotPrint(t *testing.T) {
	raw := []byte("SECRETSECRETSECRETSECRETSECRET!!")
	k, err := secret.NewKey(raw)
	if err != nil {
		t.Fatal(err)
	}
	type hidden struct{ key secret.Key }
	type shown struct {
		Key     secret.Key
		Pointer *secret.Key
		Map     map[string]secret.Key
		Slice   []secret.Key
	}
	values := map[string]any{
		"key": k, "pointer": &k, "hidden": hidden{k}, "hidden pointer": &hidden{k}, "slice": []secret.Key{k},
		"shown": shown{k, &k, map[string]secret.Key{"k": k}, []secret.Key{k}}, "any": []any{k, hidden{k}},
		"error": fmt.Errorf("with %v and %s", k, k),
	}
	var outputs []string
	for _, value := range values {
		for _, verb := range "vTtbcdoOqxXUeEfFgGsp" {
			for _, flag := range []string{"", "+", "#", " ", "0", "-", "40", ".40", "# "} {
				outputs = append(outputs, fmt.Sprintf("%"+flag+string(verb), value))
			}
		}
		outputs = append(outputs, fmt.Sprint(value), fmt.Sprintln(value))
		var log bytes.Buffer
		slog.New(slog.NewTextHandler(&log, nil)).Info("m", "k", value)
		slog.New(slog.NewJSONHandler(&log, nil)).Info("m", "k", value)
		outputs = append(outputs, log.String())
		if out, err := json.Marshal(value); err == nil {
			outputs = append(outputs, string(out))
		}
		if out, err := yaml.Marshal(value); err == nil {
			outputs = append(outputs, string(out))
		}
		if out, err := xml.Marshal(value); err == nil {
			outputs = append(outputs, string(out))
		}
		var binary bytes.Buffer
		_ = gob.NewEncoder(&binary).Encode(value) // refuses most
		outputs = append(outputs, binary.String())
	}
	forbidden := []string{"SECRET", base64.StdEncoding.EncodeToString(raw)[:12], "83 69 67 82", "83, 69, 67, 82", "0x53, 0x45",
		hex.EncodeToString(raw)[:12], strings.ToUpper(hex.EncodeToString(raw)[:12]), "123 105 103 122", "1010011 1000101"}
	for _, output := range outputs {
		for _, bad := range forbidden {
			if strings.Contains(output, bad) {
				t.Errorf("the key shows: %q", output)
			}
		}
	}
	// The control: the same places do show a plain array, so the search above finds what there is to find.
	array := [32]byte(raw)
	for _, output := range []string{fmt.Sprintf("%s", array), fmt.Sprintf("%v", array), fmt.Sprintf("%x", array), fmt.Sprintf("%#v", array)} {
		found := false
		for _, bad := range forbidden {
			found = found || strings.Contains(output, bad)
		}
		if !found {
			t.Errorf("the search misses %q", output)
		}
	}
	if fmt.Sprint(k) != "[redacted]" {
		t.Errorf("a key prints as %s", k)
	}
}

func TestPublicKey(t *testing.T) {
	// RFC 7748, section 6.1: Alice's pair. wg(8) makes the second pair.
	alice := key(t, "77076d0a7318a57d3c16c17251b26645df4c2f87ebc0992ab177fba51db92c2a").PublicKey()
	if got := hex.EncodeToString(alice[:]); got != "8520f0098930a754748b7ddcb43ef75a0dbf3a0d26381af4eba4a98eaa9b4e6a" {
		t.Errorf("Alice's public key is %s", got)
	}
	private, err := secret.ParseKey([]byte("aFFJyyrX30cd7U2arLfu+7wWkAiBMy3bEmpAY7ADY34=\n"))
	if err != nil {
		t.Fatal(err)
	}
	public := private.PublicKey()
	if got := base64.StdEncoding.EncodeToString(public[:]); got != "Ku5D07EWPv6oDZz+5RONgzc47VyRDtMrKAkJEevUKDM=" {
		t.Errorf("public key is %s", got)
	}
}

func TestPublicKeyIsThatOfWg(t *testing.T) {
	probetest.Need(t, probe.Tool("wg"))
	for range 20 {
		for _, k := range []secret.Key{secret.GeneratePrivate(), secret.GeneratePreshared()} { // the second is not clamped
			out, err := run.Command{Argv: []string{"wg", "pubkey"}, Stdin: k.RevealText()}.Run(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			public := k.PublicKey()
			if want := strings.TrimSpace(string(out)); base64.StdEncoding.EncodeToString(public[:]) != want {
				t.Fatalf("public key is %x, wg says %s", public, want)
			}
		}
	}
}

func TestGenerate(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		a, b := secret.GeneratePrivate(), secret.GeneratePrivate()
		raw := a.Reveal()
		if raw[0]&7 != 0 || raw[31]&128 != 0 || raw[31]&64 == 0 {
			t.Fatal("not clamped")
		}
		if a.Equal(b) || !a.Equal(a) || a.IsZero() {
			t.Fatal("two keys are equal")
		}
		back, err := secret.ParseKey(a.RevealText())
		if err != nil || !back.Equal(a) || back.PublicKey() != a.PublicKey() {
			t.Fatalf("text does not come back: %v", err)
		}
	})
	var none secret.Key
	zero, _ := secret.NewKey(make([]byte, 32))
	if !none.IsZero() || zero.IsZero() || none.Equal(zero) || zero.Equal(none) || !none.Equal(secret.Key{}) {
		t.Error("no key is taken for an all-zero key")
	}
	if none.PublicKey() != [32]byte{} || none.Reveal() != [32]byte{} {
		t.Error("no key has bytes")
	}
}

func FuzzParseKey(f *testing.F) {
	f.Add([]byte("yAnz5TF+lXXJte14tji3zlMNq+hd2rYUIgJBgB3fBmk=\n"))
	f.Add([]byte("yAnz5TF+lXXJte14tji3zlMNq+hd2rYUIgJBgB3fBml="))
	f.Add([]byte("AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"))
	f.Add([]byte(""))
	f.Fuzz(func(t *testing.T, text []byte) {
		k, err := secret.ParseKey(text)
		if err != nil {
			if trimmed := bytes.TrimSpace(text); len(trimmed) > 8 && strings.Contains(err.Error(), string(trimmed)) {
				t.Errorf("error shows the text: %v", err)
			}
			return
		}
		if !bytes.Equal(bytes.TrimSpace(k.RevealText()), bytes.TrimSpace(text)) {
			t.Errorf("%q comes back as %q: not canonical", text, k.RevealText())
		}
	})
}
