package probetest

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"

	"shekara/netctl/probe"
)

// What a run may be without, besides what the host has. SHEKARA_REQUIRE names them as it does features, so "all" means a whole run.
const (
	Time = probe.Feature("time") // go test -short leaves out what takes long
	Idle = probe.Feature("idle") // nobody uses what is there once on a machine
)

// Need skips the test, naming the feature, if the host lacks one of features; where SHEKARA_REQUIRE names it, the test fails.
func Need(t testing.TB, features ...probe.Feature) {
	t.Helper()
	for _, feature := range features {
		if err := probe.Has(feature); err != nil {
			skip(t, feature, err)
		}
	}
}

// NeedTime skips a test that takes long in a short run. why says how long, or of what.
func NeedTime(t testing.TB, why string) {
	t.Helper()
	if testing.Short() {
		skip(t, Time, &probe.Missing{Feature: Time, Reason: errors.New(why)})
	}
}

// NeedIdle skips a test while somebody uses what it needs for itself. err says who, and how that ends; nil: nobody does.
func NeedIdle(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		skip(t, Idle, &probe.Missing{Feature: Idle, Reason: err})
	}
}

// skip ends the test: it fails where SHEKARA_REQUIRE names the feature, and is recorded otherwise.
func skip(t testing.TB, feature probe.Feature, err error) {
	t.Helper()
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
