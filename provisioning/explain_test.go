package provisioning_test

import (
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"shekara/provisioning"
	"shekara/provisioning/document"
	"shekara/provisioning/validate"
	"shekara/testbed/oracle"
)

// estate is random documents of one box, and where hosts stand around it.
type estate struct {
	random *rand.Rand
	set    *document.Set
	oracle *oracle.Oracle
	stands []stand
	flows  []*document.Flow
}

// stand is a place with hosts, as the oracle and as a question name it, and addresses that are truly there.
type stand struct {
	location oracle.Location
	tunnel   string
	link     string
	hosts    []string
}

var estateServices = []string{"tcp/443", "tcp/80", "udp/53", "udp/5000-5010", "tcp", "icmp"}

// newEstate writes documents at random, leaves out what validation refuses, and gives the oracle the rest.
func newEstate(t *testing.T, seed uint64) *estate {
	t.Helper()
	e := &estate{random: rand.New(rand.NewPCG(seed, 7))}
	text := estateBase + estateTime
	e.stands = []stand{
		{location: oracle.Location{Zone: "internet", Peer: "owner-edge"}, link: "ext0", hosts: []string{"198.51.100.200", "192.0.2.77"}},
		{location: oracle.Location{Zone: "dmz", Peer: "owner-edge"}, link: "dmz0", hosts: []string{"10.20.0.10", "10.20.0.11", "10.20.0.40"}},
		{location: oracle.Location{Zone: "screen", Peer: "owner-edge"}, link: "scr0", hosts: []string{"10.30.0.10", "10.30.0.70"}},
		{location: oracle.Location{Zone: "admin", Peer: "owner-edge"}, link: "adm0", hosts: []string{"192.168.100.5", "192.168.100.60"}},
	}
	for i := range 3 {
		name, net := fmt.Sprintf("agency-%c", 'a'+i), fmt.Sprintf("10.64.%d.", i+1)
		key := sha256.Sum256([]byte(name))
		text += fmt.Sprintf(estateAgency, name, i+20, base64.StdEncoding.EncodeToString(key[:]), net)
		e.stands = append(e.stands, stand{location: oracle.Location{Zone: "agencies", Peer: name + "-edge"}, tunnel: name, hosts: []string{net + "1", net + "5", net + "9"}})
	}
	for i := range 14 {
		from, to := e.stands[e.random.IntN(len(e.stands))], e.stands[e.random.IntN(len(e.stands))]
		tunnel := from.tunnel + to.tunnel
		way := "tunnel: " + tunnel
		switch {
		case from.tunnel != "" && to.tunnel != "" || from.link == to.link && from.tunnel == to.tunnel:
			continue
		case tunnel == "":
			way = fmt.Sprintf("fromZone: %s, toZone: %s", from.location.Zone, to.location.Zone)
		}
		text += fmt.Sprintf("---\napiVersion: shekara/v1\nkind: Flow\nmetadata: {name: flow-%d}\nspec: {%s, from: [%s], to: [%s], allow: [%s]}\n", i, way,
			e.prefix(from), e.prefix(to), estateServices[e.random.IntN(len(estateServices))])
	}
	documents, problems := document.Decode([]document.File{{Name: "estate.yaml", Data: []byte(text)}})
	if len(problems) > 0 {
		t.Fatalf("seed %d: %v\n%s", seed, problems, text)
	}
	e.set, _ = validate.Valid(document.NewSet(documents...), validate.Options{Site: "owner"}, nil)
	var kept []byte
	for d := range e.set.All() {
		kept = append(append(kept, "---\n"...), d.Canonical()...)
		if f := e.set.Flow(d.Name); d.Kind == document.KindFlow {
			e.flows = append(e.flows, f)
		}
	}
	var err error
	if e.oracle, err = oracle.Read(kept); err != nil {
		t.Fatal(err)
	}
	return e
}

