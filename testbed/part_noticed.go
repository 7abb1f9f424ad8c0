package testbed

import (
	"context"
	"fmt"
	"regexp"
	"strings"
	"time"

	"shekara/testbed/report"
)

// noticed changes a host behind its daemon's back, and measures how long the journal takes to tell of it, and of the repair: with "on" a
// host, "do" a script, "event" the event's type (drift.find by default), "what" and "by" patterns of its fields, "most" how long it may
// take, "repaired" no where nobody repairs it.
func noticed(ctx context.Context, e *engine, step *report.Step, with map[string]string) error {
	most, err := time.ParseDuration(with["most"])
	if err != nil {
		return err
	}
	what, err := regexp.Compile(e.expand(with["what"]))
	if err != nil {
		return err
	}
	by, err := regexp.Compile(e.expand(with["by"]))
	if err != nil {
		return err
	}
	before, err := e.journal(ctx, with["on"])
	if err != nil {
		return err
	}
	last := before[len(before)-1].Sequence
	if _, err := output(ctx, e.network.Host(with["on"]), "sh", "-e", "-c", e.expand(with["do"])); err != nil {
		return err
	}
	done := time.Now()
	wanted := []string{with["event"], "drift.repair"}
	if wanted[0] == "" {
		wanted[0] = "drift.find"
	}
	if with["repaired"] == "no" || wanted[0] != "drift.find" {
		wanted = wanted[:1]
	}
	for {
		found, seen, err := e.told(ctx, with["on"], last, wanted, what, by)
		if err != nil {
			return err
		}
		if len(found) == len(wanted) {
			for i, word := range []string{"noticed after", "repaired after"}[:len(found)] {
				step.Facts = append(step.Facts, report.Fact{Name: word, Value: found[i].Time.Sub(done).Round(time.Millisecond).String()})
			}
			step.Facts = append(step.Facts, report.Fact{Name: "by", Value: found[0].Fields["by"]}, report.Fact{Name: "what", Value: found[0].Fields["what"]})
			return nil
		}
		if time.Since(done) > most {
			return failure{fmt.Errorf("after %v the journal does not tell of it: %q by %q", most, with["what"], with["by"]), strings.Join(seen, "\n")}
		}
		if err := pause(ctx, retryEvery); err != nil {
			return err
		}
	}
}

// told looks for the wanted events, in their order, behind a sequence number.
func (e *engine) told(ctx context.Context, host string, last uint64, wanted []string, what, by *regexp.Regexp) (found []event, seen []string, err error) {
	events, err := e.journal(ctx, host)
	if err != nil {
		return nil, nil, err
	}
	for _, event := range events {
		if event.Sequence <= last {
			continue
		}
		seen = append(seen, fmt.Sprint(event.Type, " ", event.Fields))
		if len(found) == len(wanted) || event.Type != wanted[len(found)] {
			continue
		}
		if len(found) > 0 || what.MatchString(event.Fields["what"]) && by.MatchString(event.Fields["by"]) {
			found = append(found, event)
		}
	}
	return found, seen, nil
}
