package compile_test

import (
	"strings"
	"testing"

	"shekara/provisioning/compile"
	"shekara/provisioning/contour/contourtest"
)

// Where nobody validated, compiling refuses the same.
func TestContourRulesWithoutValidation(t *testing.T) {
	for _, c := range contourtest.Cases() {
		broken, mended := c.Texts(t)
		if d, err := compile.Compile(contourtest.Set(t, broken), "gateway"); err == nil || d != nil || !strings.Contains(err.Error(), "["+c.Rule+"; ") {
			t.Errorf("%s %s: compiled: %v", c.Rule, c.Name, err)
		}
		if _, err := compile.Compile(contourtest.Set(t, mended), "gateway"); err != nil {
			t.Errorf("%s %s, mended: %v", c.Rule, c.Name, err)
		}
	}
}
