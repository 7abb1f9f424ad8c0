package compile

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"shekara/netctl/journald"
)

func TestUnits(t *testing.T) {
	for _, c := range []struct{ named, want []string }{
		{nil, strings.Split(DefaultUnits, ", ")},
		{[]string{"none"}, nil},
		{[]string{"ssh.service", "kernel", "ssh.service"}, []string{"kernel", "ssh.service"}},
	} {
		if diff := cmp.Diff(c.want, units(c.named)); diff != "" {
			t.Errorf("%q (-want +got):\n%s", c.named, diff)
		}
	}
	for _, unit := range units(nil) {
		if err := journald.CheckUnit(unit); err != nil {
			t.Error(err)
		}
	}
}
