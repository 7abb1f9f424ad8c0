package tunnels

import "time"

// Sizes of WireGuard's messages as both engines count them in rx and tx bytes: the UDP payload (whitepaper, section 5.4).
const (
	initiationBytes = 148
	responseBytes   = 92
	keepaliveBytes  = 32 // a transport message with nothing in it: 16 of header, 16 of authenticator
	// The smallest data is an IPv4 header alone: 20 bytes, padded to 32, in 32 of transport message.
	smallestDataBytes = 32 + keepaliveBytes
)

const (
	handshakeRetry   = 5 * time.Second  // REKEY_TIMEOUT: at most one initiation, and one response to the far side's, in it
	passiveKeepalive = 10 * time.Second // KEEPALIVE_TIMEOUT: at most one unasked keepalive in it
)

// traffic is what a growth of a byte counter proves. The counters of a peer count initiations, responses, keepalives and data together,
// cookie replies not at all. What can be explained without data proves no data: better to miss one packet than to see one that
// was not there, and the next sample looks again.
type traffic struct {
	any     bool // something was counted
	session bool // something that needs a session: a keepalive or data
	data    bool // data
}

// classify judges a growth of grown bytes within elapsed. In that time there are at most so many initiations, responses and keepalives;
// if some number of them adds up to grown, it may be them.
func classify(grown uint64, elapsed, persistentKeepalive time.Duration) traffic {
	if grown == 0 {
		return traffic{}
	}
	// One more of each, as the interval may begin and end just beside one; and a handshake is confirmed by one keepalive.
	handshakes := int(elapsed/handshakeRetry) + 1
	keepalives := int(elapsed/passiveKeepalive) + 2
	if persistentKeepalive > 0 {
		keepalives += int(elapsed/persistentKeepalive) + 1
	}
	if grown > uint64(handshakes)*(initiationBytes+responseBytes)+uint64(keepalives)*keepaliveBytes {
		return traffic{any: true, session: true, data: true}
	}
	t := traffic{any: true, session: true, data: grown >= smallestDataBytes}
	for i := 0; i <= handshakes; i++ {
		for r := 0; r <= handshakes; r++ {
			handshake := uint64(i*initiationBytes + r*responseBytes)
			if handshake > grown {
				break
			}
			rest := grown - handshake
			if rest == 0 {
				return traffic{any: true}
			}
			if rest%keepaliveBytes == 0 && rest/keepaliveBytes <= uint64(keepalives) {
				t.data = false
			}
		}
	}
	return t
}