const estateBase = `apiVersion: shekara/v1
kind: Zone
metadata: {name: internet}
spec: {contour: external, kind: internet}
---
apiVersion: shekara/v1
kind: Zone
metadata: {name: agencies}
spec: {contour: external, kind: partners, prefixes: [10.64.0.0/12]}
---
apiVersion: shekara/v1
kind: Zone
metadata: {name: dmz}
spec: {contour: integration, kind: screened-subnet, prefixes: [10.20.0.0/24]}
---
apiVersion: shekara/v1
kind: Zone
metadata: {name: screen}
spec: {contour: integration, kind: screened-subnet, prefixes: [10.30.0.0/24]}
---
apiVersion: shekara/v1
kind: Zone
metadata: {name: admin}
spec: {contour: internal, kind: management, prefixes: [192.168.100.0/24]}
---
apiVersion: shekara/v1
kind: Peer
metadata: {name: owner-edge}
spec: {side: owner, publicIP: 203.0.113.10, wireguard: [{farZone: agencies, environment: production, port: 51820}]}
---
apiVersion: shekara/v1
kind: Site
metadata: {name: owner}
spec:
  lab: true
  peers: [owner-edge]
  interfaces:
    - {name: ext0, zone: internet, addresses: [203.0.113.10/24], gateways: [203.0.113.1]}
    - {name: dmz0, zone: dmz, addresses: [10.20.0.254/24]}
    - {name: scr0, zone: screen, addresses: [10.30.0.254/24]}
    - {name: adm0, zone: admin, addresses: [192.168.100.254/24]}
  management: {zone: admin, from: [192.168.100.0/28], allow: [tcp/22, icmp]}
`

const estateTime = `---
apiVersion: shekara/v1
kind: Organisation
metadata: {name: body}
spec: {name: {kk: Орган, ru: Орган, en: Body}, kind: state-body, bin: "260240000029"}
---
apiVersion: shekara/v1
kind: System
metadata: {name: desk}
spec: {name: {kk: Орын, ru: Место, en: Desk}, organisation: body, class: 3, contour: integration, zone: dmz, prefixes: [10.20.0.60/32]}
---
apiVersion: shekara/v1
kind: TimeService
metadata: {name: owner-time}
spec: {site: owner, sources: [{address: "203.0.113.1:123"}], agreeing: 1, addresses: [10.20.0.254], zones: [dmz]}
`

const estateAgency = `---
apiVersion: shekara/v1
kind: Peer
metadata: {name: %[1]s-edge}
spec: {side: initiator, publicIP: 198.51.100.%[2]d, wireguard: [{farZone: dmz, environment: production, port: 51820, publicKey: "%[3]s"}]}
---
apiVersion: shekara/v1
kind: Tunnel
metadata: {name: %[1]s}
spec:
  environment: production
  protocol: wireguard
  probe: true
  initiator: {peer: %[1]s-edge, zone: agencies, prefixes: [%[4]s0/28], probeAddress: %[4]s1}
  owner: {peer: owner-edge, zone: dmz, prefixes: [10.20.0.0/24], probeAddress: 10.20.0.254}
`

// prefix is around a host: that one, some, or all of the network, with the address of the box itself.
func (e *estate) prefix(s stand) string {
	a := netip.MustParseAddr(s.hosts[e.random.IntN(len(s.hosts))])
	lengths := []int{32, 30, 28, 24}
	if s.tunnel != "" {
		lengths = lengths[:3]
	}
	if s.link == "ext0" {
		lengths = []int{32, 26}
	}
	p, _ := a.Prefix(lengths[e.random.IntN(len(lengths))])
	return p.String()
}

// asked is one packet, as a question and for the oracle.
type asked struct {
	question provisioning.Question
	packet   oracle.Packet
	from, to stand
}

func pickOf[T any](e *estate, list []T) T { return list[e.random.IntN(len(list))] }

