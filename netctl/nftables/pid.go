package nftables

import "os"

// initialPIDs is what /proc/self/ns/pid of a process in the initial PID namespace points to: PROC_PID_INIT_INO (linux/proc_ns.h).
const initialPIDs = "pid:[4026531836]"

// SamePIDs says whether this process counts processes as Transaction.PID does. In a container it does not.
func SamePIDs() bool {
	link, err := os.Readlink("/proc/self/ns/pid")
	return err == nil && link == initialPIDs
}
