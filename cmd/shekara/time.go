package main

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"shekara/timesync"
	"shekara/timesync/source"
)

func (p *program) timeCommand() *cobra.Command {
	return group("time", "How true the time is", p.timeStatusCommand(), p.timeClientsCommand(), p.timeCheckCommand())
}

func (p *program) timeCheckCommand() *cobra.Command {
	var asJSON bool
	var q source.Question
	var key string
	c := &cobra.Command{
		Use:   "check HOST",
		Short: "Look at a time server as a client would",
		Long: "check asks a server for the time (NTP, version 4), needs no daemon and sets no clock. It shows what the server says of itself, and how far this machine's clock is from its.\n" +
			"With --nts the server must prove itself by NTS (RFC 8915), with --key by a symmetric key of a key file as chrony and ntpd have it: an answer that does not is none.\n" +
			"HOST is a name or an address, with a port if it is not 123, or 4460 with --nts.",
		Example: "  shekara time check 10.0.0.1\n  shekara time check time.example.org --nts\n  shekara time check 10.0.0.1 --key /etc/shekara/ntp.keys:5",
		Args:    arguments(1, 1, "one host"),
		RunE: func(c *cobra.Command, args []string) error {
			q.Address = args[0]
			if err := takeKey(&q, key); err != nil {
				return err
			}
			done := p.progress("asking " + q.Address)
			l, err := source.Ask(c.Context(), q)
			done()
			if err != nil {
				return hint(err, "look whether port 123 of UDP (4460 of TCP too with NTS) passes on the way, and whether the server lets this machine ask")
			}
			if asJSON {
				err = p.json("TimeCheck", l)
			} else {
				p.timeCheck(l)
			}
			if err == nil && !l.Good {
				return &exit{code: 1}
			}
			return err
		},
	}
	c.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	c.Flags().BoolVar(&q.NTS, "nts", false, "the server must prove itself by NTS")
	c.Flags().StringVar(&q.CA, "ca", "", "with --nts: file of certificates (PEM) that the server's may be from, instead of the host's")
	c.Flags().StringVar(&q.ServerName, "name", "", "with --nts: the name in the server's certificate, if it is not HOST")
	c.Flags().StringVar(&key, "key", "", "the server must prove itself by a key, as FILE:NUMBER")
	return c
}

func takeKey(q *source.Question, key string) error {
	if !q.NTS && (q.CA != "" || q.ServerName != "") {
		return hint(errors.New("--ca and --name say whose certificate to believe, and without --nts there is none"), "add --nts")
	}
	if key == "" {
		return nil
	}
	if q.NTS {
		return hint(errors.New("--nts and --key: a server proves itself one way or the other"), "leave one out")
	}
	at := strings.LastIndexByte(key, ':')
	number, err := strconv.ParseUint(key[at+1:], 10, 32)
	if at <= 0 || err != nil || number == 0 {
		return hint(fmt.Errorf("--key %q is no file and number", key), "for example --key /etc/shekara/ntp.keys:5")
	}
	q.KeyFile, q.Key = key[:at], uint32(number)
	return nil
}

func (p *program) timeCheck(l source.Look) {
	verdict, colour := "good", green
	if !l.Good {
		verdict, colour = "not good", red
	}
	p.line("%-15s %s: %s", "Verdict", p.paint(colour, verdict, p.width > 0), l.Reason)
	p.line("%-15s %s (%s)", "Server", l.Address, l.Peer)
	p.line("%-15s %s", "Authenticated", map[bool]string{true: "no", false: "by " + l.Authentication}[l.Authentication == "none"])
	p.line("%-15s %d", "Stratum", l.Stratum)
	p.line("%-15s %s", "Reference", orNone(l.Reference))
	if !l.ReferenceTime.IsZero() {
		p.line("%-15s %s", "Set last", l.ReferenceTime.Local().Format(time.DateTime))
	}
	p.line("%-15s %s", "Leap second", leapText(l.Leap))
	p.line("%-15s %s", "Root delay", l.RootDelay.Round(time.Microsecond))
	p.line("%-15s %s", "Root dispersion", l.RootDispersion.Round(time.Microsecond))
	p.line("%-15s %s", "Delay", l.Delay.Round(time.Microsecond))
	if l.Good {
		p.line("%-15s %s", "This clock", offsetText(l.Offset, l.Distance))
	}
}

func leapText(l timesync.Leap) string {
	switch l {
	case timesync.LeapInsert:
		return "one is inserted at the end of the day"
	case timesync.LeapDelete:
		return "one is left out at the end of the day"
	case timesync.LeapUnknown:
		return "not known"
	}
	return "none is announced"
}

// offsetText says how a clock stands to which offset must be added.
func offsetText(offset, distance time.Duration) string {
	word := "behind"
	if offset < 0 {
		word = "ahead"
	}
	return fmt.Sprintf("%s by %s, within %s", word, offset.Abs().Round(time.Microsecond), distance.Round(time.Microsecond))
}
