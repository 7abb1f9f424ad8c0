// Package testbed builds virtual networks out of namespaces, runs the same programs on them that run on real hosts, sends real
// packets, breaks things, and reports. Main is the command "shekara testbed".
//
// Its folders: scenario (the YAML form), scenarios (those that ship), lab (hosts and links), wire (impairment), packet (crafted,
// watched, captured and counted packets), oracle (what should pass), swarm (hundreds of foreign peers), tamper (what is done to a journal),
// report.
//
// Owns: the order of a run, the steps' meaning, /run/shekara-testbed while a network is up.
// Never: touches the namespace that it is called in; imports what it tests (it runs the programs, and reads their output).
// Imports: its folders, netctl/ns, golang.org/x/sys.
// Test: go test ./testbed/... (the live tests need root); bin/shekara testbed run SCENARIO.
package testbed
