// Package incidents makes rules of documents, and holds them to the cases that they bring. It has the rules that are built in (starter.yaml).
//
// Owns: what an IncidentRule document means, the starter set, which rules are in force on a site.
// Never: looks at the journal, changes anything.
// Imports: journal, journal/incident, provisioning/document.
// Test: go test ./provisioning/incidents (unprivileged; the benchmark holds the starter set to its speed).
package incidents
