package nftables

import (
	"time"

	"golang.org/x/sys/unix"
)

// expedient is long for a packet to be under way through the rules, where the kernel cannot be asked to wait.
const expedient = 100 * time.Millisecond

// Grace returns when all packets that were in the rules as it was called have left them: a few milliseconds. They are in there as readers of RCU,
// whose grace period membarrier(2) waits for; kernels with processors that have no tick (nohz_full) refuse it, and there it just waits.
func Grace() {
	const membarrierGlobal = 1 // MEMBARRIER_CMD_GLOBAL, linux/membarrier.h
	if _, _, errno := unix.Syscall(unix.SYS_MEMBARRIER, membarrierGlobal, 0, 0); errno != 0 {
		time.Sleep(expedient)
	}
}
