package provisioning

// Of a plan with more documents or steps than briefItems, a brief one lists the first briefOfGroup of each group.
const (
	briefItems   = 30
	briefOfGroup = 5
)

// Omitted is how many items of a group a brief plan leaves out: documents by Verb and Kind, steps by Phase.
type Omitted struct {
	Verb  string `json:"verb,omitempty"`
	Kind  string `json:"kind,omitempty"`
	Phase string `json:"phase,omitempty"`
	Count int    `json:"count"`
}

// Brief is the plan as people read it: long lists are cut to the first items of each group, and Omitted counts the rest.
func (p Plan) Brief() Plan {
	var omitted []Omitted
	p.Changes, omitted = brief(p.Changes, func(c Change) Omitted { return Omitted{Verb: c.Verb, Kind: string(c.Kind)} })
	p.Omitted = append(p.Omitted[:len(p.Omitted):len(p.Omitted)], omitted...)
	p.Steps, omitted = brief(p.Steps, func(s Step) Omitted { return Omitted{Phase: s.Phase} })
	p.Omitted = append(p.Omitted, omitted...)
	return p
}

// brief keeps the order of the list; groups are in the order in which they first appear.
func brief[T any](list []T, group func(T) Omitted) ([]T, []Omitted) {
	if len(list) <= briefItems {
		return list, nil
	}
	var kept []T
	var groups []Omitted
	count := map[Omitted]int{}
	for _, item := range list {
		g := group(item)
		if count[g]++; count[g] == 1 {
			groups = append(groups, g)
		}
		if count[g] <= briefOfGroup {
			kept = append(kept, item)
		}
	}
	var omitted []Omitted
	for _, g := range groups {
		if more := count[g] - briefOfGroup; more > 0 {
			g.Count = more
			omitted = append(omitted, g)
		}
	}
	return kept, omitted
}
