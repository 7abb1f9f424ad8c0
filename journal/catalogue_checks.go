package journal

// catalogueOfChecks is how the host compares with the revision in force: drift, what others do on it, proofs.
func catalogueOfChecks() []Entry {
	by := maybe("by", "who made it so: user, program and process, as far as the kernel tells")
	did := maybe("did", "what they did, as far as the kernel tells; cut behind 1,000 bytes")
	generation := always("generation", "of the kernel's nftables rules when they were read: another number, other rules")
	took := always("took", "how long the proof took, a duration")
	count := maybe("count", "how many violations there are, or reasons for doubt where there is no violation")
	waivers := maybe("waived", "flows that pass only by a waiver, with the contour rules that they break; cut behind 1,000 bytes")
	return []Entry{
		{
			Type: DriftFind, Severities: []Severity{Warning},
			Meaning: "The host differs from the revision in force. It is repaired, unless repairs have stopped, somebody holds them, or the Site says `drift: report`.",
			Fields:  []Field{always("count", "in how many places"), always("what", "in what, as the steps that would repair it; cut behind 1,000 bytes"), by, did},
			Do:      "Find out who changed the host, and why not by shekara apply; shekara hold lets somebody work by hand.",
		},
		{
			Type: DriftRepair, Severities: []Severity{Warning},
			Meaning: "What differed is made as the revision says: by the daemon itself after it was done, or because the actor asked for it, before.",
			Fields:  []Field{maybe("count", "how many differences; absent where somebody asked for it")},
			Do:      nothing,
		},
		{
			Type: DriftStop, Severities: []Severity{Alert},
			Meaning: "Repairs stopped: the same box was repaired three times within a minute, so somebody or something keeps changing it. The filter alone is still put back.",
			Fields:  []Field{always("hint", "the next step")},
			Do:      "Find who changes it by the drift.find before; then shekara apply, or shekara hold 0s, lets repairs go on.",
		},
		{
			Type: DriftResume, Severities: []Severity{Notice},
			Meaning: "Somebody let repairs go on.",
			Do:      nothing,
		},
		{
			Type: DriftPass, Severities: []Severity{Warning},
			Meaning: "Somebody changed what is ours and by the next look it was as the revision says again.",
			Fields:  []Field{always("by", "who: user, program and process, as far as the kernel tells"), always("did", "what, cut behind 1,000 bytes")},
			Do:      "Find out who it was: for a moment something may have passed that should not, or the other way round.",
		},
		{
			Type: ForeignFind, Severities: []Severity{Warning},
			Meaning: "Something of others stands before what is ours: a chain at a hook that our traffic passes and that can drop or change it, or a rule or route that is asked first. It is left as it is.",
			Fields:  []Field{always("what", "chain, rule or route; cut behind 1,000 bytes"), by, did},
			Do:      "See whether it belongs there; if not, remove it, or the program that makes it.",
		},
		{
			Type: ForeignEnd, Severities: []Severity{Notice},
			Meaning: "Something of others that stood before what is ours is gone.",
			Fields:  []Field{always("what", "as in the foreign.find")},
			Do:      nothing,
		},
		{
			Type: WatchGap, Severities: []Severity{Warning},
			Meaning: "The kernel dropped notifications, because too many came at once: who made some changes is not known. The whole host was looked at instead.",
			Fields:  []Field{always("times", "how often it did")},
			Do:      "If it comes again: find what changes so many routes or rules at once.",
		},
		{
			Type: ProofHold, Severities: []Severity{Notice},
			Meaning: "What is loaded was proved to be what the documents of the revision allow, for all packets: the first time for this revision, or again after it was not so.",
			Fields:  []Field{generation, took, waivers},
			Do:      nothing,
		},
		{
			Type: ProofBreak, Severities: []Severity{Alert},
			Meaning: "What is loaded is not what the documents allow. Fields have a packet that shows it, where one does, and the loaded rule that lets it through or stops it.",
			Fields: []Field{
				generation, took, count, waivers,
				maybe("witness", "the packet"), maybe("crossing", "the zones that it passes from and to, their contours, and the rules that a flow for it would break; cut behind 1,000 bytes"), maybe("table", "of the rule, with its family"), maybe("chain", "of the rule"),
				maybe("handle", "of the rule in nftables"), maybe("number", "of the rule in its chain of iptables, from 1"), maybe("rule", "its text, or that it is the chain's policy; cut behind 1,000 bytes"),
			},
			Do: "shekara verify shows every violation. The daemon repairs its own rules; rules of others have to be removed by hand: drift.find and foreign.find say who made them.",
		},
		{
			Type: ProofDoubt, Severities: []Severity{Warning},
			Meaning: "Whether what is loaded is what the documents allow cannot be decided; the message names each reason.",
			Fields:  []Field{generation, took, count, waivers},
			Do:      "Remove what the message names, or know that what it touches is not proved (docs/verification.md).",
		},
		{
			Type: HoldBegin, Severities: []Severity{Notice},
			Meaning: "Somebody works by hand: drift is reported but not repaired for a while.",
			Fields:  []Field{always("until", "when it is repaired again")},
			Do:      nothing,
		},
		{
			Type: HoldEnd, Severities: []Severity{Notice},
			Meaning: "The hold ended, by itself or because the actor said so, and drift is repaired again.",
			Do:      nothing,
		},
	}
}
