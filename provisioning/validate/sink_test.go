package validate_test

import (
	"fmt"
	"strings"
	"testing"

	"shekara/provisioning/validate"
)

func sinkCases() []broken {
	const files = "tls: {ca: /etc/ca.pem, certificate: /etc/own.pem, key: /etc/own.key}"
	sink := func(spec string) string { return doc("EventSink", "s", "{sites: [gateway], "+spec+"}") }
	return []broken{
		{"sink site unknown", "", doc("EventSink", "s", "{sites: [gate], protocol: file, path: /a}"), "there is no Site", "gate", ""},
		{"sink without sites", "", doc("EventSink", "s", "{sites: [], protocol: file, path: /a}"), "sink without sites", "", ""},
		{"sink site twice", "", doc("EventSink", "s", "{sites: [gateway, gateway], protocol: file, path: /a}"), "site is listed twice", "gateway", ""},
		{"sink protocol", "", sink("protocol: syslog-ssl, address: 192.0.2.7:6514"), "unknown value", "syslog-ssl", ""},
		{"sink without address", "", sink("protocol: syslog-tcp"), "syslog-tcp without address", "", ""},
		{"sink address without port", "", sink("protocol: syslog-tcp, address: soc.example.org"), "not a host with a port", "soc.example.org", ""},
		{"sink address port 0", "", sink("protocol: syslog-udp, address: \"192.0.2.7:0\""), "not a host with a port", "192.0.2.7:0", ""},
		{"sink address no number", "", sink("protocol: syslog-udp, address: \"192.0.2.256:514\""), "not a host with a port", "192.0.2.256:514", ""},
		{"sink address mapped", "", sink("protocol: syslog-udp, address: \"[::ffff:192.0.2.7]:514\""), "not a host with a port", "[::ffff:192.0.2.7]:514", ""},
		{"sink address and file", "", sink("protocol: file, path: /a, address: 192.0.2.7:514"), "address with protocol file", "192.0.2.7:514", ""},
		{"sink without path", "", sink("protocol: file"), "file without path", "", ""},
		{"sink path and syslog", "", sink("protocol: syslog-udp, address: 192.0.2.7:514, path: /a"), "path with protocol syslog-udp", "/a", ""},
		{"sink path relative", "", sink("protocol: file, path: var/log/a"), "not the path of a file", "var/log/a", ""},
		{"sink path unclean", "", sink("protocol: file, path: /var/log/../lib/a"), "not the path of a file", "/var/log/../lib/a", ""},
		{"sink path twice", "", sink("protocol: file, path: /var/a") + doc("EventSink", "s2", "{sites: [gateway], protocol: file, path: /var/a}"), "file is of two sinks", "/var/a", ""},
		{"sink without tls", "", sink("protocol: syslog-tls, address: 192.0.2.7:6514"), "syslog-tls without tls", "", ""},
		{"sink tls in the clear", "", sink("protocol: syslog-tcp, address: 192.0.2.7:6514, " + files), "tls with protocol syslog-tcp", "", ""},
		{"sink key", "", sink("protocol: syslog-tls, address: 192.0.2.7:6514, " + strings.Replace(files, "/etc/own.key", "own.key", 1)), "not the path of a file", "own.key", ""},
		{"sink server name", "", sink("protocol: syslog-tls, address: 192.0.2.7:6514, " + strings.Replace(files, "}", ", serverName: a_b}", 1)), "not a host name", "a_b", ""},
		{"sink format", "", sink("protocol: syslog-tcp, address: 192.0.2.7:514, format: xml"), "unknown value", "xml", ""},
		{"sink format of a file", "", sink("protocol: file, path: /a, format: json"), "format with protocol file", "json", ""},
		{"sink nats without tls", "", sink("protocol: nats, address: 192.0.2.7:4222"), "nats without tls", "", ""},
		{"sink nats format", "", sink("protocol: nats, address: 192.0.2.7:4222, format: text, " + files), "format with protocol nats", "text", ""},
		{"sink subject", "", sink("protocol: nats, address: 192.0.2.7:4222, subject: \"a.*\", " + files), "not a subject", "a.*", ""},
		{"sink subject of syslog", "", sink("protocol: syslog-tcp, address: 192.0.2.7:514, subject: a"), "subject with protocol syslog-tcp", "a", ""},
		{"sink https without url", "", sink("protocol: https, " + files), "https without url", "", ""},
		{"sink https with address", "", sink("protocol: https, url: https://soc.example.org/j, address: 192.0.2.7:443, " + files), "address with protocol https", "192.0.2.7:443", ""},
		{"sink https without tls", "", sink("protocol: https, url: https://soc.example.org/j"), "https without tls", "", ""},
		{"sink url in the clear", "", sink("protocol: https, url: http://soc.example.org/j, " + files), "not an address of https", "http://soc.example.org/j", ""},
		{"sink url with a password", "", sink("protocol: https, url: \"https://a:b@soc.example.org/j\", " + files), "not an address of https", "https://a:b@soc.example.org/j", ""},
		{"sink url with a fragment", "", sink("protocol: https, url: \"https://soc.example.org/j#x\", " + files), "not an address of https", "https://soc.example.org/j#x", ""},
		{"sink url without a port", "", sink("protocol: https, url: \"https://soc.example.org:/j\", " + files), "not an address of https", "https://soc.example.org:/j", ""},
		{"sink otlp without url", "", sink("protocol: otlp, " + files), "otlp without url", "", ""},
		{"sink url of a file", "", sink("protocol: file, path: /a, url: https://soc.example.org/j"), "url with protocol file", "https://soc.example.org/j", ""},
		{"sink event type", "", sink("protocol: file, path: /a, events: {types: [drift.*, tunnel.stat]}"), "there is no event of this type", "tunnel.stat", ""},
		{"sink severity", "", sink("protocol: file, path: /a, events: {severities: [alarm]}"), "unknown value", "alarm", ""},
		{"sinks too many", "", manySinks(17), "site has too many sinks", "gateway", ""},
	}
}

