package journal

// catalogueOfTheBox is what the daemon does and is asked for: its life, documents and revisions, secrets and access.
func catalogueOfTheBox() []Entry {
	strain := []Field{
		maybe("lateTurns", "turns of the daemon's loop that took longer than 15 s; nothing is repaired meanwhile"),
		maybe("slowWrites", "writes to the journal's disk that took longer than "+SlowWrite.String()),
		maybe("crowdedSeconds", "seconds in which more than 1024 events waited for the disk"),
		maybe("lostEvents", "events that found no room; journal.miss has their types"),
		maybe("lostConnections", "times the kernel dropped news of connections; flow.miss says when"),
		maybe("lostDrops", "times there was no room for records of dropped packets; packet.miss says when"),
		maybe("lostChanges", "times the kernel dropped news of changes of the host; watch.gap says so"),
	}
	return []Entry{
		{
			Type: DaemonStart, Severities: []Severity{Notice},
			Meaning: "The daemon started and brings up a revision.",
			Fields:  []Field{always("version", "of shekarad"), always("site", "name of the Site that this box is")},
			Do:      "Where nobody restarted it or the box: journalctl -u shekarad says why it ended.",
		},
		{
			Type: DaemonStop, Severities: []Severity{Notice},
			Meaning: "The daemon stopped in order; what it made on the host stays.",
			Do:      "Where nobody asked for it: systemctl status shekarad. While it is stopped nothing is repaired, watched or recorded.",
		},
		{
			Type: DaemonOverload, Severities: []Severity{Warning},
			Meaning: "The daemon does not keep up; fields count by what that shows. What is missing is on record of its own. Told once, until daemon.recover or a daemon.start.",
			Fields:  strain,
			Do:      "See what takes the processor and the disk of the journal's folder. If it comes again, the box is too small for its traffic, or somebody floods it.",
		},
		{
			Type: DaemonRecover, Severities: []Severity{Notice},
			Meaning: "The daemon has kept up again for a minute; fields have the counts of the whole overload.",
			Fields:  append(strain[:len(strain):len(strain)], always("since", "when the overload began"), always("until", "when something was amiss last")),
			Do:      nothing,
		},
		{
			Type: HostFail, Severities: []Severity{Error},
			Meaning: "A step that belongs to no single tunnel was refused by the host; it is tried again later and everything else goes on. The message has the step and what the host said.",
			Do:      "Put right on the host what the message names; shekara status shows whether it is still refused.",
		},
		{
			Type: HostClean, Severities: []Severity{Notice},
			Meaning: "Everything that bears our name was removed from the host: it is a border no more.",
			Do:      "If this was no planned removal: ask the actor, and apply again.",
		},
		{
			Type: DocumentsReject, Severities: []Severity{Error, Warning},
			Meaning: "Documents were refused, and nothing changed (warning); or those that stand on the box cannot be taken, or have become invalid, as when a waiver ends, and are out of force (error).",
			Fields:  []Field{maybe("removed", "documents taken out of force, as KIND/NAME, with spaces between; cut behind 1,000 bytes")},
			Do:      "shekara validate names every problem with what to write instead. At an error traffic of the documents that are left out is stopped until they are mended and applied.",
		},
		{
			Type: DocumentChange, Severities: []Severity{Notice},
			Meaning: "A revision adds, changes or removes this document. It follows the revision's apply.start, for its first 200 documents.",
			Fields: []Field{
				always("revision", "number of the revision"), always("change", "add, change or remove"),
				maybe("before", "the document's canonical text in the revision before; cut behind 3,500 bytes"), maybe("after", "its text in this one; cut alike"),
				maybe("beforeDigest", "SHA-256 of all of the text before, in hexadecimal digits, where it is cut"), maybe("afterDigest", "the same of the text after"),
			},
			Do: "Compare it with the changes that were agreed.",
		},
		{
			Type: PlanMake, Severities: []Severity{Info},
			Meaning: "Somebody asked what documents would change.",
			Fields:  []Field{always("base", "number of the revision that the plan starts from"), maybe("withheld", "plans of this user within a minute that were not told one by one; this is the last of them")},
			Do:      nothing,
		},
		{
			Type: ApplyStart, Severities: []Severity{Notice},
			Meaning: "The intent to apply a revision is on disk and its first step follows.",
			Fields: []Field{
				always("plan", "ID of the plan"), always("parent", "number of the revision before"),
				maybe("message", "what the actor said of it; cut behind 1,000 bytes"),
				maybe("removed", "documents that go, as KIND/NAME, with spaces between; cut behind 1,000 bytes"),
				always("changes", "SHA-256, in hexadecimal digits, of a line for each document that changes: add, change or remove, KIND/NAME, and the SHA-256 of its text before and after, or -, with spaces between"),
				maybe("waived", "contour rules that are broken by permission, with their waivers; cut behind 1,000 bytes"),
			},
			Do: "Compare it with the changes that were agreed: shekara compare shows this one line by line.",
		},
		{
			Type: ApplyFinish, Severities: []Severity{Notice},
			Meaning: "A revision is in force, for good unless a confirm.wait follows.",
			Fields: []Field{
				maybe("failed", "how many tunnels have an error of their own; absent where a start of the daemon ended an apply that was cut off"),
				maybe("steps", "how many steps it took; absent alike"),
			},
			Do: "Where failed is not 0: shekara tunnel list names the tunnels, and each has a tunnel.fail.",
		},
		{
			Type: ApplyFail, Severities: []Severity{Error, Alert},
			Meaning: "A revision could not be applied and the one before is in force again: at once (error), or at a start of the daemon after it was cut off (alert).",
			Fields:  []Field{always("inForce", "number of the revision in force"), maybe("reason", "why it was undone; of one that was cut off only")},
			Do:      "Mend what the message names, and apply again; shekara status shows whether all of the revision in force is there.",
		},
		{
			Type: ConfirmWait, Severities: []Severity{Warning},
			Meaning: "A revision is in force but is undone unless somebody confirms it in time.",
			Fields:  []Field{always("deadline", "when it is undone"), always("returnTo", "number of the revision that comes back then")},
			Do:      "See whether all that should pass does, and whether the box can be reached; then shekara confirm, else shekara rollback.",
		},
		{
			Type: ConfirmDone, Severities: []Severity{Notice},
			Meaning: "Somebody confirmed a revision in time.",
			Do:      nothing,
		},
		{
			Type: RevisionRevert, Severities: []Severity{Alert},
			Meaning: "A revision was undone: nobody confirmed it in time, or somebody rolled it back.",
			Fields:  []Field{always("inForce", "number of the revision in force"), always("reason", "why it was undone")},
			Do:      "Where nobody confirmed: find out whether the box could not be reached with that revision before it is applied again.",
		},
		{
			Type: SecretMake, Severities: []Severity{Notice},
			Meaning: "A secret was made on the box. The object names it; its value is in no event.",
			Do:      nothing,
		},
		{
			Type: SecretImport, Severities: []Severity{Notice},
			Meaning: "A secret was brought to the box. The object names it; its value is in no event.",
			Do:      "If nobody agreed on it with the far side: ask the actor.",
		},
		{
			Type: SecretExport, Severities: []Severity{Notice},
			Meaning: "A secret was sealed to a recipient and handed out; it is on record before that.",
			Fields:  []Field{always("recipient", "public key that can open it, as age writes it")},
			Do:      "See whose key the recipient is. If nobody expects the secret, change it on both sides.",
		},
		{
			Type: AccessRefuse, Severities: []Severity{Warning},
			Meaning: "Somebody asked for what they may not do. Ten are told a minute for each user.",
			Fields:  []Field{always("operation", "what was asked for"), maybe("withheld", "refusals of this user within a minute that were not told one by one; this is the last of them")},
			Do:      "Ask the user; if again and again, take them out of the groups shekara and shekara-view.",
		},
	}
}
