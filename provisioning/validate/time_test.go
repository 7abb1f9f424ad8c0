package validate_test

import (
	"strings"
	"testing"

	"shekara/provisioning/validate"
)

const threeSources = `sources: [{address: "192.0.2.1:123"}, {address: "time.example.org:4460", nts: true}, {address: "[2001:db8::3]:123"}]`

// served is a time service as it should be, in the example of the contours.
const served = threeSources + `, addresses: [10.20.0.1, 10.30.0.254], zones: [registry-lan, archive-lan]`

// oneAddress is the same at the one address that chronyd serves at.
const oneAddress = threeSources + `, addresses: [10.20.0.1], zones: [registry-lan, archive-lan]`

func timeService(name, spec string) string {
	return doc("TimeService", name, "{site: gateway, "+spec+"}")
}

func timeCases() []broken {
	swap := func(old, new string) string {
		if !strings.Contains(served, old) {
			panic(old)
		}
		return timeService("t", strings.Replace(served, old, new, 1))
	}
	with := func(more string) string { return timeService("t", served+", "+more) }
	const keys = "keyFile: /etc/shekara/time/keys, "
	const nts = "nts: {certificate: /etc/own.pem, key: /etc/own.key}"
	return []broken{
		{"time site unknown", "", doc("TimeService", "t", "{site: gate, "+threeSources+"}"), "there is no Site", "gate", ""},
		{"time services of one site", "", timeService("t", served) + timeService("t2", threeSources), "site has two time services", "gateway", ""},
		{"time without sources", "", timeService("t", "zones: [archive-lan], addresses: [10.20.0.1]"), "fewer sources than must agree", "0", "TIM-01"},
		{"time two sources", "", swap(`, {address: "[2001:db8::3]:123"}`, ""), "fewer sources than must agree", "2", "TIM-01"},
		{"time agreeing", "", with("agreeing: 4"), "fewer sources than must agree", "3", "TIM-01"},
		{"time agreeing negative", "", with("agreeing: -1"), "not a number of sources", "-1", "TIM-01"},
		{"time source without port", "", swap("192.0.2.1:123", "192.0.2.1"), "not a host with a port", "192.0.2.1", ""},
		{"time source twice", "", swap("[2001:db8::3]:123", "192.0.2.1:123"), "source is listed twice", "192.0.2.1:123", "TIM-01"},
		{"time source key without file", "", swap(`"192.0.2.1:123"`, `"192.0.2.1:123", key: 1`), "key without keyFile", "1", ""},
		{"time source key and nts", "", timeService("t", keys+strings.Replace(served, "nts: true", "nts: true, key: 1", 1)), "source with nts and with a key", "1", ""},
		{"time source key negative", "", timeService("t", keys+strings.Replace(served, `"192.0.2.1:123"`, `"192.0.2.1:123", key: -1`, 1)), "not the number of a key", "-1", ""},
		{"time source ca without nts", "", swap(`"192.0.2.1:123"`, `"192.0.2.1:123", ca: /etc/ca.pem`), "ca and serverName without nts", "/etc/ca.pem", ""},
		{"time source ca", "", swap("nts: true", "nts: true, ca: ca.pem"), "not the path of a file", "ca.pem", ""},
		{"time source name", "", swap("nts: true", "nts: true, serverName: a_b"), "not a host name", "a_b", ""},
		{"time distance", "", with("maxDistance: 100 ms"), "not a length of time", "100 ms", ""},
		{"time distance of nothing", "", with("maxDistance: 0s"), "not a length of time", "0s", ""},
		{"time warning", "", with("warnOffset: 1m"), "not a length of time", "1m", ""},
		{"time unsynchronised", "", with("unsynchronised: lie"), "unknown value", "lie", ""},
		{"time key file", "", with("keyFile: keys"), "not the path of a file", "keys", ""},
		{"time address", "", swap("10.20.0.1,", "10.20.0.300,"), "not an address", "10.20.0.300", ""},
		{"time address twice", "", swap("10.30.0.254]", "10.20.0.1]"), "address is listed twice", "10.20.0.1", ""},
		{"time address of nobody", "", swap("10.20.0.1,", "10.20.0.9,"), "address is on no interface of the site", "10.20.0.9", ""},
		{"time address outside", "", swap("10.20.0.1,", "203.0.113.10,"), "address is on the Internet's side", "203.0.113.10", "TIM-02"},
		{"time zones without addresses", "", timeService("t", threeSources+", zones: [archive-lan]"), "zones without addresses", "", ""},
		{"time addresses without zones", "", timeService("t", threeSources+", addresses: [10.20.0.1]"), "addresses without zones", "", ""},
		{"time zone unknown", "", swap("archive-lan", "archives-lan"), "there is no Zone", "archives-lan", ""},
		{"time zone twice", "", swap("archive-lan", "registry-lan"), "zone is listed twice", "registry-lan", ""},
		{"time zone internet", "", swap("archive-lan", "internet"), "time is not served to a zone of kind internet", "internet", "TIM-02"},
		{"time zone management", "", swap("archive-lan", "admin"), "time is not served to a zone of kind management", "admin", "TIM-02"},
		{"time client unknown", "", with(keys + "clients: [{system: archives, key: 1}]"), "there is no System", "archives", ""},
		{"time client twice", "", with(keys + "clients: [{system: archive, key: 1}, {system: archive, key: 2}]"), "system is listed twice", "archive", ""},
		{"time client elsewhere", "", with(keys + "clients: [{system: tax, key: 1}]"), "system of a zone that is not served", "tax", "TIM-02"},
		{"time client of no kind", "", with("clients: [{system: archive}]"), "client must authenticate by a key or by NTS", "archive", ""},
		{"time client by NTS", "", with("clients: [{system: archive, nts: true}]"), "client by NTS where it is not served", "archive", ""},
		{"time client key without file", "", with("clients: [{system: archive, key: 1}]"), "key without keyFile", "1", ""},
		{"time nts certificate", "", with(strings.Replace(nts, "/etc/own.pem", "own.pem", 1)), "not the path of a file", "own.pem", ""},
		{"time engine", "", with("engine: ntpd"), "unknown value", "ntpd", ""},
		{"time chrony withholds", "", timeService("t", "engine: chrony, unsynchronised: withhold, "+oneAddress), "chronyd does not withhold", "withhold", ""},
		{"time chrony one host", "", timeService("t", "engine: chrony, "+strings.Replace(oneAddress, "[2001:db8::3]:123", "192.0.2.1:124", 1)), "chronyd asks a host once", "192.0.2.1:124", ""},
		{"time chrony server name", "", timeService("t", "engine: chrony, "+strings.Replace(oneAddress, "nts: true", "nts: true, serverName: ntp.example.org", 1)), "chronyd wants the host of address in the certificate", "ntp.example.org", ""},
		{"time chrony addresses", "", timeService("t", "engine: chrony, "+served), "chronyd serves at one address of each family", "10.30.0.254", ""},
		{"time chrony clients", "", timeService("t", "engine: chrony, "+keys+oneAddress+", clients: [{system: archive, key: 1}]"), "chronyd does not refuse who does not authenticate", "archive", ""},
		{"time chrony path", "", timeService("t", `engine: chrony, keyFile: "/etc/the keys", `+oneAddress), "chronyd cannot be given such a path", "/etc/the keys", ""},
		{"time nts without addresses", "", timeService("t", threeSources+", "+nts), "nts without addresses", "", ""},
	}
}

