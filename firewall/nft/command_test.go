package nft

import (
	"errors"
	"testing"

	"github.com/google/go-cmp/cmp"

	"shekara/netctl"
)

func TestDecode(t *testing.T) {
	type item struct{ Chain *struct{ Name string } }
	for _, c := range []struct {
		out  string
		want []string
		fail bool
	}{
		{`{"nftables": []}`, nil, false},
		{`{"nftables": [{"metainfo": {}}, {"chain": {"name": "a"}}]}` + "\n" + `{"nftables": [{"chain": {"name": "b"}}]}` + "\n", []string{"a", "b"}, false},
		{"", nil, true},
		{"\n", nil, true},
		{`{"nftables": [{"chain": {"name": "a"}}]}{"nftables": [{"cha`, nil, true},
		{`{"nftables": []} Error`, nil, true},
		{`{"nftables": [{"chain": 7}]}`, nil, true},
	} {
		items, err := decode[item]([]byte(c.out))
		var names []string
		for _, item := range items {
			if item.Chain != nil {
				names = append(names, item.Chain.Name)
			}
		}
		if diff := cmp.Diff(c.want, names); diff != "" || (err != nil) != c.fail {
			t.Errorf("%q: %v %s", c.out, err, diff)
		}
		if refused := (*netctl.Error)(nil); c.fail && !errors.As(err, &refused) {
			t.Errorf("%q: %v", c.out, err)
		}
	}
}
