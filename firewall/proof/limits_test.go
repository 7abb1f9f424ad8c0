package proof_test

import (
	"testing"

	"shekara/firewall/firewalltest"
	"shekara/firewall/proof"
)

// limitMutations are changes of the loaded ruleset of testdata/limited.txtar.
var limitMutations = []mutation{
	{"nothing", "", proof.Proved, ""},
	{"another number", "flush chain inet shekara limit_in_agency-a; add rule inet shekara limit_in_agency-a limit rate over 9 mbytes/second goto forward.bandwidth", proof.Proved, ""},
	{"a limit that accepts", "replace rule inet shekara limit_in_agency-a handle <limit_in_agency-a|limit rate> accept", proof.Violated, "does not meet its tunnel's limit"},
	{"a limit that accepts what is too much", "replace rule inet shekara limit_in_agency-a handle <limit_in_agency-a|limit rate> limit rate over 9 mbytes/second accept", proof.Indeterminate, "chain limit_in_agency-a"},
	{"a count that accepts", "replace rule inet shekara limit_open_agency-a handle <limit_open_agency-a|ct count> ct count over 100 accept", proof.Indeterminate, "a rate decides"},
	{"no limit", "flush chain inet shekara limit_out_agency-a", proof.Violated, "out sk-agencies"},
	{"no count", "delete rule inet shekara limit_open_agency-a handle <limit_open_agency-a|ct count>", proof.Violated, "does not meet its tunnel's limit"},
	{"all limits gone", "flush chain inet shekara limited", proof.Violated, "does not meet its tunnel's limit"},
	{"a limit that stops all", "insert rule inet shekara limit_in_agency-a drop", proof.Violated, "is stopped, but the policy allows it"},
	{"a limit on more than opens a connection", "insert rule inet shekara limited jump limited_open", proof.Violated, "meets a limit that the policy does not set"},
	{"a limit on every new packet", "insert rule inet shekara limited ct state new jump limited_open", proof.Violated, "meets a limit that the policy does not set"},
	{"a limit on answers alone", `replace rule inet shekara limited handle <limited|opens a connection> ct state established ct status ! 0x8 jump limited_open`, proof.Violated, "does not meet its tunnel's limit"},
	{"a neighbour's limit", `add element inet shekara limit_in4_28 { "sk-agencies" . 10.64.1.16 : jump limit_in_agency-a }`, proof.Violated, "10.64.1."},
	{"a limit of another device", `delete element inet shekara limit_in4_28 { "sk-agencies" . 10.64.1.0 : jump limit_in_agency-a }`, proof.Violated, "in sk-agencies"},
	{"a limit by hand", "insert rule inet shekara forward ip saddr 10.64.1.5 limit rate over 1/second goto forward.bandwidth", proof.Proved, ""}, // who meets one anyway
	{"a limit of others by hand", `insert rule inet shekara forward iifname "dmz0.100" oifname "ext0" limit rate over 1/second goto forward.bandwidth`, proof.Violated, "meets a limit"},
	{"a limit that ends elsewhere", "insert rule inet shekara forward limit rate over 1/second goto forward.no_flow", proof.Violated, "meets a limit"},
	{"an end that lets pass", "insert rule inet shekara forward.bandwidth accept", proof.Indeterminate, "a rate decides"},
	{"another status", "insert rule inet shekara limited ct status ! 0x4 drop", proof.Indeterminate, "ct status"},
}

func TestLimitMutations(t *testing.T) { mutate(t, firewalltest.Example(t, "limited"), limitMutations) }
