// Package systemd speaks to the service manager: ready, reloading, stopping, status, watchdog, sockets passed at start. Without
// systemd all of it does nothing. The units and the other files that are installed lie in this folder.
//
// Owns: the protocol of sd_notify(3) and sd_listen_fds(3), through coreos/go-systemd; the shipped files.
// Never: decides what alive means (the caller does); unsets NOTIFY_SOCKET, by which others see that systemd started us.
// Imports: coreos/go-systemd; nothing of Shekara.
// Test: go test ./systemd (unprivileged; the units are verified if systemd-analyze is there).
package systemd
