// Package server answers NTP (RFC 5905), versions 3 and 4, to registered systems and to nobody else.
//
// Who is answered. A request of mode 3 from a prefix of Spec.Clients, with the key or NTS (RFC 8915) that the longest such prefix asks for. All else is dropped and counted:
// other modes (6 and 7 are what amplification attacks use; 1 is an association, which a server has no use for: Windows needs ",0x8" behind the server's name to be a client), what is
// malformed, who is not registered. A stranger gets no kiss code either: the address may be forged, and whoever it belongs to asked for nothing. No answer is longer than its request.
//
// What it says. The Standing of the clock at this moment and nothing else. Unsynchronised is leap 3 and stratum 16, or silence, as Spec.Withhold has it. Leap seconds are announced as the
// sources announce them and the kernel inserts them; nothing is smeared, since a smeared clock is wrong by up to a second and says it is not, and clients cannot mix the two.
//
// Limits. An address has so many requests at once and so many a second (Options), after which it gets RATE. Whoever has to authenticate is authenticated before, so that a flood that
// only bears a client's address takes nothing from the client. What tells no time (RATE, NTSN, and the crypto-NAK that answers a wrong code, RFC 5905 section 9.2) goes to an address
// every four seconds at most: it is short, but a flood must not have as many answers as it has requests.
//
// Interleaved mode (RFC 9769). The table of clients holds the times of each address's last answer. A request that brings its receive time back gets the time when that answer left, taken by
// the kernel when the client was in interleaved mode already. Two such clients behind one address disturb each other, and then get basic mode.
//
// The client's offset as seen here is its transmit time less the time when the kernel got the packet: the true one less the time that the packet was on its way. Most clients send a random number
// there, as they should. So it is told only when two requests in a row agree within a second; which is why one that asks once only is never told.
//
// The table is bounded; who was not seen for longest goes. Strangers are in one of their own, which they may fill.
//
// Owns: UDP port 123 of Spec.Addresses; nothing on disk.
// Never: sets a clock, believes a packet.
// Imports: timesync, timesync/ntp, timesync/nts, netctl/datagram.
// Test: go test ./timesync/server (unprivileged; with chronyd as a client: root and chrony). FuzzAnswer holds answers against requests.
package server
