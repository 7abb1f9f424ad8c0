// Package packet makes packets, sends them from a host as they are, and tells on which hosts they arrived. Streams of numbered
// packets tell what was lost, overtaken or late.
//
// Owns: the marker that a crafted packet carries, by which it is known again wherever it is seen in the clear.
// Never: makes hosts (testbed/lab does); decides what should arrive (testbed/oracle does).
// Imports: gopacket, golang.org/x/sys.
// Test: go test ./testbed/packet (the tests that send need root).
package packet
