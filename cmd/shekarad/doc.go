// Program shekarad is the edge daemon: it makes documents real, keeps them so, and answers over unix sockets. As shekarad dataplane NAME
// it is one userspace WireGuard device, in a process that outlives the daemon; as shekarad export it carries the journal to monitoring centres.
//
// Owns: the order of start and stop, the sockets' files, signals, the single instance. Only main.go and the logger print.
// Never: listens on a network; applies /etc/shekara by itself: what boots is the last confirmed revision, and /etc/shekara is input
// that is read when somebody applies it or sends SIGHUP.
// Imports: everything it joins, in wire.go.
// Test: go test ./cmd/shekarad (root; it builds the daemon and runs it in a network namespace of its own).
package main
