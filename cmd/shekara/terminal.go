package main

// Rules of output, kept by this file alone, which is the only one that prints:
//   - standard output is what was asked for: a table for people, or JSON with --json and nothing else;
//   - standard error is everything else: progress, warnings, questions, errors;
//   - an error is "shekara: thing: cause", then "hint: next step";
//   - colour only on a terminal, and not with NO_COLOR (no-color.org) or TERM=dumb;
//   - tables are cut to the width of a terminal, never when they go to a file or a pipe.

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"time"
	"unicode/utf8"

	netterminal "shekara/netctl/terminal"
	"shekara/provisioning/client"
	"shekara/provisioning/document"
)

type terminal struct {
	stdin          *bufio.Reader
	stdout, stderr io.Writer
	asks           bool // both ends of a question are a terminal
	width, height  int  // of standard output; 0: it is no terminal
	errorWidth     int  // of standard error
	colour         bool
}

func newTerminal(stdin io.Reader, stdout, stderr io.Writer, colour bool) *terminal {
	_, _, reads := netterminal.Size(stdin)
	width, height, writes := netterminal.Size(stdout)
	errorWidth, _, warns := netterminal.Size(stderr)
	return &terminal{stdin: bufio.NewReader(stdin), stdout: stdout, stderr: stderr,
		asks: reads && warns, width: width, height: height, errorWidth: errorWidth, colour: colour && writes}
}

// exit is an error that chooses the exit code. Without a cause nothing is printed.
type exit struct {
	code int
	err  error
}

func (e *exit) Error() string { return fmt.Sprint(e.err) }
func (e *exit) Unwrap() error { return e.err }

// hinted is an error of this program with its next step.
type hinted struct {
	err  error
	hint string
}

func (e *hinted) Error() string { return e.err.Error() }
func (e *hinted) Unwrap() error { return e.err }
func (e *hinted) Hint() string  { return e.hint }

func hint(err error, next string) error { return &hinted{err, next} }

// finish prints the error, if there is one, and answers the exit code.
func (t *terminal) finish(ctx context.Context, err error) int {
	code := 0
	if err != nil {
		code = 1
	}
	var chosen *exit
	if errors.As(err, &chosen) {
		code, err = chosen.code, chosen.err
	}
	if err == nil {
		return code
	}
	if ctx.Err() != nil {
		fmt.Fprintln(t.stderr, "shekara: interrupted")
		return 130
	}
	var fromDaemon *client.Error
	if errors.As(err, &fromDaemon) && fromDaemon.Problem != nil && len(fromDaemon.Problem.Problems) > 0 {
		t.problems(fromDaemon.Problem.Problems)
	}
	fmt.Fprintf(t.stderr, "%s %v\n", t.paint(red, "shekara:", t.errorWidth > 0), err)
	if next := hintOf(err); next != "" {
		fmt.Fprintf(t.stderr, "hint: %s\n", next)
	}
	return code
}

func hintOf(err error) string {
	var fromDaemon *client.Error
	if errors.As(err, &fromDaemon) {
		return fromDaemon.Hint
	}
	var own interface{ Hint() string }
	if errors.As(err, &own) {
		return own.Hint()
	}
	return ""
}

// problems prints everything wrong with documents, one a line, on standard error.
func (t *terminal) problems(list []document.Problem) {
	for _, p := range list {
		fmt.Fprintln(t.stderr, p)
	}
}

// line prints what was asked for.
func (t *terminal) line(format string, args ...any) { fmt.Fprintf(t.stdout, format+"\n", args...) }

// raw prints bytes that were asked for.
func (t *terminal) raw(text []byte) error {
	_, err := t.stdout.Write(text)
	return err
}

// note prints what was not asked for but matters.
func (t *terminal) note(format string, args ...any) { fmt.Fprintf(t.stderr, format+"\n", args...) }

// loud is a note that must not be missed.
func (t *terminal) loud(format string, args ...any) {
	fmt.Fprintln(t.stderr, t.paint(yellow, "! "+fmt.Sprintf(format, args...), t.errorWidth > 0))
}

// json prints an object with its version and kind in front.
func (t *terminal) json(kind string, v any) error {
	text, err := json.Marshal(v)
	if err != nil {
		return fmt.Errorf("encode %s: %w", kind, err)
	}
	head := fmt.Sprintf(`{"apiVersion":%q,"kind":%q`, document.APIVersion, kind)
	if rest := text[1:]; rest[0] != '}' {
		head += ","
	}
	var out bytes.Buffer
	if err := json.Indent(&out, append([]byte(head), text[1:]...), "", "  "); err != nil {
		return fmt.Errorf("encode %s: %w", kind, err)
	}
	out.WriteByte('\n')
	return t.raw(out.Bytes())
}

