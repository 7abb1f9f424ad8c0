package journald

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"regexp"
	"strconv"
	"strings"
	"time"
	"unicode"

	"shekara/netctl/run"
)

const (
	// Kernel stands among units for the kernel: its messages of priority warning and graver.
	Kernel = "kernel"
	// maxText bounds what is kept of a message, in bytes. journalctl itself gives none of 4,088 and more: with "MESSAGE=" that is 4,096 (systemd's JSON_THRESHOLD).
	maxText = 1000
	// maxLine bounds what is read of one, in bytes. The fields that are asked for come to a tenth of it, each being there once; who writes one a thousand times makes it longer.
	maxLine = 1 << 20
	// socket is where a journald of the host listens.
	socket = "/run/systemd/journal/socket"
	// Priorities of syslog(3) that are read.
	leastGrave       = 6 // info
	leastGraveKernel = 4 // warning
)

// Message is one that a unit said.
type Message struct {
	Unread     error     // why it cannot be read: then nothing else is known of it. nil: it was
	Cursor     string    // where it stands
	Time       time.Time // when journald got it, by the box's clock
	Unit       string    // whose it is, or that systemd said it of; Kernel
	Manager    bool      // systemd said it of the unit
	Identifier string    // name of the program, as it says
	Priority   int       // as in syslog(3): 0 emergency to 6 info
	Text       string    // one line; control characters are written as \u001b, a backslash as two
	Cut        bool      // there was more of it
}

// Position is where reading begins.
type Position struct {
	Cursor string    // with the message that stands there, or the next if it is gone; "": by Since
	Since  time.Time // from then on, to the second
}

// Reader reads the host's messages. The zero value is ready.
type Reader struct {
	Directory string // of the journal's files; "": the host's
}

var unitName = regexp.MustCompile(`^[A-Za-z0-9:_.@\\-]+\.(service|socket|mount|timer|target|device|path|scope|slice|swap|automount)$`)

// own are units of which what systemd says is read, and what they log themselves is not: it would feed on itself. The daemon writes of what it records, and who carries records
// to a sink writes when that refuses them.
func own(unit string) bool { return unit == "shekarad.service" || unit == "shekara-export.service" }

// CheckUnit says whether it can be the name of a unit, or Kernel.
func CheckUnit(name string) error {
	if name == Kernel || len(name) <= 255 && unitName.MatchString(name) {
		return nil
	}
	return fmt.Errorf("%.100q is no unit", name)
}

// Follow hands over what these units say, in order, from a position on, until the context ends, journalctl does, or got returns an error. It always returns an error: of
// a host without journald or journalctl one that is fs.ErrNotExist. A message that cannot be read is handed over too, as such.
//
// BUG: whose a message is that journald knows no unit of cannot be told, and it is not read. So is what a process wrote that ended before journald looked whose it is
// (https://github.com/systemd/systemd/issues/2913), and, as seen with systemd 252 on Linux 6.18, what it wrote on its standard output before journald had taken the connection.
//
// BUG: a message without a priority is not read. journalctl cannot ask for those alone, and without its asking for priorities all that units say for debugging would be read too.
// What goes through syslog, standard output or systemd always has one; sd_journal_send(3) leaves it to the program.
func (r Reader) Follow(ctx context.Context, units []string, from Position, got func(Message) error) error {
	if r.Directory == "" {
		if _, err := os.Stat(socket); err != nil {
			return fmt.Errorf("read journald: none runs here: %w", err)
		}
	}
	id, err := os.ReadFile("/etc/machine-id")
	if err != nil {
		return fmt.Errorf("read journald: %w", err)
	}
	argv, err := r.arguments(units, from, strings.TrimSpace(string(id)))
	if err != nil {
		return err
	}
	err = run.Command{Argv: argv, MaxOutput: maxLine}.Lines(ctx, func(line []byte, cut bool) error { return got(readLine(line, cut)) })
	if err == nil {
		err = errors.New("journalctl has ended")
	}
	return fmt.Errorf("read journald: %w", err)
}

