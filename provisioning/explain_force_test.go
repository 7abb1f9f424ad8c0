package provisioning

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"shekara/provisioning/document"
)

// TestExplainWhatIsInForce: the engine answers by what it loaded, and with documents by what it would load, and changes nothing.
func TestExplainWhatIsInForce(t *testing.T) {
	b := newBox(t).start()
	q := Question{Source: "10.64.0.5", Destination: "10.20.0.10", Service: "tcp/443"}
	var mistake *QuestionError
	if _, err := b.Explain(t.Context(), q, Request{}); !errors.As(err, &mistake) || hintOf(err) == "" {
		t.Errorf("with nothing in force: %v", err)
	}
	b.mustApply(request(site + agencies(0, 3)))
	b.mustConfirm()
	x, err := b.Explain(t.Context(), q, Request{})
	if err != nil || !x.Pass || x.Revision != 1 || !slices.Equal(x.Documents, []ExplainedDocument{{Kind: document.KindFlow, Name: "agency-0-https"}}) {
		t.Errorf("%+v, %v", x, err)
	}
	if x.Packet.From.Tunnel != "agency-0" || x.Packet.To.Interface != "dmz0" || x.MTU != 1420 || x.Verdict.MSS != 1380 {
		t.Errorf("the way is %+v, MTU %d, MSS %d", x.Packet, x.MTU, x.Verdict.MSS)
	}
	// The address of adm0 stands on the host alone: no document names it.
	x, err = b.Explain(t.Context(), Question{Source: "192.168.100.7", Destination: "192.168.100.1", Service: "tcp/22"}, Request{})
	if err != nil || !x.Pass || x.Verdict.Hook != "input" || x.Documents[0].Kind != document.KindSite {
		t.Errorf("management: %+v, %v", x, err)
	}
	// What goes to a far peer's port is encrypted, and bears the device's mark.
	x, err = b.Explain(t.Context(), Question{Source: "203.0.113.10", Destination: "198.18.0.0", Service: "udp/51820"}, Request{})
	if err != nil || !x.Pass || x.Verdict.BuiltIn != "outer packets" || !slices.Equal(x.Documents, []ExplainedDocument{{Kind: document.KindTunnel, Name: "agency-0"}}) {
		t.Errorf("an outer packet: %+v, %v", x, err)
	}

	q.Service = "tcp/80"
	if x, err = b.Explain(t.Context(), q, Request{}); err != nil || x.Pass || x.Suggestion == "" {
		t.Errorf("another service: %+v, %v", x, err)
	}
	would, err := b.Explain(t.Context(), q, request(x.Suggestion))
	if err != nil || !would.Pass || would.Revision != 0 || would.Documents[0].File != "test.yaml:4" {
		t.Errorf("with what it suggests: %+v, %v", would, err)
	}
	var invalid *InvalidError
	if _, err := b.Explain(t.Context(), q, request(strings.Replace(x.Suggestion, "agency-0", "nobody", 1))); !errors.As(err, &invalid) {
		t.Errorf("with an invalid document: %v", err)
	}
	whole := request(site)
	whole.Whole = true
	if x, err = b.Explain(t.Context(), q, whole); err != nil || x.Pass || x.Packet.From.Tunnel != "" {
		t.Errorf("without agencies: %+v, %v", x, err)
	}
	if r, _ := b.revision(); r != 1 {
		t.Errorf("revision %d is in force after questions", r)
	}
}

// TestMatrixOfWhatIsInForce: the matrix is of the revision in force, or of what would be.
func TestMatrixOfWhatIsInForce(t *testing.T) {
	b := newBox(t).start()
	if _, err := b.Matrix(t.Context(), Request{}); err == nil {
		t.Error("with nothing in force there is a matrix")
	}
	b.mustApply(request(site + agencies(0, 2)))
	b.mustConfirm()
	flows := func(r Request) (count, revision int) {
		m, err := b.Matrix(t.Context(), r)
		if err != nil {
			t.Fatal(err)
		}
		for _, c := range m.Cells {
			if c.From == "agencies" && c.To == "gateway-dmz" {
				count = len(c.Flows)
			}
		}
		return count, m.Revision
	}
	if count, revision := flows(Request{}); count != 2 || revision != 1 {
		t.Errorf("in force: %d flows of revision %d", count, revision)
	}
	if count, revision := flows(request(agencies(2, 1))); count != 3 || revision != 0 {
		t.Errorf("with one more: %d flows of revision %d", count, revision)
	}
}