// jsonLine prints an object in one line, for streams.
func (t *terminal) jsonLine(v any) error {
	text, err := json.Marshal(v)
	if err != nil {
		return fmt.Errorf("encode line: %w", err)
	}
	return t.raw(append(text, '\n'))
}

// ask asks a question that is answered with yes, or something else. An interrupt is no.
func (t *terminal) ask(ctx context.Context, question string) bool {
	fmt.Fprintf(t.stderr, "%s [y/N] ", question)
	answered := make(chan string, 1)
	go func() { // it outlives an interrupt, until the program ends
		answer, _ := t.stdin.ReadString('\n')
		answered <- answer
	}()
	select {
	case answer := <-answered:
		switch strings.ToLower(strings.TrimSpace(answer)) {
		case "y", "yes":
			return true
		case "":
			fmt.Fprintln(t.stderr)
		}
	case <-ctx.Done():
		fmt.Fprintln(t.stderr)
	}
	return false
}

// progress says what takes long, from its first second on, until the function it answers is called.
func (t *terminal) progress(what string) (done func()) {
	stop, stopped := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(stopped)
		began := time.Now()
		tick := time.NewTicker(time.Second)
		defer tick.Stop()
		said := false
		for {
			select {
			case <-stop:
				if said && t.errorWidth > 0 {
					fmt.Fprint(t.stderr, "\r\x1b[K")
				}
				return
			case <-tick.C:
			}
			switch {
			case t.errorWidth > 0:
				fmt.Fprintf(t.stderr, "\r\x1b[K%s ... %s", what, time.Since(began).Round(time.Second))
			case !said:
				fmt.Fprintf(t.stderr, "%s ...\n", what)
			}
			said = true
		}
	}()
	var once sync.Once
	return func() { once.Do(func() { close(stop); <-stopped }) }
}

const (
	red    = "\x1b[31m"
	green  = "\x1b[32m"
	yellow = "\x1b[33m"
	plain  = "\x1b[0m"
)

func (t *terminal) paint(colour, text string, to bool) string {
	if !t.colour || !to || colour == "" {
		return text
	}
	return colour + text + plain
}

// cell is a text in a table, with the colour that it has on a terminal.
type cell struct{ text, colour string }

// brief leaves of a table, on a terminal narrower than it takes, only the columns named.
func (t *terminal) brief(takes int, columns []string, header []string, rows [][]cell) ([]string, [][]cell) {
	if t.width == 0 || t.width >= takes {
		return header, rows
	}
	kept := make([][]cell, len(rows))
	for _, column := range columns {
		i := slices.Index(header, column)
		for r := range rows {
			kept[r] = append(kept[r], rows[r][i])
		}
	}
	return columns, kept
}

// table prints aligned columns. On a terminal too narrow for them the last is cut first, since it is prose, then the widest.
func (t *terminal) table(header []string, rows [][]cell) {
	widths := make([]int, len(header))
	all := make([][]cell, 0, len(rows)+1)
	first := make([]cell, len(header))
	for i, h := range header {
		first[i] = cell{text: h}
	}
	all = append(append(all, first), rows...)
	for _, row := range all {
		for i, c := range row {
			widths[i] = max(widths[i], utf8.RuneCountInString(c.text))
		}
	}
	t.fit(widths)
	for _, row := range all {
		var line strings.Builder
		for i, c := range row {
			text := cut(c.text, widths[i])
			pad := widths[i] - utf8.RuneCountInString(text)
			line.WriteString(t.paint(c.colour, text, true))
			if i < len(row)-1 {
				line.WriteString(strings.Repeat(" ", pad+2))
			}
		}
		fmt.Fprintln(t.stdout, strings.TrimRight(line.String(), " "))
	}
}

// No column is cut below narrowest, nor the last below narrowestProse while others can be cut.
const (
	narrowest      = 8
	narrowestProse = 16
)

// fit takes from the last column, then from the widest, until the table fits or nothing can be taken.
func (t *terminal) fit(widths []int) {
	if t.width == 0 {
		return
	}
	total := 2 * (len(widths) - 1)
	for _, w := range widths {
		total += w
	}
	last := len(widths) - 1
	for ; total > t.width && widths[last] > narrowestProse; total-- {
		widths[last]--
	}
	for ; total > t.width; total-- {
		widest := 0
		for i, w := range widths {
			if w >= widths[widest] { // of equal ones the last: names stand first
				widest = i
			}
		}
		if widths[widest] <= narrowest {
			return
		}
		widths[widest]--
	}
}

func cut(text string, width int) string {
	runes := []rune(text)
	if len(runes) <= width {
		return text
	}
	return string(runes[:width-1]) + "…"
}
