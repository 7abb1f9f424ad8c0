// Package source asks the time of the servers that a TimeService document names, judges them, and says what is true of the box's clock: Watch makes a timesync.Standing
// of it. Ask looks once at any server, as a client would.
//
//	each source:  exchange (beevik/ntp) -> the last eight samples -> the nearest of them (RFC 5905 section 10)
//	all of them:  intersection (section 11.2.1) -> at least Spec.Agreeing agree? -> offset, bound -> state
//
//	                  a majority confirms, the bound is below MaxDistance
//	 unsynchronised --------------------------------------------------------> synchronised
//	   ^    ^           measured, and wrong by more than MaxDistance               |  ^
//	   |    +----------------------------------------------------------------------+  |
//	   |  the bound, which grows by the drift, is above MaxDistance                |  |  confirmed again
//	   +------------------------------- holdover <---------------------------------+--+
//	                                       no majority confirms it, or somebody set the clock
//
// What is simpler than in RFC 5905, and why: of the samples the one that bounds the error best is taken, and nothing is made of the others but jitter; there is no
// clustering (section 11.2.2), which lessens the jitter of a clock that is steered, and none is steered here. What is stricter: the bound covers every offset that any
// majority of the sources allows, so that a minority that lies cannot make it too small, however near to the truth it lies.
//
// A step of the clock voids what was measured before: until it is measured anew the bound is the old one and the step.
//
// Owns: the file with the last good time and the drift.
// Never: sets the clock or its speed; believes an answer that does not prove itself where the document asks for that; waits for a disk or a name server with the others.
// Imports: timesync, timesync/ntp, timesync/nts, netctl/certificate, netctl/clock, netctl/durable, beevik/ntp.
// Test: go test ./timesync/source (unprivileged; with chronyd as a source in namespaces, which needs root).
package source
