package proof

// choice carries out a verdict map for the packets in reach, as verdict does. Where it leads to several places each is followed for all
// packets that the map sends there, whether or not they come so far, and what comes out is narrowed to reach once: a map to a thousand
// chains would else narrow a thousand times, and each by all that the rules before have asked.
func (r *run) choice(rule *rule, c *choice, reach formula, accepted *[]formula) (taken, back, gone formula) {
	key, has := r.key(c.key, reach)
	var list []fork
	for i, group := range c.set.groups {
		if where := r.and(has, r.find(key, c.set, i)); where != never {
			list = append(list, fork{verdict: group.verdict, where: where})
		}
	}
	if len(list) == 1 {
		return r.verdict(rule, list[0].verdict, r.and(reach, list[0].where), accepted)
	}
	events, writes, limits, bindings := len(r.events), len(r.writes), len(r.limits), len(r.bindings)
	mark, ct, zone := r.mark, r.ct, r.zone
	var outcomes [4][]formula
	var own []formula
	for i := range list {
		f := &list[i]
		r.mark, r.ct = register{before: &mark, reach: reach}, register{before: &ct, reach: reach}
		r.zone = register{before: &zone, reach: reach, once: true}
		own = own[:0]
		taken, back, gone := r.verdict(rule, f.verdict, f.where, &own)
		for j, outcome := range []formula{taken, back, gone, r.any(own...)} {
			outcomes[j] = append(outcomes[j], outcome)
		}
		f.mark, f.ct, f.zone = r.mark.updates, r.ct.updates, r.zone.updates
	}
	r.mark, r.ct, r.zone = mark, ct, zone
	r.setAll(&r.mark, reach, list, func(f fork) []update { return f.mark })
	r.setAll(&r.ct, reach, list, func(f fork) []update { return f.ct })
	r.setAll(&r.zone, reach, list, func(f fork) []update { return f.zone })
	for i := events; i < len(r.events); i++ {
		r.events[i].where = append(r.events[i].where, reach)
	}
	for i := writes; i < len(r.writes); i++ {
		r.writes[i].where = r.and(reach, r.writes[i].where)
	}
	for i := limits; i < len(r.limits); i++ {
		r.limits[i].where = r.and(reach, r.limits[i].where)
	}
	for i := bindings; i < len(r.bindings); i++ {
		r.bindings[i].where = r.and(reach, r.bindings[i].where)
	}
	narrowed := func(list []formula) formula { return r.and(reach, r.any(list...)) }
	*accepted = append(*accepted, narrowed(outcomes[3]))
	return narrowed(outcomes[0]), narrowed(outcomes[1]), narrowed(outcomes[2])
}

// fork is one verdict of a map, the packets that it is for, and what its chains write.
type fork struct {
	verdict        *verdict
	where          formula
	mark, ct, zone []update
}

// setAll takes over what forks wrote: what each wrote first as one update, what each wrote next as another. No packet is in two forks.
func (r *run) setAll(into *register, reach formula, list []fork, of func(fork) []update) {
	for nth := 0; ; nth++ {
		var written []update
		for _, f := range list {
			if u := of(f); nth < len(u) {
				written = append(written, u[nth])
			}
		}
		if len(written) == 0 {
			return
		}
		u := r.merge(written)
		into.set(update{r.and(reach, u.where), u.where, u.value})
	}
}

// merge is one update for several whose packets are different ones.
func (r *run) merge(list []update) update {
	if len(list) == 1 {
		return list[0]
	}
	x, y := r.merge(list[:len(list)/2]), r.merge(list[len(list)/2:])
	value := make(vector, len(x.value))
	for i := range value {
		value[i] = r.choose(x.where, x.value[i], y.value[i])
	}
	return update{where: r.or(x.where, y.where), value: value}
}
