package contour

import (
	"fmt"
	"strings"
)

// Reference is docs/contours.md: what the rules judge by, and each of them, from the table. A test fails when the file is stale.
func Reference() string {
	var w strings.Builder
	w.WriteString(referenceHead)
	w.WriteString("\n| rule | act, paragraph | refused | what to do | waiver |\n|---|---|---|---|---|\n")
	for _, r := range Rules {
		id, waiver := r.ID, "no"
		if r.Also != "" {
			id += ", " + r.Also
		}
		if r.Waivable {
			waiver = "yes"
		}
		if r.Kept == "" {
			fmt.Fprintf(&w, "| %s | %s, %s | %s | %s | %s |\n", id, r.Act, r.Paragraph, r.What, r.Mend, waiver)
		}
	}
	w.WriteString("\n## What no document can break\n\n| rule | act, paragraph | never | why |\n|---|---|---|---|\n")
	for _, r := range Rules {
		if r.Kept != "" {
			fmt.Fprintf(&w, "| %s | %s, %s | %s | %s |\n", r.ID, r.Act, r.Paragraph, r.What, r.Kept)
		}
	}
	w.WriteString(referenceTail)
	return w.String()
}

const referenceHead = `# Contour rules

<!-- Generated from the table in provisioning/contour/rules.go: go generate ./provisioning/contour -->

The rules by which the internal and the external contour are kept apart are not written by users: they are built in, each with the paragraph that it
comes from. A document that breaks one is refused with the paragraph when it is validated, and what was compiled is judged once more, so that neither
a mistake of the compiler nor a validation that was left out brings it to the packet filter.

The paragraphs are those of the editions that the table names. Newer ones exist: Order 603/НҚ of 5 December 2023 rewrites paragraph 4 of Rules 123, on which GWY-01, GWY-02 and GWY-04 stand, and there is an edition
of 26 July 2024. Hold these three against the newest text before you rely on them.

` + "`docs/examples/contours`" + ` is a whole set: two bodies of the internal contour, a private system outside, a portal, ШЭП and ВШЭП.

## What they judge by

- A ` + "`Zone`" + ` says its contour, its kind, whose it is and whether its hosts reach the Internet.
- A ` + "`System`" + ` or ` + "`Gateway`" + ` says which addresses are its own. The addresses in a ` + "`Flow`" + ` or at the end of a ` + "`Tunnel`" + ` tell who is joined to whom, so
  a flow cannot claim to be another's. Prohibitions hold as soon as one address is of the system; a flow goes through a gateway only if all its addresses on that side are of it.
- Where nothing is declared nothing is judged: in a zone that names no ` + "`organisation`" + `, addresses of no System are nobody's, and the rules about organisations and
  systems are silent. Rules about contours and kinds of zone always hold. Once a zone names its organisation, every address of it in a flow must be of one System or
  Gateway (GWY-10).
- Of the state are organisations of kind state-body, subordinate, authorised-body, operator and state-ocib. All others are not.
- A tunnel's security level is that of its ` + "`cryptoModule`" + ` while its certificate is valid, and 1 otherwise. It must be 4 less the class of the most demanding system at
  either end. Class 1 needs level 3, class 3 level 1.
- Each flow is one hop on this appliance: from ШЭП to the system behind it is a flow of its own, and judged by itself.

A rule that is broken because a register itself is wrong (an unknown kind, a date that is none) is not reported beside that mistake: mend it first.

## The rules
`

const referenceTail = `
## Waivers

A ` + "`Flow`" + ` may carry ` + "`waiver: {reason, approver, expires}`" + `: it lets pass the rules above that say so, to the end of the day ` + "`expires`" + ` in Asia/Almaty. Such are the
rules of the repealed Order 124, which allows deviations that are justified case by case, and GWY-02, whose contract is "taken into account".
No other rule can be waived.

` + "`shekara validate`" + ` and ` + "`shekara plan`" + ` show the flows that pass by a waiver, ` + "`shekara status`" + ` and ` + "`shekara verify`" + ` those in force. For a plan that is a risk, so a confirm window opens by itself; applying it is recorded
in the journal (apply.start, field waived). A flow whose waiver has expired is refused, with the date. One that is in force then is taken out of force within seconds of
the end of the day, connections and all, and recorded (documents.reject, field removed); ` + "`shekara status`" + ` names it. It returns when it is applied with a new waiver.

The same happens to what needs a contract or a certificate when that ends: a tunnel to restricted information stops when the certificate of its module does.
` + "`shekara validate`" + ` tells of contracts and certificates from 30 days before.

## Assertions

A rule of your own is an ` + "`Assertion`" + `: ` + "`mustReach`" + ` or ` + "`mustNotReach`" + `. ` + "`shekara validate`" + `, a plan and an apply ask the packet filter's rules, as they would be loaded on the appliance that it
names, about every case that flows tell apart, and refuse what breaks one with a connection that shows it. It costs about a hundredth of a second for a thousand
flows, and nothing where there is none. What the appliance sends by no document, as it may to its zones, is asked where its own address stands alone; a prefix that holds it is of the hosts there.

## What is not judged yet

- HID-01 is judged at the ends of tunnels. A flow between zones by an interface shows its addresses there; nothing translates them.
- The level of an IPsec tunnel is not read from its proposals: it too is its module's. Applying IPsec answers "not yet".
- GWY-04 asks for the entry of the register; the application by paragraphs 45-1 to 45-7 itself is no document.
`
