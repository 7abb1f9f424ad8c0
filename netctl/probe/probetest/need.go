package probetest

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"

	"shekara/netctl/probe"
)

// Need skips the test, naming the feature, if the host lacks one of features; where SHEKARA_REQUIRE names it, the test fails.
func Need(t testing.TB, features ...probe.Feature) {
	t.Helper()
	for _, feature := range features {
		err := probe.Has(feature)
		if err == nil {
			continue
		}
		if required(os.Getenv("SHEKARA_REQUIRE"), feature) {
			t.Fatalf("SHEKARA_REQUIRE names %s, but %v", feature, err)
		}
		if file := os.Getenv("SHEKARA_SKIPS"); file != "" {
			if err := record(file, t.Name(), err); err != nil {
				t.Fatalf("record skip: %v", err)
			}
		}
		t.Skip(err)
	}
}

// required tells whether list asks for feature. The last word that speaks of it counts.
func required(list string, feature probe.Feature) bool {
	answer := false
	for _, word := range strings.Split(list, ",") {
		name, excluded := strings.CutPrefix(strings.TrimSpace(word), "-")
		if name == "all" || name == string(feature) {
			answer = !excluded
		}
	}
	return answer
}

// record appends in one write(2) with O_APPEND, so that test binaries running side by side do not mix lines.
func record(file, test string, missing error) error {
	f, err := os.OpenFile(file, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o644)
	if err != nil {
		return err
	}
	feature, reason := "", missing
	var m *probe.Missing
	if errors.As(missing, &m) {
		feature, reason = string(m.Feature), m.Reason
	}
	_, err = fmt.Fprintf(f, "%s\t%s\t%s\n", feature, test, strings.ReplaceAll(reason.Error(), "\n", " "))
	return errors.Join(err, f.Close())
}
