// Package durable writes files that survive a crash and a power cut: whole files (WriteFile, CreateFile), logs that grow
// (Log), folders, removals, and locks that name their holder.
//
// Owns: the order of system calls at each commit point, and the names of temporary files ("." + name + "." + digits + ".tmp").
// Never: retries a failed fsync (the kernel has dropped the pages by then); guesses what a torn file meant.
// Imports: the standard library, golang.org/x/sys/unix.
// Test: go test ./netctl/durable (unprivileged; fails every commit point, and kills a writing child).
package durable
