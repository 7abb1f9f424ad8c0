package firewall

import (
	"fmt"
	"strings"
)

// Table is the one table that is ours: family and name.
const Table = "inet shekara"

// Ruleset is a policy as rules.
type Ruleset struct {
	Policy   Policy   // what Base says, without what Elements say: for engines that do not read nft syntax
	Base     string   // chains and empty sets, in nft syntax, as they stand in the table
	Elements Elements // what tunnels and flows put into the sets
}

// With is the ruleset with other elements.
func (r Ruleset) With(e Elements) Ruleset {
	r.Elements = e
	return r
}

// Ruleset joins the base with elements. An error says that the elements need too many sets or that a set is unknown.
func (b *Base) Ruleset(e Elements) (Ruleset, error) {
	r := Ruleset{b.policy, b.text, e}
	_, err := e.shapes()
	return r, err
}

// Text is the whole ruleset in nft syntax, to be loaded where no table of ours is, or in one transaction with what clears it.
// Generation is 1 to Generations and differs from that of the table which it replaces.
func (r Ruleset) Text(generation int) (string, error) {
	return r.text(Table, "", generation, nil)
}

// TextBeside is Text without chains of limits that are there already and are to stay, for they know how much their tunnels have taken.
func (r Ruleset) TextBeside(chains map[string]bool, generation int) (string, error) {
	return r.text(Table, "", generation, chains)
}

// DormantText is the same ruleset for a table of another name that has no hooks, so that no packet meets it: for comparison.
func (r Ruleset) DormantText(table string, generation int) (string, error) {
	return r.text(table, "\tflags dormant\n", generation, nil)
}

func (r Ruleset) text(table, flags string, generation int, beside map[string]bool) (string, error) {
	shapes, err := r.Elements.shapes()
	if err != nil {
		return "", err
	}
	w := &writer{}
	if err := r.table(w, table, flags, generation, shapes, r.Elements, beside); err != nil {
		return "", err
	}
	w.elements("add", table, r.Elements)
	return w.String(), nil
}

// table writes the table without what tunnels and flows put into its sets, but with the chains of limits.
func (r Ruleset) table(w *writer, table, flags string, generation int, shapes []shape, limits Elements, beside map[string]bool) error {
	w.WriteString("table " + table + " {\n" + flags)
	verify, pass := generationRules(generation)
	w.chain(generationChains[0], verify)
	w.chain(generationChains[1], pass...)
	for _, shape := range shapes {
		w.set(shape.set(), shape.keyType(), nil)
	}
	for _, chain := range flowChains {
		w.chain(chain.name, flowRules(shapes, chain.port)...)
	}
	if err := w.limitTable(limits, beside); err != nil {
		return err
	}
	w.WriteString(r.Base + "}\n") // one block: a second one would clear the flags, and would not know the chains of a later one
	return nil
}

var flowChains = [...]struct{ name, port string }{{"flows_open", "dport"}, {"flows_answer", "sport"}}

func flowRules(shapes []shape, port string) []string {
	out := make([]string, len(shapes))
	for i, shape := range shapes {
		out[i] = shape.rule(port)
	}
	return out
}

var generationChains = [...]string{"verify", "pass"}

// GenerationChains are those whose first rule holds the generation, as a number that a mark is compared with or that is set in one.
func GenerationChains() []string { return generationChains[:] }

// generationRules are those of the two chains that a change of generation rewrites.
func generationRules(n int) (verify string, pass []string) {
	return fmt.Sprintf("ct mark & 0x%08x == 0x%08x accept", generationMask, n),
		[]string{fmt.Sprintf("ct mark set meta mark | 0x%08x", n), "meta mark set 0x00000000", "accept"}
}

func (w *writer) elements(verb, table string, e Elements) {
	for _, set := range e.Sets() {
		if len(e[set]) == 0 || set == Limits {
			continue
		}
		fmt.Fprintf(w, "%s element %s %s {\n", verb, table, set)
		for _, element := range e[set] {
			w.WriteString(element + ",\n")
		}
		w.WriteString("}\n")
	}
}

// Change is the text that takes a loaded table from before to after in one transaction: elements, and the sets and rules of
// shapes that come or go. Generation is the one that is loaded if nothing that allows is removed (Narrows), else the next.
func Change(before, after, add, remove Elements, generation int) (string, error) {
	old, err := before.shapes()
	if err != nil {
		return "", err
	}
	shapes, err := after.shapes()
	if err != nil {
		return "", err
	}
	had, have := map[shape]bool{}, map[shape]bool{}
	for _, s := range old {
		had[s] = true
	}
	w := &writer{}
	changed := false
	for _, s := range shapes {
		if have[s] = true; !had[s] {
			changed = true
			fmt.Fprintf(w, "add set %s %s { type %s; }\n", Table, s.set(), s.keyType())
		}
	}
	var gone strings.Builder
	for _, s := range old {
		if !have[s] {
			changed = true
			fmt.Fprintf(&gone, "delete set %s %s\n", Table, s.set())
		}
	}
	first, last, err := limitChange(before, after, add, remove)
	if err != nil {
		return "", err
	}
	w.WriteString(first)
	ofLimits, others := remove.parts()
	w.elements("delete", Table, ofLimits) // a prefix may go from one tunnel to another
	w.elements("add", Table, add)
	w.elements("delete", Table, others)
	w.WriteString(last)
	if changed {
		for _, chain := range flowChains {
			w.rewrite(chain.name, flowRules(shapes, chain.port)...)
		}
		w.WriteString(gone.String())
	}
	if remove.Narrows() {
		verify, pass := generationRules(generation)
		w.rewrite(generationChains[0], verify)
		w.rewrite(generationChains[1], pass...)
	}
	return w.String(), nil
}

func (w *writer) rewrite(chain string, rules ...string) {
	fmt.Fprintf(w, "flush chain %s %s\n", Table, chain)
	for _, rule := range rules {
		fmt.Fprintf(w, "add rule %s %s %s\n", Table, chain, rule)
	}
}
