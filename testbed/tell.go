package testbed

import (
	"encoding/binary"
	"time"
)

// What a packet of NTP looks like (RFC 5905 figure 8), as far as the testbed asks and answers. It is written here once more, so that a mistake of Shekara's own is seen.
const (
	ntpLength     = 48
	ntpOrigin     = 24       // the request's transmit time, in the answer
	ntpReceive    = 32       // when the request came
	ntpTransmit   = 40       // when this packet left
	ntpClientByte = 4<<3 | 3 // no leap second, version 4, mode 3: a client
	ntpModeClient = 3
	ntpModeServer = 4
	ntpSince1900  = 2208988800 // seconds until 1970 (RFC 5905 figure 4)
)

// tell answers a client's request as a server of stratum 1 would that is sure of its time. It is wrong by offset and does not say so: a source that lies.
func tell(request []byte, offset time.Duration) []byte {
	if len(request) < ntpLength || request[0]&7 != ntpModeClient {
		return nil
	}
	now := ntpTime(time.Now().Add(offset))
	answer := make([]byte, ntpLength)
	answer[0] = request[0]&^0xc7 | ntpModeServer          // the client's version
	answer[1], answer[2], answer[3] = 1, request[2], 0xec // stratum 1; the clock tells 2^-20 s apart
	copy(answer[12:16], "GPS")
	binary.BigEndian.PutUint64(answer[16:], now)
	copy(answer[ntpOrigin:], request[ntpTransmit:ntpLength])
	binary.BigEndian.PutUint64(answer[ntpReceive:], now)
	binary.BigEndian.PutUint64(answer[ntpTransmit:], now)
	return answer
}

// ntpTime is a moment on the wire: seconds since 1900, and fractions of 2^-32 s.
func ntpTime(t time.Time) uint64 {
	return uint64(t.Unix()+ntpSince1900)<<32 | uint64(t.Nanosecond())<<32/1e9
}
