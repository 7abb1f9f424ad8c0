// Package journald reads what units of the host say, as systemd-journald keeps it, by journalctl(1).
//
// What a unit says comes from anywhere, so it is bounded here, and control characters are written as people can see them.
//
// Owns: the arguments of journalctl, and the reading of its JSON.
// Never: keeps where it stood (who records it does); decides what is recorded; reads what shekarad or the exporter itself logs, which would feed on itself.
// Imports: netctl, netctl/run.
// Test: go test ./netctl/journald (the decoder unprivileged; live, with a systemd-journald of its own, as root).
package journald
