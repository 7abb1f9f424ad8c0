// Package vm runs a static program in a virtual machine with Debian's stock kernel, for what the host's kernel may lack: WireGuard,
// ESP, netem. No acceleration is asked for, since where there is /dev/kvm it may not work; it boots in seconds all the same.
//
// The host's files are there read-only, under an overlay in memory, so that the program finds the host's tools (wg, nft, ip) at their
// places and may write where it likes. A file can be its disk, which outlives it.
//
//	ttyS0  kernel's console, kept for what goes wrong
//	ttyS1  the program's output, as it comes
//	ttyS2  one line "exit N": whatever does not end with it has failed
//
// It has no network, or one cable: a TAP device of the namespace in which it is started. Its clock is its own, so what sets, steps or stops clocks is tried here.
//
// Owns: the folders that FetchKernel and Unpack fill (packages, unpacked, never installed), the QEMU process.
// Never: writes to the host's files; installs anything; makes a device of the host's.
// Imports: os/exec.
// Test: go test ./testbed/vm (needs root for its network, qemu-system-x86, busybox-static, chrony, cpio, kmod; fetches a kernel package once, 70 MB).
package vm
