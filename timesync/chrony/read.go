package chrony

import (
	"fmt"
	"math"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"sync/atomic"
	"time"

	"github.com/facebook/time/ntp/chrony"

	"shekara/timesync"
	"shekara/timesync/source"
)

const (
	answersWithin = 2 * time.Second // over the command socket, for all of a look
	mostSources   = 1024
)

// command is a connection to chronyd's command socket.
type command struct {
	client *chrony.Client
	conn   *net.UnixConn
	own    string
}

// dial connects. chronyd answers to a socket by name, so there must be one, and it must be allowed to write to it.
func dial(running string, number *atomic.Uint64) (*command, error) {
	own := filepath.Join(running, fmt.Sprintf("shekara.%d.%d.sock", os.Getpid(), number.Add(1)))
	conn, err := net.DialUnix("unixgram", &net.UnixAddr{Name: own, Net: "unixgram"}, &net.UnixAddr{Name: socketIn(running), Net: "unixgram"})
	if err != nil {
		_ = os.Remove(own) // it is bound before the other side is looked for
		return nil, err
	}
	c := &command{client: &chrony.Client{Connection: conn}, conn: conn, own: own}
	if err := os.Chmod(own, 0o666); err != nil { // the folder keeps others out
		c.close()
		return nil, err
	}
	if err := conn.SetDeadline(time.Now().Add(answersWithin)); err != nil {
		c.close()
		return nil, err
	}
	return c, nil
}

func (c *command) close() {
	c.conn.Close()
	_ = os.Remove(c.own)
}

// ask asks for one thing. An answer of another kind is an error.
func ask[T chrony.ResponsePacket](c *command, request chrony.RequestPacket) (answer T, err error) {
	got, err := c.client.Communicate(request)
	if err != nil {
		return answer, err
	}
	answer, ok := got.(T)
	if !ok {
		return answer, fmt.Errorf("chronyd answers %T, want %T", got, answer)
	}
	return answer, nil
}

// report is what chronyd says.
type report struct {
	tracking chrony.Tracking
	sources  map[string]heard // by the host in the configuration
}

// heard is one source.
type heard struct {
	data chrony.SourceData
	peer netip.Addr
	ntp  chrony.NTPData
}

func read(c *command) (report, error) {
	t, err := ask[*chrony.ReplyTracking](c, chrony.NewTrackingPacket())
	if err != nil {
		return report{}, err
	}
	r := report{tracking: t.Tracking, sources: map[string]heard{}}
	n, err := ask[*chrony.ReplySources](c, chrony.NewSourcesPacket())
	if err != nil {
		return report{}, err
	}
	for i := range min(n.NSources, mostSources) {
		d, err := ask[*chrony.ReplySourceData](c, chrony.NewSourceDataPacket(int32(i)))
		if err != nil {
			return report{}, err
		}
		h := heard{data: d.SourceData}
		h.peer, _ = netip.AddrFromSlice(d.IPAddr.ToNetIP())
		name, err := ask[*chrony.ReplyNTPSourceName](c, chrony.NewNTPSourceNamePacket(d.IPAddr))
		if err != nil {
			continue // its name was resolved meanwhile, and it goes by another address now
		}
		h.ntp = ntpData(c, d.IPAddr)
		r.sources[name.Name] = h
	}
	return r, nil
}

// ntpData is empty for a source whose name has not been resolved.
func ntpData(c *command, ip *chrony.IPAddr) chrony.NTPData {
	got, err := c.client.Communicate(chrony.NewNTPDataPacket(ip))
	switch got := got.(type) {
	case *chrony.ReplyNTPData:
		if err == nil {
			return got.NTPData
		}
	case *chrony.ReplyNTPData2: // since chrony 4.7
		if err == nil {
			return got.NTPData
		}
	}
	return chrony.NTPData{}
}

// statusOf is a source in the words of both engines. correction is what chronyd would add to the clock; patient says whether chronyd has not run for long yet.
func statusOf(s timesync.Source, h heard, now time.Time, correction, maxDistance time.Duration, patient bool) timesync.SourceStatus {
	status := source.Unheard(s)
	status.Peer = h.peer
	status.Reach = uint8(h.data.Reachability)
	status.Poll = duration(math.Ldexp(1, int(h.data.Poll)))
	has := h.ntp.TotalValidCount > 0
	if has {
		status.Stratum, status.ReferenceID, status.Leap = h.ntp.Stratum, h.ntp.RefID, timesync.Leap(h.ntp.Leap)
		status.Delay, status.Dispersion = duration(h.ntp.PeerDelay), duration(h.ntp.PeerDispersion)
		// chronyd's measurement is how far its own idea of the time is ahead of the source.
		status.Offset = correction - duration(h.data.LatestMeas)
		status.Jitter = 0
		status.Distance = duration(h.ntp.RootDelay+h.ntp.PeerDelay)/2 + duration(h.ntp.RootDispersion+h.ntp.PeerDispersion)
		status.LastHeard = now.Add(-time.Duration(h.data.SinceSample) * time.Second)
	}
	switch {
	case !has && status.Reach == 0:
		status.Verdict = timesync.Waiting
		if !patient || h.ntp.TotalTXCount >= recentRequests {
			status.Verdict, status.Error = timesync.Unreachable, neverHeard
		}
	case status.Reach&source.Recent == 0:
		status.Verdict = timesync.Unreachable
	case has && (h.ntp.Leap == uint8(timesync.LeapUnknown) || h.ntp.Stratum == 0 || h.ntp.Stratum >= timesync.MaxStratum):
		status.Verdict = timesync.Unserving
	case h.data.State == chrony.SourceStateUnreach && has && status.Distance > maxDistance: // so does chronyd call what it does not select
		status.Verdict = timesync.Distant
	default:
		status.Verdict = verdictOf(h.data.State)
	}
	return status
}

// neverHeard: chronyd tells nobody but its log whether a name, a key or a certificate is why.
const neverHeard = "nothing was ever heard from it; chronyd's log may say why"

const recentRequests = 4 // what source.Recent looks at

func verdictOf(s chrony.SourceStateType) timesync.Verdict {
	switch s {
	case chrony.SourceStateSync:
		return timesync.Followed
	case chrony.SourceStateCandidate, chrony.SourceStateOutlier: // the latter agrees too, and is not counted in for its distance
		return timesync.Agrees
	case chrony.SourceStateFalseTicker:
		return timesync.Falseticker
	case chrony.SourceStateJittery:
		return timesync.Distant
	}
	return timesync.Waiting
}

func duration(seconds float64) time.Duration {
	return time.Duration(seconds * float64(time.Second))
}
