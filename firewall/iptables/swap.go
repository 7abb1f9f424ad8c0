package iptables

import (
	"context"
	"fmt"
	"slices"
	"strings"
)

// swap leads a family's packets to a ruleset that is built. Each packet is judged by one ruleset as a whole. Its source is looked at by both for as long
// as both are there, and so is what leaves a device that hides addresses. What the new ruleset does not translate the old one does until then: nothing
// leaves with an address that either hides. Packets find their way before they are translated, and are judged by both rulesets as translated or not, so
// what one translates and the other leads elsewhere passes neither.
func (l *Loader) swap(ctx context.Context, now kernel, f family, next *state) error {
	letter := next.image.letter
	steps := []func() error{func() error { return l.enter(f, judging[0], letter) }}
	if len(next.base.translated) > 0 {
		for _, h := range translating {
			steps = append(steps, func() error { return l.enter(f, h, letter) })
		}
	}
	// What this box sends is judged before it is translated, so it must not be translated by a ruleset that did not judge it.
	same := now.sameOwn(f, next)
	if !same {
		steps = append(steps, func() error { return l.leave(now, f, ownTranslated) })
	}
	for _, h := range judging[1:] {
		steps = append(steps, func() error { return l.replace(ctx, now, f, h, letter) })
	}
	if len(next.base.translated) > 0 {
		steps = append(steps, func() error { return l.enter(f, ownTranslated, letter) })
	}
	if same {
		steps = append(steps, func() error { return l.leave(now, f, ownTranslated) })
	}
	for _, h := range slices.Backward(translating[:]) {
		steps = append(steps, func() error { return l.leave(now, f, h) })
	}
	steps = append(steps, func() error { return l.leave(now, f, judging[0]) })
	for _, step := range steps {
		if err := step(); err != nil {
			return err
		}
	}
	return nil
}

// sameOwn says whether what this box sends is translated now as it will be.
func (k kernel) sameOwn(f family, next *state) bool {
	old, _ := k.jumps(f, ownTranslated)
	to := chainKey{ownTranslated.table, chainName(next.image.letter, ownTranslated.chain)}
	return len(old) == 1 && slices.Equal(k.chains[f][chainKey{ownTranslated.table, chainName(old[0], ownTranslated.chain)}], next.listing[f][to])
}

func jump(letter string, h hook) []string { return []string{"-j", chainName(letter, h.chain)} }

// enter puts the jump to a letter's chain before all else.
func (l *Loader) enter(f family, h hook, letter string) error {
	return l.tables[f].Insert(h.table, h.builtin, jump(letter, h)...)
}

// leave takes away the jumps that were there.
func (l *Loader) leave(was kernel, f family, h hook) error {
	old, _ := was.jumps(f, h)
	for _, letter := range old {
		if err := l.tables[f].Delete(h.table, h.builtin, jump(letter, h)...); err != nil {
			return err
		}
	}
	return nil
}

// replace puts the jump to a letter's chain before all else and takes away those that were there, in one transaction: there is no moment with both or
// neither. No rule goes by its number, which is another's when somebody has put one before it meanwhile.
func (l *Loader) replace(ctx context.Context, was kernel, f family, h hook, letter string) error {
	var b strings.Builder
	fmt.Fprintf(&b, "*%s\n", h.table)
	old, _ := was.jumps(f, h)
	for _, letter := range old {
		fmt.Fprintf(&b, "-D %s %s\n", h.builtin, strings.Join(jump(letter, h), " "))
	}
	fmt.Fprintf(&b, "-I %s 1 %s\nCOMMIT\n", h.builtin, strings.Join(jump(letter, h), " "))
	return l.tables[f].Restore(ctx, b.String())
}
