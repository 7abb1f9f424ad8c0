package source

import (
	"testing"

	"shekara/netctl/probe/probetest"
	"shekara/timesync"
	"shekara/timesync/timesynctest"
)

func TestContract(t *testing.T) {
	probetest.NeedTime(t, "four requests that are lost, 16 s apart at first")
	t.Parallel()
	timesynctest.Contract(t, func(f func()) { f() }, func(spec timesync.Spec) timesynctest.Engine {
		return New(spec, "", func(err error) { t.Errorf("complains: %v", err) })
	})
}
