package testbed

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"shekara/testbed/packet"
	"shekara/testbed/report"
	"shekara/testbed/scenario"
)

// capture is one under way.
type capture struct {
	cancel context.CancelFunc
	done   sync.WaitGroup
	data   bytes.Buffer // the capture's until done
	guard  bool
	count  int
	leaks  int // of a guard
	err    error
}

func (c *capture) stop() {
	c.cancel()
	c.done.Wait()
}

func (e *engine) capture(c scenario.Capture) error {
	ctx, cancel := context.WithCancel(context.Background())
	running := &capture{cancel: cancel, guard: len(c.Inside) > 0}
	began := make(chan struct{})
	failed := make(chan error, 1)
	running.done.Go(func() {
		if host, begin := e.network.Host(c.On), func() { close(began) }; running.guard {
			running.count, running.leaks, running.err = packet.Guard(ctx, host, c.Interface, c.Inside, &running.data, begin)
		} else {
			running.count, running.err = packet.Capture(ctx, host, c.Interface, &running.data, begin)
		}
		failed <- running.err
	})
	select {
	case <-began:
	case err := <-failed:
		cancel()
		return err
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	e.captures[c.Name] = running
	return nil
}

func (e *engine) endCapture(step *report.Step, end scenario.EndCapture) error {
	e.mu.Lock()
	c := e.captures[end.Name]
	delete(e.captures, end.Name)
	e.mu.Unlock()
	if c == nil {
		return fmt.Errorf("there is no capture %q", end.Name)
	}
	c.stop()
	if c.err != nil {
		return c.err
	}
	step.Facts = append(step.Facts, report.Fact{Name: "packets", Value: fmt.Sprint(c.count)})
	if c.guard {
		step.Facts = append(step.Facts, report.Fact{Name: "left in the clear", Value: fmt.Sprint(c.leaks)})
	}
	if e.captureTo != "" {
		file := filepath.Join(e.captureTo, filepath.Base(end.Name)+".pcap")
		if err := os.WriteFile(file, c.data.Bytes(), 0o644); err != nil {
			return err
		}
		step.Facts = append(step.Facts, report.Fact{Name: "file", Value: file})
	}
	if c.count < end.Least {
		return fmt.Errorf("%d packets were seen, at least %d must be", c.count, end.Least)
	}
	switch {
	case end.Leaks > 0 && c.leaks < end.Leaks:
		return fmt.Errorf("%d packets left in the clear, at least %d must for this control", c.leaks, end.Leaks)
	case end.Leaks == 0 && c.leaks > 0:
		return fmt.Errorf("%d packets of protected prefixes left in the clear, the first: %s", c.leaks, firstOf(c.data.Bytes()))
	}
	return shownRightly(step, c.data.Bytes(), end)
}

// shownRightly holds a capture to the addresses that it must not and must show.
func shownRightly(step *report.Step, pcap []byte, end scenario.EndCapture) error {
	shown, err := packet.Showing(pcap, slices.Concat(end.Never, end.Shows))
	if err != nil {
		return err
	}
	var problems []error
	for _, p := range end.Never {
		if shown[p] > 0 {
			problems = append(problems, fmt.Errorf("%d packets show an address of %s", shown[p], p))
		}
	}
	for _, p := range end.Shows {
		step.Facts = append(step.Facts, report.Fact{Name: "packets with " + p.String(), Value: fmt.Sprint(shown[p])})
		if shown[p] == 0 {
			problems = append(problems, fmt.Errorf("no packet shows an address of %s", p))
		}
	}
	if end.NoMoreOutOf.IsValid() {
		in, out, err := packet.Bytes(pcap, end.NoMoreOutOf)
		if err != nil {
			return err
		}
		step.Facts = append(step.Facts, report.Fact{Name: "bytes to and from " + end.NoMoreOutOf.String(), Value: fmt.Sprintf("%d and %d", in, out)})
		if out > in || out == 0 {
			problems = append(problems, fmt.Errorf("%d bytes came to %s and %d left it: no more may leave than came, and some must", in, end.NoMoreOutOf, out))
		}
	}
	return errors.Join(problems...)
}

// firstOf describes the first packet of a pcap.
func firstOf(pcap []byte) string {
	var out bytes.Buffer
	if err := packet.PrintFirst(bytes.NewReader(pcap), &out); err != nil {
		return err.Error()
	}
	return strings.TrimSpace(out.String())
}
