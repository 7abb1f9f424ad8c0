// Package oracle says what should pass: Read the documents, then Oracle.Allowed(packet) and why.
//
// It is the judge of every filter test, and so shares no code with what it judges: it reads the YAML text itself, parses
// prefixes, services and names by its own few lines, and looks at no compiled form. It is slow and plain on purpose: each
// rule of DESIGN.md stands here once, as a sentence.
//
// Owns: the meaning of documents, written a second time.
// Never: imports the document types, the compiler, the filter or Explain; sees a host.
// Imports: the standard library and go.yaml.in/yaml/v4, for the syntax alone.
// Test: go test ./testbed/oracle (unprivileged).
package oracle
