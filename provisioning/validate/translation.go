package validate

import (
	"fmt"
	"slices"
	"strings"

	"shekara/provisioning/document"
)

// notations checks by which other addresses an end is known: mapped by the other end's box, or hidden by its own. Its shown and known
// prefixes are what the checks of overlaps look at.
func (c *checker) notations(e *end) {
	mapped, hide := c.prefixes(e.path+".mapped", e.Mapped), c.prefixes(e.path+".hide", e.Hide)
	e.shown, e.known = e.prefixes, e.prefixes
	if len(e.Hide) > 0 {
		e.shown, e.known = hide, hide
	}
	if len(e.Mapped) > 0 {
		e.known = mapped
	}
	switch {
	case len(e.Mapped) > 0 && len(e.Hide) > 0:
		c.add(e.path+".mapped", "end is mapped and hides", strings.Join(e.Mapped, ", "), "keep one of the two: what hide shows can be free of overlaps by itself", "HID-01")
	case len(e.Mapped) > 0 && !document.OneToOne(e.Prefixes, e.Mapped):
		c.add(e.path+".mapped", "mapped is not one to one", strings.Join(e.Mapped, ", "),
			fmt.Sprintf("prefixes has %s: write as many, in the same order and of the same lengths", few(e.Prefixes)), "VPN-03")
	case len(e.Hide) > 0 && e.Hides():
		c.behindOne(e, hide)
	}
	for _, p := range slices.Concat(mapped, hide) {
		for _, q := range e.prefixes {
			if p.Overlaps(q.Prefix) {
				c.add(p.path, "range overlaps what it stands for", p.written, fmt.Sprintf("it stands for %s: write a range that nobody has", q.written), "HID-01")
				break
			}
		}
	}
}

// behindOne holds a hide that is not one to one to a single address for each family.
func (c *checker) behindOne(e *end, hide []prefix) {
	for i, p := range hide {
		if !p.IsSingleIP() || slices.ContainsFunc(hide[:i], func(other prefix) bool { return other.Addr().Is4() == p.Addr().Is4() }) {
			c.add(p.path, "hide is neither one to one nor a single address", p.written,
				fmt.Sprintf("prefixes has %s: write as many, in the same order and of the same lengths, or one address for each family", few(e.Prefixes)), "HID-01")
			return
		}
	}
	for _, q := range e.prefixes {
		if !slices.ContainsFunc(hide, func(p prefix) bool { return p.Addr().Is4() == q.Addr().Is4() }) {
			c.add(e.path+".hide", "prefix is not hidden", strings.Join(e.Hide, ", "), fmt.Sprintf("%s would be shown: add an address of its family", q.written), "HID-01")
			return
		}
	}
}

// mappedForm is how a range that overlaps another could be told from it.
func mappedForm(far end, p prefix) string {
	return fmt.Sprintf("give it another range here, one to one: write mapped: [a free /%d] beside prefixes of the %s, inside zone %s, and in wireguard of the other end's peer an entry with tunnel: of this one",
		p.Bits(), far.side, far.Zone)
}
