package document_test

import (
	"fmt"
	"testing"

	"shekara/provisioning/document"
)

func TestBINCheckDigit(t *testing.T) {
	// 260140000604 needs the second weights; by both weights 26014000063 gives 10, so no digit fits.
	for _, good := range []string{"250140000013", "260240000029", "990140000037", "240340000059", "260140000604"} {
		if err := document.ParseBIN(good); err != nil {
			t.Errorf("%s: %v", good, err)
		}
		for digit := range 10 {
			other := good[:11] + fmt.Sprint(digit)
			if err := document.ParseBIN(other); (err == nil) != (other == good) {
				t.Errorf("%s: %v", other, err)
			}
		}
	}
	for digit := range 10 {
		if n := "26014000063" + fmt.Sprint(digit); document.ParseBIN(n) == nil {
			t.Errorf("%s: accepted, but such a number is never given out", n)
		}
	}
	for _, bad := range []string{"", "25014000001", "2501400000130", "25014000001a", "250040000013", "251340000013", "２50140000013"} {
		if document.ParseBIN(bad) == nil {
			t.Errorf("%q: accepted", bad)
		}
	}
}