// arguments are journalctl's. Without --merge it would follow this boot alone, and end where that said nothing yet; the machine's number keeps out what others' journals, if any are
// collected here, have of the same units.
func (r Reader) arguments(units []string, from Position, machine string) ([]string, error) {
	argv := []string{"journalctl", "--quiet", "--no-pager", "--follow", "--no-tail", "--merge", "--output=json",
		"--output-fields=MESSAGE,PRIORITY,_SYSTEMD_UNIT,UNIT,SYSLOG_IDENTIFIER,_TRANSPORT,_PID"}
	if r.Directory != "" {
		argv = append(argv, "--directory="+r.Directory)
	} else {
		argv = append(argv, "--system")
	}
	if from.Cursor != "" {
		argv = append(argv, "--cursor="+from.Cursor)
	} else {
		argv = append(argv, "--since=@"+strconv.FormatInt(from.Since.Unix(), 10))
	}
	matches := 0
	match := func(least int, fields ...string) {
		if matches++; matches > 1 {
			argv = append(argv, "+")
		}
		argv = append(append(argv, "_MACHINE_ID="+machine), fields...)
		for p := range least + 1 {
			argv = append(argv, "PRIORITY="+strconv.Itoa(p))
		}
	}
	for _, unit := range units {
		if err := CheckUnit(unit); err != nil {
			return nil, fmt.Errorf("read journald: %w", err)
		}
		if unit == Kernel {
			match(leastGraveKernel, "_TRANSPORT=kernel")
			continue
		}
		if !own(unit) {
			match(leastGrave, "_SYSTEMD_UNIT="+unit)
		}
		match(leastGrave, "_PID=1", "UNIT="+unit)
	}
	if matches == 0 {
		return nil, errors.New("read journald: no units")
	}
	return argv, nil
}

func readLine(line []byte, cut bool) Message {
	if cut {
		return Message{Unread: fmt.Errorf("it is longer than %d bytes", maxLine)}
	}
	m, err := decode(line)
	if err != nil {
		return Message{Unread: err}
	}
	return m
}

func decode(line []byte) (Message, error) {
	var fields map[string]json.RawMessage
	if err := json.Unmarshal(line, &fields); err != nil {
		return Message{}, fmt.Errorf("it is no message: %w", err)
	}
	text := func(name string) string { t, _, _ := fieldText(fields[name]); return t }
	m := Message{Cursor: text("__CURSOR"), Unit: text("_SYSTEMD_UNIT")}
	m.Identifier, _ = clean(text("SYSLOG_IDENTIFIER"), 64)
	microseconds, err := strconv.ParseInt(text("__REALTIME_TIMESTAMP"), 10, 64)
	if err != nil || m.Cursor == "" || len(m.Cursor) > 1000 {
		return Message{}, errors.New("it has no cursor or no time")
	}
	m.Time = time.UnixMicro(microseconds).UTC()
	if m.Priority, err = strconv.Atoi(text("PRIORITY")); err != nil || m.Priority < 0 || m.Priority > 7 {
		m.Priority = leastGrave
	}
	switch unit := text("UNIT"); {
	case text("_TRANSPORT") == "kernel":
		m.Unit = Kernel
	case unit != "" && text("_PID") == "1":
		m.Unit, m.Manager = unit, true
	}
	if err := CheckUnit(m.Unit); err != nil {
		return Message{}, err
	}
	said, several, there := fieldText(fields["MESSAGE"])
	if !there {
		said = "a message that is longer than journalctl gives"
	}
	var cut bool
	m.Text, cut = clean(said, maxText)
	m.Cut = cut || several || !there
	return m, nil
}

// fieldText reads a field: text, numbers of bytes where it is not text that can be printed, an array of these where it is there several times, of which the first
// counts, or null where it is too long (systemd's "Journal Export Formats").
func fieldText(raw json.RawMessage) (text string, several, there bool) {
	raw = bytes.TrimSpace(raw)
	if len(raw) == 0 || raw[0] == 'n' {
		return "", false, false
	}
	if raw[0] == '"' {
		return text, false, json.Unmarshal(raw, &text) == nil
	}
	var numbers []uint8
	var list []json.RawMessage
	if json.Unmarshal(raw, &list) != nil {
		return "", false, false
	}
	for _, one := range list {
		if one = bytes.TrimSpace(one); len(one) > 0 && one[0] != '-' && (one[0] < '0' || one[0] > '9') {
			text, _, there = fieldText(list[0])
			return text, true, there
		}
		n, err := strconv.ParseUint(string(one), 10, 8)
		if err != nil {
			return "", false, false
		}
		numbers = append(numbers, uint8(n))
	}
	return string(numbers), false, true
}

// clean bounds text and shows what cannot be seen. Cut: there is more of it.
func clean(text string, most int) (shown string, cut bool) {
	var b strings.Builder
	for _, r := range strings.ToValidUTF8(text, "\ufffd") {
		one := string(r)
		switch {
		case r == '\n' || r == '\t':
			one = " "
		case r == '\\':
			one = `\\`
		case r != ' ' && (!unicode.IsGraphic(r) || unicode.IsSpace(r)):
			one = fmt.Sprintf("\\u%04x", r)
		}
		if b.Len()+len(one) > most {
			return b.String(), true
		}
		b.WriteString(one)
	}
	return b.String(), false
}
