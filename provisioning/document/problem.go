package document

import "fmt"

// File is input: a name for messages and the bytes of one or many YAML documents.
type File struct {
	Name string
	Data []byte
}

// Position is where something stands: line and column from 1; 0 where it is unknown.
type Position struct {
	File   string `json:"file"`
	Line   int    `json:"line"`
	Column int    `json:"column"`
}

func (p Position) String() string { return fmt.Sprintf("%s:%d:%d", p.File, p.Line, p.Column) }

// Problem is one thing wrong with the documents: where, what, the offending value and the next step.
type Problem struct {
	Position Position `json:"position"`
	Kind     Kind     `json:"kind,omitempty"` // of the document that it stands in, where known
	Name     string   `json:"name,omitempty"`
	What     string   `json:"what"`  // "unknown field", "remote prefix overlaps tunnel agency-b"
	Value    string   `json:"value"` // as it was written
	Hint     string   `json:"hint"`
	Rule     string   `json:"rule,omitempty"` // requirement id, where one stands behind it
}

// String is "file:line:col: what: value: hint".
func (p Problem) String() string {
	return fmt.Sprintf("%s: %s: %q: %s", p.Position, p.What, p.Value, p.Hint)
}
