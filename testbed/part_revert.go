package testbed

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"shekara/testbed/report"
)

// event is what a line of "shekara journal tail --json" says.
type event struct {
	Sequence uint64            `json:"sequence"`
	Time     time.Time         `json:"time"`
	Type     string            `json:"type"`
	Fields   map[string]string `json:"fields"`
}

// journal reads the newest events of a host.
func (e *engine) journal(ctx context.Context, host string) ([]event, error) {
	result, err := e.execute(ctx, e.network.Host(host), []string{"shekara", "journal", "list", "--json", "--limit", "10000"}, "")
	if err != nil {
		return nil, err
	}
	if result.Exit != 0 {
		return nil, failure{fmt.Errorf("shekara journal list: exit code %d", result.Exit), result.Stdout + result.Stderr}
	}
	var document struct {
		Events []event `json:"events"`
	}
	if err := json.Unmarshal([]byte(result.Stdout), &document); err == nil && len(document.Events) > 0 {
		return document.Events, nil
	}
	var events []event
	lines := bufio.NewScanner(strings.NewReader(result.Stdout))
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		var one event
		if json.Unmarshal(lines.Bytes(), &one) == nil && one.Sequence > 0 {
			events = append(events, one)
		}
	}
	if len(events) == 0 {
		return nil, failure{fmt.Errorf("the journal of %s shows no events", host), result.Stdout}
	}
	return events, nil
}

// revertDelay measures how long after its deadline, or after another event, the newest revert was done.
func revertDelay(ctx context.Context, e *engine, step *report.Step, with map[string]string) error {
	most, err := time.ParseDuration(with["most"])
	if err != nil {
		return err
	}
	events, err := e.journal(ctx, with["on"])
	if err != nil {
		return err
	}
	var begin, end time.Time
	for i := len(events) - 1; i >= 0 && begin.IsZero(); i-- {
		switch event := events[i]; {
		case end.IsZero() && event.Type == "revision.revert":
			end = event.Time
		case end.IsZero():
		case with["after"] != "" && event.Type == with["after"]:
			begin = event.Time
		case with["after"] == "" && event.Type == "confirm.wait":
			for _, value := range event.Fields {
				if at, err := time.Parse(time.RFC3339Nano, value); err == nil {
					begin = at
				}
			}
			if begin.IsZero() {
				return fmt.Errorf("the event confirm.wait names no deadline: %v", event.Fields)
			}
		}
	}
	if end.IsZero() || begin.IsZero() {
		return fmt.Errorf("the journal shows no revert after the event")
	}
	delay := end.Sub(begin)
	step.Facts = append(step.Facts, report.Fact{Name: "reverted after", Value: delay.Round(time.Millisecond).String()})
	if delay > most {
		return fmt.Errorf("it took %v, at most %v is promised", delay, most)
	}
	return nil
}