// draw is a packet: a third that a document allows, a third one field away from these, a third at random.
func (e *estate) draw(n int) asked {
	var from, to stand
	var source, destination string
	service := pickOf(e, []string{"tcp/443", "tcp/80", "tcp/22", "udp/53", "udp/5005", "udp/5011", "icmp"})
	for {
		if from, to = pickOf(e, e.stands), pickOf(e, append(e.stands, e.box())); n%10 == 0 {
			from = e.box()
		}
		source, destination = pickOf(e, pickOf(e, e.stands).hosts), pickOf(e, to.hosts)
		if n%3 != 2 || from.location.Appliance { // a source that is truly there
			source = pickOf(e, from.hosts)
		}
		if source != destination && (from.link != to.link || from.tunnel != to.tunnel) {
			a := e.ask(from, to, source, destination, service)
			if ok, _ := e.oracle.Allowed(a.packet); n%3 == 2 || ok {
				break
			}
		}
		service = pickOf(e, []string{"tcp/443", "tcp/80", "tcp/22", "udp/53", "udp/5005", "icmp"})
	}
	if n%3 == 1 && !from.location.Appliance {
		switch e.random.IntN(4) {
		case 0:
			source = pickOf(e, pickOf(e, e.stands).hosts)
		case 1:
			if to.location.Appliance {
				break
			}
			destination = pickOf(e, to.hosts)
		case 2:
			service = pickOf(e, []string{"tcp/444", "udp/5011", "udp/4999", "icmp", "tcp/80"})
		default:
			from = pickOf(e, e.stands)
		}
	}
	return e.ask(from, to, source, destination, service)
}

// box is the appliance itself, where no flow leads, though there are flows whose prefixes hold its addresses.
func (e *estate) box() stand {
	return stand{location: oracle.Location{Peer: "owner-edge", Appliance: true}, link: provisioning.LocalInterface, hosts: []string{"192.168.100.254", "10.20.0.254", "10.30.0.254"}}
}

func (e *estate) ask(from, to stand, source, destination, service string) asked {
	protocol, port, _ := strings.Cut(service, "/")
	a := asked{from: from, to: to, question: provisioning.Question{Source: source, Destination: destination, Service: service, FromTunnel: from.tunnel, FromInterface: from.link},
		packet: oracle.Packet{From: from.location, To: to.location, Source: netip.MustParseAddr(source), Destination: netip.MustParseAddr(destination), Protocol: protocol}}
	fmt.Sscan(port, &a.packet.Port)
	return a
}

// toBox is what only rules that are not flows let in, or nearly: the time, and the port of a tunnel. The oracle does not know the time.
func (e *estate) toBox() (list []asked) {
	for _, p := range []struct{ source, destination, service string }{
		{"10.20.0.60", "10.20.0.254", "udp/123"}, {"10.20.0.10", "10.20.0.254", "udp/123"}, {"10.20.0.60", "10.20.0.254", "tcp/4460"},
		{"198.51.100.20", "203.0.113.10", "udp/51820"}, {"192.0.2.77", "203.0.113.10", "udp/51820"},
	} {
		list = append(list, e.ask(stand{}, e.box(), p.source, p.destination, p.service))
	}
	return list
}

// TestExplainAgreesWithOracle: over random documents and packets, what Explain says follows from the documents alone; the document that
// it names is the one that the oracle names or allows by itself; and a suggestion that is applied lets the packet pass.
func TestExplainAgreesWithOracle(t *testing.T) {
	passed, dropped, taken := 0, 0, 0
	for seed := range uint64(40) {
		e := newEstate(t, seed)
		var questions []provisioning.Question
		for _, a := range e.toBox() {
			questions = append(questions, a.question)
		}
		for n := range 120 {
			a := e.draw(n)
			if n%10 == 0 { // from the box
				questions = append(questions, provisioning.Question{Source: a.question.Source, Destination: a.question.Destination, Service: a.question.Service})
			}
			want, why := e.oracle.Allowed(a.packet)
			x, err := provisioning.ExplainDocuments(e.set, "owner", a.question)
			if err != nil {
				t.Fatalf("seed %d: %+v: %v", seed, a.question, err)
			}
			if x.Pass != want {
				t.Fatalf("seed %d: %+v: explained as %v: %s; the oracle says %v: %s\n%+v", seed, a.question, x.Pass, x.Summary, want, why, x.Verdict)
			}
			if x.Pass {
				passed++
				e.namesWhatAllows(t, a, x, why)
				e.repliesPass(t, a)
				continue
			}
			dropped++
			if x.Verdict.Reason == "" || len(x.Advice) == 0 || x.Summary == "" {
				t.Fatalf("seed %d: %+v: no reason or advice: %+v", seed, a.question, x)
			}
			if x.Suggestion != "" && n%5 == 0 {
				taken++
				e.take(t, a, x)
			}
		}
		e.assertionsAgree(t, seed, questions)
	}
	t.Logf("%d pass, %d do not, %d suggestions taken", passed, dropped, taken)
	if passed < 1500 || dropped < 1500 || taken < 50 {
		t.Error("the documents are no test: too few packets of one kind")
	}
}

