package nft

import (
	"context"
	"fmt"
	"slices"

	"shekara/firewall"
)

// Foreign lists the base chains of other tables that see packets: what they drop or rewrite is dropped or rewritten, whatever
// our table says (what they accept, ours may still drop). They are reported, never touched.
func (l *Loader) Foreign(ctx context.Context) ([]string, error) {
	out, err := query(ctx, "-j", "list", "chains")
	if err != nil {
		return nil, fmt.Errorf("list foreign chains: %w", err)
	}
	var answer struct {
		NFTables []struct {
			Chain *struct {
				Family, Table, Name, Type, Hook, Policy string
				Prio                                    int
			}
		}
	}
	if err := decode(out, &answer); err != nil {
		return nil, fmt.Errorf("list foreign chains: %w", err)
	}
	var foreign []string
	for _, item := range answer.NFTables {
		if c := item.Chain; c != nil && c.Hook != "" && c.Family+" "+c.Table != firewall.Table {
			foreign = append(foreign, fmt.Sprintf("table %s %s chain %s: type %s hook %s priority %d policy %s", c.Family, c.Table, c.Name, c.Type, c.Hook, c.Prio, c.Policy))
		}
	}
	slices.Sort(foreign)
	return foreign, nil
}
