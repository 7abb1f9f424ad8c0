package terminal_test

import (
	"bytes"
	"os"
	"testing"

	"golang.org/x/sys/unix"

	"shekara/netctl/probe"
	"shekara/netctl/probe/probetest"
	"shekara/netctl/terminal"
)

func TestSize(t *testing.T) {
	probetest.Need(t, probe.Terminal)
	master, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer master.Close()
	for _, c := range []struct{ set, want unix.Winsize }{
		{set: unix.Winsize{Col: 132, Row: 50}, want: unix.Winsize{Col: 132, Row: 50}},
		{set: unix.Winsize{}, want: unix.Winsize{Col: 80, Row: 24}},
	} {
		if err := unix.IoctlSetWinsize(int(master.Fd()), unix.TIOCSWINSZ, &c.set); err != nil {
			t.Fatal(err)
		}
		if columns, rows, ok := terminal.Size(master); !ok || columns != int(c.want.Col) || rows != int(c.want.Row) {
			t.Errorf("Size of a terminal of %d by %d = %d, %d, %v; want %d, %d, true", c.set.Col, c.set.Row, columns, rows, ok, c.want.Col, c.want.Row)
		}
	}
}

func TestWhatIsNoTerminal(t *testing.T) {
	null, err := os.Open(os.DevNull)
	if err != nil {
		t.Fatal(err)
	}
	defer null.Close()
	file, err := os.CreateTemp(t.TempDir(), "")
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	for name, stream := range map[string]any{"/dev/null": null, "a file": file, "a buffer": &bytes.Buffer{}, "nothing": nil} {
		if columns, rows, ok := terminal.Size(stream); ok {
			t.Errorf("%s counts as a terminal of %d by %d", name, columns, rows)
		}
	}
}
