// Package timesync says who may ask this box the time, of whom it learns it itself, and what may truly be said of its clock. The folders under it do it:
// ntp holds the packet, nts what authenticates it (RFC 8915), server answers, source asks and judges;
// chrony has chronyd do both.
//
// A Spec is what a TimeService document asks, compiled; a Standing is what is: every answer, every status and the bound on every record of the journal is made from it,
// and nothing in it is set that was not measured. A Status is a Standing with the sources that it came from, and what somebody should look after.
//
// Owns: nothing; these are the words that the folders share.
// Never: sets the clock. Who disciplines it is the host's affair, or chrony's.
// Imports: the standard library alone.
// Test: go test ./timesync (unprivileged).
package timesync
