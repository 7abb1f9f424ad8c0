// Package export carries the journal to monitoring centres: every record once at least, in the order of the journal, each with its sequence
// number, so that a centre knows what it has twice and sees what it lacks.
//
// Run keeps one carrier for each sink. A carrier asks for the records after its cursor, lets its filter choose (checkpoints pass always, so that
// the centre holds the journal's head), hands them over, and moves the cursor, a small file of its own. Nothing is kept in memory but the batch
// at hand: who is slow or away falls behind in the journal, and touches neither it nor other sinks.
//
// Syslog acknowledges nothing. So its cursor follows ten seconds behind what the collector's kernel acknowledged, and a hundred records; each new connection
// begins at the cursor. JetStream, who takes batches by HTTPS, and a file tell what they have.
//
// Owns: when a cursor moves, the formats of messages, the connections to sinks.
// Never: reads the journal's files (only their writer knows what of them is acknowledged); passes a record over that the filter chose; prints a key.
// Imports: journal, its folder cursor, netctl/certificate, netctl/durable, netctl/socket; nats.go, OpenTelemetry's protobuf types.
// Test: go test ./journal/export (unprivileged; live against rsyslog, nats-server and nginx where they are installed).
package export
