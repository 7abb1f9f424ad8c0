package provisioning

import (
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestSinksAreThoseOfThisSiteInForce(t *testing.T) {
	inBubble(t, func(t *testing.T, b *box) {
		const files = "tls: {ca: /ca, certificate: /own, key: /key, serverName: soc}"
		text := "apiVersion: shekara/v1\nkind: EventSink\nmetadata: {name: soc}\nspec: {sites: [owner], protocol: syslog-tls, address: \"192.0.2.7:6514\", " + files +
			", events: {types: [tunnel.state], severities: [alert], object: tunnel/, text: x}, newOnly: true}\n" +
			"---\napiVersion: shekara/v1\nkind: EventSink\nmetadata: {name: copy}\nspec: {sites: [owner], protocol: file, path: /copy}\n" +
			"---\napiVersion: shekara/v1\nkind: EventSink\nmetadata: {name: nats}\nspec: {sites: [owner], protocol: nats, address: \"192.0.2.7:4222\", " + files + "}\n" +
			"---\napiVersion: shekara/v1\nkind: EventSink\nmetadata: {name: https}\nspec: {sites: [owner], protocol: https, url: \"https://192.0.2.7/j\", " + files + "}\n"
		if sinks, err := b.Sinks(t.Context()); err != nil || len(sinks) != 0 {
			t.Errorf("at first: %+v, %v", sinks, err)
		}
		if result := b.mustApply(request(text)); len(result.Plan.Steps) > 0 {
			t.Errorf("on the host: %+v", result.Plan.Steps)
		}
		want := []Sink{{Name: "copy", Protocol: "file", Path: "/copy"},
			{Name: "https", Protocol: "https", URL: "https://192.0.2.7/j", ServerName: "soc", CA: "/ca", Certificate: "/own", Key: "/key"},
			{Name: "nats", Protocol: "nats", Address: "192.0.2.7:4222", ServerName: "soc", CA: "/ca", Certificate: "/own", Key: "/key", Subject: "shekara.journal.owner"},
			{Name: "soc", Protocol: "syslog-tls", Address: "192.0.2.7:6514", ServerName: "soc", CA: "/ca", Certificate: "/own", Key: "/key", Format: "json",
				Types: []string{"tunnel.state"}, Severities: []string{"alert"}, Object: "tunnel/", Text: "x", NewOnly: true}}
		sinks, err := b.Sinks(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, sinks); diff != "" {
			t.Errorf("(-want +got):\n%s", diff)
		}
	})
}
