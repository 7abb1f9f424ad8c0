package provisioning

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"shekara/provisioning/document"
	"shekara/provisioning/validate"
)

const assertionHead = "apiVersion: shekara/v1\nkind: Assertion\nmetadata: {name: %s}\nspec: {site: %s, require: %s, from: [%s], to: [%s], service: %s}\n"

func contoursExample(t testing.TB) string {
	t.Helper()
	var text string
	for _, name := range []string{"zones", "registers", "site", "assertions"} {
		data, err := os.ReadFile("../docs/examples/contours/" + name + ".yaml")
		if err != nil {
			t.Fatal(err)
		}
		text += string(data) + "---\n"
	}
	return text
}

const assertionTime = `apiVersion: shekara/v1
kind: TimeService
metadata: {name: clock}
spec: {site: gateway, sources: [{address: "203.0.113.1:123"}], agreeing: 1, addresses: [10.31.0.254], zones: [tax-lan], nts: {certificate: /etc/c.pem, key: /etc/k.pem}}
---
`

func TestAssertions(t *testing.T) {
	base := contoursExample(t) + assertionTime
	for _, c := range []struct{ require, from, to, service, fails string }{
		{mustReach, "10.64.1.5/32", "10.20.0.20/32", "tcp/443", ""},
		{mustReach, "10.64.1.5/32", "10.20.0.20/32", "tcp/80", "10.64.1.5 to 10.20.0.20, tcp/80 does not pass"},
		{mustReach, "10.64.1.4/31", "10.20.0.20/32", "tcp/443", "10.64.1.4 to 10.20.0.20, tcp/443 does not pass"},
		{mustReach, "10.64.1.5/32", "10.20.0.20/31", "tcp/443", "10.64.1.5 to 10.20.0.21, tcp/443 does not pass"},
		{mustReach, "10.64.1.5/32", "10.20.0.20/32", "tcp/442-444", "10.64.1.5 to 10.20.0.20, tcp/442 does not pass"},
		{mustReach, "10.64.1.5/32", "10.20.0.20/32", "tcp/443-444", "10.64.1.5 to 10.20.0.20, tcp/444 does not pass"},
		{mustReach, "10.32.0.0/28", "10.31.0.5/32", "tcp/443", ""},
		{mustReach, "10.32.0.0/27", "10.31.0.5/32", "tcp/443", "10.32.0.16 to 10.31.0.5, tcp/443 does not pass"},
		{mustReach, "198.51.100.0/24", "10.40.0.10/32", "tcp/443", ""},
		{mustReach, "8.0.0.0/6", "10.40.0.10/32", "tcp/443", "10.20.0.0 to 10.40.0.10, tcp/443 does not pass"},
		{mustReach, "10.30.0.5/32", "10.30.1.5/32", "icmp", "10.30.0.5 to 10.30.1.5, icmp does not pass"},
		{"mustNotReach", "10.64.0.0/12", "10.30.0.0/16", "tcp", ""},
		{"mustNotReach", "10.64.0.0/12", "10.20.0.0/24", "udp", ""},
		{"mustNotReach", "10.64.0.0/12", "10.20.0.0/24", "tcp", "10.64.1.5 to 10.20.0.20, tcp/443 passes by Flow bank-to-vshep"},
		{"mustNotReach", "10.64.0.0/12", "10.20.0.0/24", "tcp/444-65535", ""},
		{"mustNotReach", "0.0.0.0/0", "10.40.0.10/32", "tcp/80", ""},
		{"mustNotReach", "0.0.0.0/0", "10.40.0.0/24", "tcp", "1.0.0.0 to 10.40.0.10, tcp/443 passes by Flow internet-to-portal"},
		{"mustNotReach", "10.0.0.0/8", "10.40.0.0/24", "tcp", "10.0.0.0 to 10.40.0.10, tcp/443 passes by Flow internet-to-portal"}, // no zone claims 10.0.0.0, so it is the internet's
		{"mustNotReach", "192.168.100.0/24", "192.168.100.1/32", "tcp/22", "192.168.100.0 to 192.168.100.1, tcp/22 passes by Site gateway"},
		{"mustNotReach", "192.168.100.0/24", "192.168.100.1/32", "tcp/23", ""},
		{"mustNotReach", "10.20.0.0/24", "10.30.0.0/24", "tcp/443", "passes by Flow "},
		// What this box offers, to those alone that it serves.
		{mustReach, "10.31.0.5/32", "10.31.0.254/32", "udp/123", ""},
		{mustReach, "10.31.0.5/32", "10.31.0.254/32", "tcp/4460", ""},
		{"mustNotReach", "10.31.0.5/32", "10.31.0.254/32", "udp/123", "10.31.0.5 to 10.31.0.254, udp/123 passes by TimeService clock"},
		{"mustNotReach", "10.31.0.0/24", "10.31.0.254/32", "tcp", "10.31.0.0 to 10.31.0.254, tcp/4460 passes by TimeService clock"},
		{"mustNotReach", "10.30.0.0/24", "10.31.0.254/32", "udp/123", ""},
		// The ports of tunnels, to their peers alone.
		{mustReach, "198.51.100.20/32", "203.0.113.10/32", "udp/51820", ""},
		{"mustNotReach", "198.51.100.0/24", "203.0.113.10/32", "udp", "198.51.100.20 to 203.0.113.10, udp/51820 passes by Tunnel bank"},
		{"mustNotReach", "198.51.100.20/32", "203.0.113.10/32", "udp/51821", ""},
		// What this box may send by itself, where it alone is named.
		{mustReach, "10.31.0.254/32", "10.30.0.7/32", "tcp/22", ""},
		{"mustNotReach", "10.31.0.254/32", "10.30.0.0/24", "tcp", "10.31.0.254 to 10.30.0.0, tcp/1 passes: this box may speak to its zones freely"},
		{"mustNotReach", "10.31.0.254/32", "10.64.0.0/12", "tcp", ""}, // behind tunnels, where only flows lead
		{"mustNotReach", "10.31.0.0/24", "10.30.0.0/24", "tcp", ""},   // with 10.31.0.254 in it: the hosts are meant
	} {
		t.Run(strings.Join([]string{c.require, c.from, c.to, c.service}, " "), func(t *testing.T) {
			text := base + fmt.Sprintf(assertionHead, "a", "gateway", c.require, c.from, c.to, c.service)
			documents, problems := document.Decode([]document.File{{Name: "a.yaml", Data: []byte(text)}})
			set := document.NewSet(documents...)
			if problems = append(problems, validate.Check(set, validate.Options{Site: "gateway"})...); len(problems) > 0 {
				t.Fatal(problems)
			}
			failed, err := CheckAssertions(set, "gateway")
			if err != nil || (len(failed) > 0) != (c.fails != "") {
				t.Fatalf("got %v, %v, want %q", failed, err, c.fails)
			}
			if c.fails == "" {
				return
			}
			if p := failed[0]; p.Value != c.require || !strings.Contains(p.Hint, c.fails) || !strings.Contains(strings.Split(text, "\n")[p.Position.Line-1], c.require) {
				t.Errorf("got %s\nwant %s", p, c.fails)
			}
			if elsewhere, err := CheckAssertions(set, "nowhere"); err != nil || len(elsewhere) > 0 {
				t.Errorf("asked of another site: %v, %v", elsewhere, err)
			}
		})
	}
}