// assertionsAgree: whatever Explain lets pass an assertion finds to pass, and nothing else.
func (e *estate) assertionsAgree(t *testing.T, seed uint64, questions []provisioning.Question) {
	t.Helper()
	text, want := "", []string{}
	for i, q := range questions {
		x, err := provisioning.ExplainDocuments(e.set, "owner", q)
		if err != nil {
			t.Fatalf("seed %d: %+v: %v", seed, q, err)
		}
		for _, require := range []string{"mustReach", "mustNotReach"} {
			name := fmt.Sprintf("a%d-%s", i, strings.ToLower(require))
			text += fmt.Sprintf("---\napiVersion: shekara/v1\nkind: Assertion\nmetadata: {name: %s}\nspec: {site: owner, require: %s, from: [%s/32], to: [%s/32], service: %s}\n",
				name, require, q.Source, q.Destination, q.Service)
			if x.Pass != (require == "mustReach") {
				want = append(want, name)
			}
		}
	}
	documents, problems := document.Decode([]document.File{{Name: "assertions.yaml", Data: []byte(text)}})
	if len(problems) > 0 {
		t.Fatal(problems)
	}
	next, _ := e.set.Merge(documents)
	failed, err := provisioning.CheckAssertions(next, "owner")
	if err != nil {
		t.Fatalf("seed %d: %v", seed, err)
	}
	var got []string
	for _, p := range failed {
		got = append(got, p.Name)
	}
	slices.Sort(got)
	slices.Sort(want)
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("seed %d: these assertions fail (-as explained +as judged):\n%s\n%s", seed, diff, text)
	}
}

// namesWhatAllows: one of the documents named allows the packet by itself.
func (e *estate) namesWhatAllows(t *testing.T, a asked, x provisioning.Explanation, why string) {
	t.Helper()
	if strings.Contains(why, "its own zones") { // by no document
		return
	}
	if len(x.Documents) == 0 {
		t.Fatalf("%+v passes by no document: %+v", a.question, x)
	}
	names := make([]string, len(x.Documents))
	for i, d := range x.Documents {
		names[i] = strings.ToLower(string(d.Kind)) + " " + d.Name
	}
	if !strings.Contains(why, " of ") && !slices.Contains(names, why) {
		t.Fatalf("%+v passes by %v, the oracle says by %s", a.question, names, why)
	}
}

func (e *estate) repliesPass(t *testing.T, a asked) {
	t.Helper()
	a.question.Reply = true
	x, err := provisioning.ExplainDocuments(e.set, "owner", a.question)
	if err != nil || !x.Pass || !x.Packet.Reply || x.Packet.Source != a.question.Destination {
		t.Fatalf("the reply to %+v: %+v, %v", a.question, x, err)
	}
}

// take applies a suggestion.
func (e *estate) take(t *testing.T, a asked, x provisioning.Explanation) {
	t.Helper()
	documents, problems := document.Decode([]document.File{{Name: "suggestion.yaml", Data: []byte(x.Suggestion)}})
	next, changes := e.set.Merge(documents)
	if problems = append(problems, validate.Check(next, validate.Options{Site: "owner"})...); len(problems) > 0 || len(changes) != 1 {
		t.Fatalf("the suggestion is no valid document: %v\n%s", problems, x.Suggestion)
	}
	after, err := provisioning.ExplainDocuments(next, "owner", a.question)
	if err != nil || !after.Pass || len(after.Documents) != 1 || after.Documents[0].File != "suggestion.yaml:4" {
		t.Fatalf("with the suggestion %+v is explained as %+v, %v\n%s", a.question, after, err, x.Suggestion)
	}
}
