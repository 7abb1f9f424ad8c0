// Package ns runs code inside another network namespace, and inside another process's network and mount namespaces.
//
// Owns: the rule for threads. A namespace belongs to a thread, so Do takes a fresh goroutine on a locked thread and gives the
// thread back to the Go runtime only after it was truly restored; else the thread dies with its goroutine.
// Never: changes the namespace of the caller; gives names to namespaces (they are held by descriptor and vanish with it).
// Imports: golang.org/x/sys/unix.
// Test: go test ./netctl/ns (needs root).
package ns