// TestAFlowMayLeadToATimeService: the other end of a tunnel needs it, and the same file is given to both ends.
func TestAFlowMayLeadToATimeService(t *testing.T) {
	base := ""
	for _, name := range []string{"zones", "registers", "site"} {
		base += example(t, name) + "---\n"
	}
	const to = "to: [10.20.0.20/32], allow: [tcp/443]"
	if !strings.Contains(base, to) {
		t.Fatalf("%q is not in the example", to)
	}
	for name, c := range map[string]struct {
		flow, service string
		refused       bool
	}{
		"without a service":    {"to: [10.20.0.1/32], allow: [udp/123]", "", true},
		"with one":             {"to: [10.20.0.1/32], allow: [udp/123]", served, false},
		"another port":         {"to: [10.20.0.1/32], allow: [udp/123, tcp/22]", served, true},
		"without NTS":          {"to: [10.20.0.1/32], allow: [tcp/4460]", served, true},
		"with NTS":             {"to: [10.20.0.1/32], allow: [udp/123, tcp/4460]", served + ", nts: {certificate: /etc/own.pem, key: /etc/own.key}", false},
		"at an address beside": {"to: [10.20.0.1/32], allow: [udp/123]", strings.Replace(served, "10.20.0.1, ", "", 1), true},
	} {
		t.Run(name, func(t *testing.T) {
			text := strings.Replace(strings.Replace(base, to, c.flow, 1), "zone: gateways, prefixes: [10.20.0.20/32]}", "zone: gateways, prefixes: [10.20.0.0/24]}", 1)
			if c.service != "" {
				text += timeService("t", c.service)
			}
			refused := false
			for _, p := range check(t, text, validate.Options{Day: dayOfCases}) {
				refused = refused || p.What == "destination is the appliance itself"
			}
			if refused != c.refused {
				t.Errorf("refused: %t, want %t", refused, c.refused)
			}
		})
	}
}