// What would break an assertion is refused, whichever comes later, and what is in force stays.
func TestAssertionStopsAnApply(t *testing.T) {
	b := established(t, 1)
	refused := func(text string) {
		t.Helper()
		var invalid *InvalidError
		if _, err := b.Plan(t.Context(), request(text)); !errors.As(err, &invalid) || !strings.Contains(invalid.Problems[0].What, "assertion does not hold") {
			t.Errorf("planned: %v", err)
		}
		if _, err := b.Apply(t.Context(), request(text)); !errors.As(err, &invalid) {
			t.Errorf("applied: %v", err)
		}
		b.mustBeAsAsked()
	}
	never := fmt.Sprintf(assertionHead, "never", "owner", "mustNotReach", "10.64.0.0/10", "10.20.0.0/24", "udp/53")
	always := fmt.Sprintf(assertionHead, "always", "owner", mustReach, agency{n: 0}.prefixText(), "10.20.0.10/32", "tcp/443")
	refused(strings.Replace(never, "udp/53", "tcp/443", 1))
	b.mustApply(request(never + "---\n" + always))
	second := agency{n: 1, services: "tcp/443, udp/53"}.yaml()
	refused(second)
	refused(agency{n: 0, services: "tcp/80"}.yaml())
	b.mustBe(2, Confirmed, agency{n: 0})
	b.mustApply(request(agency{n: 1}.yaml())) // the control: nothing is wrong with it but what the assertion forbids
	b.mustApply(request(strings.Replace(never, "udp/53", "udp/54", 1)))
	b.mustApply(request(second))
}

func BenchmarkAssertion(b *testing.B) {
	text := site + agencies(0, 1000) + "---\n" + fmt.Sprintf(assertionHead, "never", "owner", "mustNotReach", "10.64.0.0/10", "10.20.0.0/24", "udp/53")
	documents, problems := document.Decode([]document.File{{Name: "a.yaml", Data: []byte(text)}})
	if len(problems) > 0 {
		b.Fatal(problems)
	}
	set := document.NewSet(documents...)
	for b.Loop() {
		if failed, err := CheckAssertions(set, "owner"); err != nil || len(failed) > 0 {
			b.Fatal(failed, err)
		}
	}
	b.ReportMetric(float64(b.Elapsed())/float64(b.N)/float64(time.Millisecond), "ms/check")
}
