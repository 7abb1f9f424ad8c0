// Package timesynctest is what both engines of a TimeService must do, as a test: Contract. Its servers tell the time of this machine, and lie when told to.
//
// Owns: its servers, which end with the test.
// Never: is imported by a program, since it brings testing along; sets a clock.
// Imports: timesync, timesync/ntp.
// Test: by the tests of the engines, timesync/source and timesync/chrony.
package timesynctest
