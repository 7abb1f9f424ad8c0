package ntp

import (
	"math"
	"time"
)

// sinceUnix is the seconds from 1900 to 1970 (RFC 5905 figure 4).
const sinceUnix = 2208988800

// Timestamp is a moment on the wire: seconds since 1900 in the upper half, of the era that is not said, and fractions of 2^-32 s in the lower. 0 is no moment (RFC 5905 section 6).
type Timestamp uint64

// TimestampOf is t on the wire, 0 for the zero time.
func TimestampOf(t time.Time) Timestamp {
	if t.IsZero() {
		return 0
	}
	return TimestampOfUnix(t.Unix(), int64(t.Nanosecond()))
}

// TimestampOfUnix is a moment on the wire of which the kernel said the seconds since 1970, and the nanoseconds of one.
func TimestampOfUnix(seconds, nanoseconds int64) Timestamp {
	return Timestamp(uint64(seconds+sinceUnix)<<32 | uint64(nanoseconds)<<32/1e9)
}

// Near is the moment that t may be which is within 68 years of near, in UTC to the nanosecond. 0 is the zero time.
func (t Timestamp) Near(near time.Time) time.Time {
	if t == 0 {
		return time.Time{}
	}
	seconds := near.Unix() + int64(int32(uint32(t>>32)-uint32(near.Unix()+sinceUnix)))
	return time.Unix(seconds, int64(nanoseconds(t))).UTC()
}

// Sub is how much later t is than u, which may be up to 68 years either way. Eras do not matter to it.
func (t Timestamp) Sub(u Timestamp) time.Duration {
	difference := int64(t - u)
	return time.Duration(difference>>32)*time.Second + time.Duration(nanoseconds(Timestamp(difference)))
}

// nanoseconds are those of the fraction, rounded, so that a moment in nanoseconds comes back as it was.
func nanoseconds(t Timestamp) uint64 { return (uint64(t)&math.MaxUint32*1e9 + 1<<31) >> 32 }

// Add is the moment d after t.
func (t Timestamp) Add(d time.Duration) Timestamp {
	seconds := d / time.Second
	rest := d % time.Second
	if rest < 0 {
		seconds, rest = seconds-1, rest+time.Second
	}
	return t + Timestamp(uint64(seconds)<<32) + Timestamp((uint64(rest)<<32)/1e9)
}

// Short is a length of time on the wire, with fractions of 2^-16 s.
type Short uint32

// ShortOf is d rounded up; nothing below 0, and 18 hours at most.
func ShortOf(d time.Duration) Short {
	if d <= 0 {
		return 0
	}
	seconds, rest := uint64(d/time.Second), uint64(d%time.Second)
	return Short(min(seconds<<16+(rest<<16+1e9-1)/1e9, math.MaxUint32))
}

// Duration is s rounded up to the nanosecond.
func (s Short) Duration() time.Duration {
	return time.Duration((uint64(s)*1e9 + 1<<16 - 1) >> 16)
}
