// Package chrony is the other engine of a TimeService: chronyd steers the clock and serves, with a configuration that is made whole from the Spec, checked by chronyd itself
// (chronyd -p) and kept as it was applied. What is true of the clock is read over its command socket, and judged by the same state machine as that of package source.
//
// chronyd cannot do all that a Spec may ask; Render names what it cannot. Of a minority that lies near to the truth its bound is chronyd's own.
//
// Owns: a folder of state (chrony.conf, drift, what was measured, keys of NTS, the last good time) and one of run time (the command socket and the process ID).
// Never: touches a chronyd that somebody else started, or its configuration; steers the clock unless told to.
// Imports: timesync, timesync/server (its words for whom it served), timesync/source, netctl/clock, netctl/durable, netctl/run, facebook/time/ntp/chrony.
// Test: go test ./timesync/chrony (unprivileged); with chronyd, which needs root.
package chrony
