// Package nts is Network Time Security (RFC 8915): the server that establishes keys over TLS, the cookies in which clients carry these, what authenticates each packet of NTP, and a
// client's end of all that.
//
// Server runs beside what answers NTP, which hands each request to Keys.Open and its answer to Exchange.Seal. Both share Keys, and no more: the server keeps nothing about a client but
// a bounded number of keys ready for use. The one AEAD is AES-SIV-CMAC-256, which every client must have.
//
//	client                        Server                 Keys           what answers NTP
//	  | TLS 1.3, offer              |                      |                    |
//	  |---------------------------->| export keys          |                    |
//	  |   AEAD, 8 cookies           |---- bake ----------->|                    |
//	  |<----------------------------|                      |                    |
//	  | NTP request: cookie, authenticator                 |                    |
//	  |-----------------------------------------------------------------------> | Open
//	  |   NTP answer: authenticator, fresh cookie          |                    |
//	  |<----------------------------------------------------------------------- | Seal
//
// An answer is never longer than its request. A cookie that cannot be opened is answered by NTSN, unauthenticated, and a client that gets no other answer establishes keys anew. A
// request whose cookie is good and whose authenticator is not is dropped: RFC 8915 section 5.7 would have NTSN there too, which would help nobody but who forged it.
//
// Keys of cookies are made daily, and three are kept, in a file of mode 0600: clients survive a restart, and an absence of two days.
//
// Owns: the file with the keys of cookies; TCP port 4460 of the addresses served.
// Never: reads a clock's state, answers NTP itself, shows a key.
// Imports: timesync/ntp, netctl/certificate, netctl/durable, netctl/secret, netctl/socket.
// Test: go test ./timesync/nts (unprivileged; live against chronyd as client and as server where it is installed, with root).
package nts
