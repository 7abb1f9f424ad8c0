// Package service is the process `shekarad time`: it joins who asks the sources (source), who answers (server) and who establishes keys (nts), or runs chronyd, which does all three
// (chrony), and tells the daemon how they stand.
//
// What to do it asks the daemon, and keeps the answer: at boot it begins by what it was told last, before any tunnel is up and though no daemon runs, since tunnels may need the time
// themselves. What cannot be done (an address that is not there yet, a key file that cannot be read) is said in the report and tried again; the rest goes on.
//
// Owns: its state folder (what it was told, the last good time, the keys of NTS cookies) and its socket. Report and clients are given to root and to its own user alone.
// Never: sets the clock (chronyd does, where it is the engine and let); has power over the network; writes to the journal: the daemon asks for the report.
// Imports: netctl/certificate, netctl/durable, netctl/socket, timesync and what is under it.
// Test: go test ./timesync/service (unprivileged, on loopback).
package service
