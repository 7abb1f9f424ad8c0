// Package accounting keeps how much each flow carried: packets and bytes each way, and connections opened, by name of the Flow document.
//
// The figures are conntrack's, of each connection: those that live are looked at from time to time (Seen, between Begin and Look), those that
// end are told by the kernel (Ended). What a connection gained since it was met last is added to the flow that lets it be opened, so each packet is
// counted once, in whichever order the two tell of it. A rule's or a set element's counter would not do: what is established passes before
// the sets, and elements come and go with every change.
//
// Two files have the totals. One, in the state directory, is written durably and rarely: it is what a power cut leaves. The other, in the run
// directory, has besides what was counted of each connection that lives, and each end as it comes: with it a daemon that was killed goes on
// where it was.
//
// What cannot be counted is said: connections that ended while nobody listened, or of which the kernel dropped the news (Missed), those
// for which there was no room, or which the kernel does not count (Uncounted), and those that no flow is known for (Unattributed).
//
// Owns: the totals, the two files and their format.
// Never: reads the kernel; decides which flow a connection is of; counts what no flow let in (management, probes, tunnels' own packets).
// Imports: netctl/conntrack for its figures, netctl/durable.
// Test: go test ./provisioning/accounting (unprivileged; a property test lets dumps and ends come in any order, and kills in between).
package accounting
