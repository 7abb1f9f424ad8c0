// Package tunnels says what a tunnel is: what was asked (DeviceSpec, Spec), what is (DeviceState, PeerState), the steps
// between (Op, by the pure Diff), and whether it truly passes (Health). Its folders make it so: wireguard (kernel or userspace).
//
// Owns: the vocabulary above, the judgement of a tunnel's state from samples, with hysteresis.
// Never: touches the host (wireguard/ does, for links it made); reads documents; writes the journal.
// Imports: netctl and its folders.
// Test: go test ./tunnels (unprivileged); go test ./tunnels/wireguard (live tests need root).
package tunnels