func manySinks(n int) (text string) {
	for i := range n {
		text += doc("EventSink", fmt.Sprintf("s%d", i), fmt.Sprintf("{sites: [gateway], protocol: file, path: /var/a%d}", i))
	}
	return text
}

func TestSinksThatAreWell(t *testing.T) {
	base := strings.Join([]string{example(t, "zones"), example(t, "registers"), example(t, "site")}, "---\n")
	for _, spec := range []string{
		"protocol: syslog-tls, address: \"[2001:db8::7]:6514\", tls: {ca: /a, certificate: /b, key: /c, serverName: 2001:db8::7}, format: text",
		"protocol: syslog-tcp, address: 192.0.2.7:514, format: cef",
		"protocol: otlp, url: \"https://soc.example.org:4318/v1/logs\", tls: {ca: /a, certificate: /b, key: /c}",
		"protocol: nats, address: soc.example.org:4222, tls: {ca: /a, certificate: /b, key: /c}, subject: a.b_c-D.9",
		"protocol: https, url: \"https://[2001:db8::7]:8443/journal?of=owner\", tls: {ca: /a, certificate: /b, key: /c}",
		"protocol: syslog-udp, address: 192.0.2.7:514, newOnly: true, events: {types: [drift.*, tunnel.state], severities: [alert], object: tunnel/, text: x}",
	} {
		if p := check(t, base+doc("EventSink", "s", "{sites: [gateway], "+spec+"}"), validate.Options{Day: dayOfCases}); len(p) > 0 {
			t.Errorf("%s: %v", spec, p)
		}
	}
	if p := check(t, base+manySinks(16), validate.Options{Day: dayOfCases}); len(p) > 0 {
		t.Error(p)
	}
}
