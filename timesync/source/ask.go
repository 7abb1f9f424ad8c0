package source

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"time"

	"shekara/timesync"
)

const (
	askTimes  = 3           // requests, until one is answered
	followMax = time.Second // root distance above which no client follows a server (MAXDIST, RFC 5905 section 11.1)
	ntpPort   = "123"
	ntsPort   = "4460"
)

// Question is which server to ask, and how it must prove itself.
type Question struct {
	Address    string // host, or host and port; 123 is the port else, with NTS 4460
	NTS        bool
	CA         string // with NTS: file of certificates (PEM); "": the host's
	ServerName string // with NTS: the name in its certificate; "": the host of Address
	KeyFile    string
	Key        uint32 // of KeyFile; 0: none
}

// Look is what a client sees of a server.
type Look struct {
	Address        string        `json:"address"`
	Peer           netip.Addr    `json:"peer"` // that answered
	Good           bool          `json:"good"` // a client would follow it
	Reason         string        `json:"reason"`
	Authentication string        `json:"authentication"` // "nts", the key's number and type, or "none"
	Version        int           `json:"version"`
	Leap           timesync.Leap `json:"leap"`
	Stratum        uint8         `json:"stratum"`
	ReferenceID    uint32        `json:"referenceID"`
	Reference      string        `json:"reference"` // what it means, by the stratum
	ReferenceTime  time.Time     `json:"referenceTime,omitzero"`
	Precision      time.Duration `json:"precision"`
	RootDelay      time.Duration `json:"rootDelay"`
	RootDispersion time.Duration `json:"rootDispersion"`
	Offset         time.Duration `json:"offset"`   // to add to this machine's clock
	Delay          time.Duration `json:"delay"`    // there and back
	Distance       time.Duration `json:"distance"` // Offset is right to that, if the server says the truth
}

// Ask looks at a server. The error says why there is no answer that can be believed; a server that answers and is no use is a Look that is not Good.
func Ask(ctx context.Context, q Question) (Look, error) {
	address := q.Address
	if _, _, err := net.SplitHostPort(address); err != nil {
		port := ntpPort
		if q.NTS {
			port = ntsPort
		}
		address = net.JoinHostPort(trimBrackets(address), port)
	}
	e := &exchanger{keyFile: q.KeyFile, certTime: time.Now,
		source: timesync.Source{Address: address, NTS: q.NTS, CA: q.CA, ServerName: q.ServerName, Key: q.Key}}
	var a answer
	var err error
	for range askTimes {
		if a, err = e.exchange(ctx); err == nil || isUnusable(err) || ctx.Err() != nil {
			break
		}
	}
	if err != nil {
		return Look{}, fmt.Errorf("ask %s: %w", address, err)
	}
	l := Look{Address: address, Peer: a.peer, Authentication: "none", Version: a.version, Leap: a.leap, Stratum: a.stratum, ReferenceID: a.referenceID,
		Reference: referenceText(a.stratum, a.referenceID), Precision: a.precision, RootDelay: a.rootDelay, RootDispersion: a.rootDispersion,
		Offset: a.offset, Delay: a.delay, Distance: a.distance(a.at, 0)}
	if a.reference.Year() > 1900 { // its zero
		l.ReferenceTime = a.reference
	}
	switch {
	case q.NTS:
		l.Authentication = "nts"
	case q.Key != 0:
		l.Authentication = a.key
	}
	switch {
	case a.unserving != nil:
		l.Reason = a.unserving.Error()
	case l.Distance > followMax:
		l.Reason = fmt.Sprintf("its time may be wrong by %s, %s is the most that a client follows", l.Distance.Round(time.Millisecond), followMax)
	default:
		l.Good, l.Reason = true, "a client would follow it"
	}
	return l, nil
}

func trimBrackets(host string) string {
	if n := len(host); n > 2 && host[0] == '[' && host[n-1] == ']' {
		return host[1 : n-1]
	}
	return host
}

// referenceText is a reference ID as it is meant: four characters where it names a clock or is a kiss code, else an IPv4 address, or a digest of another that looks like one.
func referenceText(stratum uint8, id uint32) string {
	b := [4]byte{byte(id >> 24), byte(id >> 16), byte(id >> 8), byte(id)}
	if stratum > 1 {
		return netip.AddrFrom4(b).String()
	}
	text := strings.TrimRight(string(b[:]), "\x00")
	if strings.ContainsFunc(text, func(c rune) bool { return c < ' ' || c > '~' }) {
		return fmt.Sprintf("%08x", id)
	}
	return text
}
