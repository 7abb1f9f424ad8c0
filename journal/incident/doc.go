// Package incident reads the stream of events by rules, and says when what happens together is an incident, and when that is over (JRN-07, JRN-08).
//
// A rule is a threshold (so many events within a time), a sequence (one event, then another), or an absence (no event within a time), each for a key taken
// from the events. Engine is pure: it is handed events in the order of the journal and the time, and answers with what opened and closed. The
// same events give the same incidents, so that a daemon that starts again hands it the last part of the journal and goes on.
//
// Owns: Rule, Engine, the meaning of both; the fields of incident.open and incident.close.
// Never: reads or writes the journal, starts a goroutine, keeps more than its bounds (Bounds), looks at its own events but for rules that name them.
// Imports: journal.
// Test: go test ./journal/incident (unprivileged; holds the engine against a slow one that shares no code with it).
package incident
