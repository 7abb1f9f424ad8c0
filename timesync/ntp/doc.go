// Package ntp is the packet of the Network Time Protocol, versions 3 and 4 (RFC 1305, RFC 5905): its header, its times, its extension fields (RFC 7822) and its
// message authentication code with a symmetric key (RFC 8573). Nothing in it allocates but the reading of a key file.
//
// A time on the wire is 64 bits of seconds since 1900 and begins anew every 136 years, in 2036 next: it is the difference of two that means something, and a moment is
// told from it by another that is near (Timestamp.Near). Delay and dispersion are rounded up, so that what they bound stays bounded.
//
// A key file is that of chrony and of ntpd, a key a line: "1 AES128CMAC HEX:00112233445566778899AABBCCDDEEFF". Types are AES128CMAC, which
// chrony calls AES128 and ntpsec AES, and SHA1. MD5 is read over and refused by
// name: RFC 8573 forbids it, and whoever still has such a key can be given another sooner than it can be defended.
//
// Owns: the bytes.
// Never: opens a socket, judges a time, answers.
// Imports: timesync.
// Test: go test ./timesync/ntp (unprivileged); fuzzed from packets that chronyd sent.
package ntp
