// Package source reads documents from where operators keep them: files, directories, standard input.
//
// Owns: which files of a directory count (*.yaml and *.yml, sorted by name, not those below it), and how much is read at most.
// Never: decodes; follows names that a document gives.
// Imports: provisioning/document for the type of a file.
// Test: go test ./provisioning/source (unprivileged).
package source
