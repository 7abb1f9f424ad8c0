package provisioning

import (
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"shekara/journal"
)

// waivedFlow joins the internal to the external contour until the end of a day. The bubble's clock begins at 2000-01-01 00:00 UTC.
const waivedFlow = `apiVersion: shekara/v1
kind: Flow
metadata: {name: old-line}
spec:
  fromZone: admin
  toZone: internet
  from: [192.168.100.7/32]
  to: [0.0.0.0/0]
  allow: [tcp/443]
  waiver: {reason: the old line goes, approver: head of security, expires: "2000-01-01"}
`

func TestWaiverIsShownRecordedAndExpiresByItself(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBox(t).run()
		b.mustApply(request(site))
		b.mustConfirm()
		plan, err := b.Plan(t.Context(), request(waivedFlow))
		const want = "flow old-line breaks GWY-07 by a waiver of head of security until 2000-01-01: the old line goes"
		if err != nil || len(plan.Risks) != 1 || plan.Risks[0] != want {
			t.Fatalf("risks %q, %v", plan.Risks, err)
		}
		if result := b.mustApply(request(waivedFlow)); result.ConfirmBy == nil {
			t.Error("no window for a waived rule")
		}
		b.mustConfirm()
		if got := b.field(journal.ApplyStart, "waived"); got != want {
			t.Errorf("recorded %q", got)
		}
		flow := func() bool {
			b.mu.Lock()
			defer b.mu.Unlock()
			_, there := b.intent.flows["old-line"]
			return there
		}
		b.wait(19*time.Hour - time.Minute) // Almaty was at UTC+6 then: the day has been over there for an hour less a minute at 19:00 UTC
		if flow() {
			t.Error("in force after its last day")
		}
		b.mustBeAsAsked()
		if got := b.field(journal.DocumentsReject, "removed"); got != "Flow/old-line" {
			t.Errorf("recorded as removed: %q", got)
		}
		status, err := b.Status(t.Context())
		if err != nil || len(status.Problems) != 1 || !strings.Contains(status.Problems[0], "the waiver expired with 2000-01-01") {
			t.Errorf("problems %q, %v", status.Problems, err)
		}
		if _, err := b.Apply(t.Context(), request(waivedFlow)); err == nil {
			t.Error("an expired waiver was applied")
		}
		b.mustApply(request(strings.Replace(waivedFlow, "2000-01-01", "2000-06-01", 1)))
		b.mustConfirm()
		b.wait(time.Minute)
		if !flow() {
			t.Error("not in force again with a new waiver")
		}
		b.mustBeAsAsked()
	})
}

// Before its last day is over a waiver holds, whatever the hour in UTC.
func TestWaiverHoldsThroughItsLastDay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBox(t).run()
		b.mustApply(request(site + "---\n" + waivedFlow))
		b.mustConfirm()
		b.wait(18*time.Hour - time.Minute) // 23:59 in Almaty
		b.mu.Lock()
		_, there := b.intent.flows["old-line"]
		b.mu.Unlock()
		if !there {
			t.Error("out of force before its last day was over")
		}
	})
}

// field is a field of the newest event of a type.
func (b *box) field(t journal.Type, name string) string {
	b.events.mu.Lock()
	defer b.events.mu.Unlock()
	value := ""
	for _, e := range b.events.list {
		if e.Type == t {
			value = e.Fields[name]
		}
	}
	return value
}
