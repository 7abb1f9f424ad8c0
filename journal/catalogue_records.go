package journal

// catalogueOfRecords is about records themselves: messages of units, delivery to centres, incidents, the journal and its key.
func catalogueOfRecords() []Entry {
	all := Severities()
	withheld := "of this user within a minute that were not told one by one; this is the last of them"
	size, root, edge := always("size", "how many records these are"), always("root", "of the tree over them, in base64"), always("edge", "of that tree, from which verification goes on; in base64, with commas between")
	rule, key, count := always("rule", "name of the IncidentRule"), maybe("key", "what the rule tells apart, as a source address or a tunnel"), always("count", "how many events it had")
	notReached := "how many records it lacks"
	since, until := always("since", "from when on"), always("until", "until when")
	return []Entry{
		{
			Type: UnitMessage, Severities: all,
			Meaning: "A systemd unit of the host said something, or systemd of it, or the kernel, as journald has it; the Site says which. The severity is from its priority. Control characters are written as they can be seen, a backslash as two. What is longer than 1,000 bytes so is cut, and so is what has several texts, of which the first is told; of 4,088 bytes and more journalctl gives none, and there is no text. Of a unit, of each priority, and of what systemd says of it apart, 30 within a minute and 300 within an hour of when they were said are told one by one; of the others there is a count for a minute at most. So who makes a unit say much hides the text of what it says with the same priority, as a login among many refused; beyond 10,000 in half a minute, or more where the disk has room, journald itself drops what is like that, and says so as systemd-journald.service. After a daemon that was killed the last may come twice.",
			Fields: []Field{
				maybe("at", "when journald got it"), maybe("identifier", "program that said it"), always("priority", "syslog's number: 0 is an emergency, 7 is for debugging"),
				maybe("manager", "true where systemd says it of the unit"), maybe("cut", "true where it is not the whole text"),
				maybe("suppressed", "how many more messages there were; then this is none of them"), maybe("since", "time of the first of these"), maybe("until", "time of the last of these"),
			},
			Do: "As the program's manual says. Of what is suppressed: journalctl -u UNIT on the box has the text while journald keeps it.",
		},
		{
			Type: UnitMiss, Severities: []Severity{Warning},
			Meaning: "Messages of the host's units are not put on record, for a minute already: the message says why, and what journald keeps meanwhile is read when it can be. Or some are missing, as journald has them no more, or as it is not known any more which are on record. Or journald has some that are too long to be read.",
			Fields: []Field{
				maybe("since", "they were said after this; absent where that is not known"), maybe("until", "and before this; absent where it goes on, or of what cannot be read"),
				maybe("suppressed", "how many more cannot be read than are told one by one"),
			},
			Do: "See whether journald runs (systemctl status systemd-journald) and how much it may keep; journalctl shows what cannot be read here.",
		},
		{
			Type: UnitResume, Severities: []Severity{Notice},
			Meaning: "Messages of the host's units are put on record again.",
			Fields:  []Field{since, until},
			Do:      nothing,
		},
		{
			Type: SinkFail, Severities: []Severity{Error},
			Meaning: "Nothing has reached a monitoring centre, or another sink of the journal, for a minute. It gets what it lacks when it is back.",
			Fields:  []Field{always("sequence", "record up to which it was sent to"), always("behind", notReached), since},
			Do:      "See whether the centre runs and can be reached, and whether its certificate or ours has ended; shekara status has the reason.",
		},
		{
			Type: SinkRecover, Severities: []Severity{Notice},
			Meaning: "A sink that failed has been sent to again for a minute, or its document has been gone for one.",
			Fields: []Field{
				maybe("sequence", "record up to which it was sent to; absent where its document is gone"), maybe("behind", notReached+"; absent alike"),
				always("seconds", "how long it failed"),
			},
			Do: "At the centre: see that the sequences have no gap.",
		},
		{
			Type: IncidentOpen, Severities: all,
			Meaning: "What happened comes to an incident, by a rule and for a key (docs/incidents.md). The severity is the rule's.",
			Fields:  []Field{rule, key, count, maybe("sequences", "of events that made it, with commas between"), maybe("advice", "what to do, as the rule says")},
			Do:      "What advice says; shekara incidents shows all that are open.",
		},
		{
			Type: IncidentClose, Severities: []Severity{Notice},
			Meaning: "An incident is over.",
			Fields:  []Field{rule, key, count, always("opened", "when it was opened"), always("last", "when its last event was"), always("reason", "why it is over")},
			Do:      "Write down what it was, where nobody has yet.",
		},
		{
			Type: JournalLook, Severities: []Severity{Info},
			Meaning: "Somebody looked at the journal through the daemon; told once a minute for each user, and who reads on from where they ended when they begin. Who may read its files, as root, is not seen by the daemon.",
			Fields:  []Field{always("operation", "what was asked for"), maybe("withheld", "looks "+withheld)},
			Do:      nothing,
		},
		{
			Type: JournalExport, Severities: []Severity{Notice},
			Meaning: "Somebody took records out of the journal through the daemon; ten are told a minute for each user.",
			Fields:  []Field{always("partition", "of what: tunnel/NAME, organisation/NAME or system/NAME"), maybe("withheld", "exports "+withheld)},
			Do:      "See whether they were asked to.",
		},
		{
			Type: JournalCut, Severities: []Severity{Warning},
			Meaning: "The journal ended in a record that was never acknowledged, as a power cut leaves it; it was set aside.",
			Fields:  []Field{always("file", "in which it lies, in the journal's folder"), always("bytes", "how many")},
			Do:      "Nothing where the power was cut or the box crashed; else see the disk's health.",
		},
		{
			Type: JournalDamage, Severities: []Severity{Alert},
			Meaning: "What had been acknowledged cannot be read in a file of the journal, is missing, or is not what was signed; the file is left as it is. It is found when the daemon starts, when records are sent to a sink, and by a check of the closed files, one an hour and one whenever a file is closed, and told once of each file.",
			Fields: []Field{always("file", "in the journal's folder"), always("lines", "how many are damaged or missing"), maybe("reason", "what the check found"),
				maybe("first", "sequence of the first that is missing, where a sink lacks it or the oldest files are gone"), maybe("last", "sequence of the last")},
			Do: "shekara journal verify names the records; keep the folder as it is, restore the file from a copy, and compare it with what the monitoring centre holds. See the disk's health, and who was on the box.",
		},
		{
			Type: JournalFull, Severities: []Severity{Alert},
			Meaning: "The disk of the journal has no room: this record lies in what was held in reserve for it. Until there is room changes are refused, but for reverts and revocations, and what comes in bulk (connections, dropped packets, limits, refusals, plans, looks, exports, messages of units) is only counted.",
			Fields:  []Field{since, always("reserve", "bytes of the reserve; 0 where there is none"), always("hint", "the next step")},
			Do:      "Free room in the file system of the journal's folder, or give it more; nothing of the journal itself is to be removed.",
		},
		{
			Type: JournalMiss, Severities: []Severity{Alert},
			Meaning: "Events were not recorded and are lost, because the disk was full, failed or did not answer, or more came than it took; the message says how many of which type.",
			Fields:  []Field{always("count", "how many"), always("since", "when the first of them was"), always("until", "when the last of them was")},
			Do:      "Note the gap; look at the disk and, where it is well, at what sent so much.",
		},
		{
			Type: JournalResume, Severities: []Severity{Notice},
			Meaning: "The journal can be written again. Events that waited stand behind this, with the time at which they happened; where the daemon ended meanwhile the message says so, and what waited may be lost.",
			Fields:  []Field{always("since", "from when on it could not"), until},
			Do:      nothing,
		},
		{
			Type: JournalCheckpoint, Severities: []Severity{Info},
			Meaning: "All records before this one are settled by a signature. One is made every minute, so that silence shows, every thousand records, when somebody asks for one, where a file begins, and by a daemon that stops in order.",
			Fields: []Field{
				size, root, edge, maybe("note", "number and root under the journal's signature; absent where nobody could sign"),
				maybe("clockSet", "by how much somebody set the clock since the one before, a duration; absent where that is a second at most"),
			},
			Do: "Keep them where nobody on the box can change them: shekara journal verify --checkpoint compares. None for three minutes is silence that somebody has to explain.",
		},
		{
			Type: JournalUnsigned, Severities: []Severity{Alert},
			Meaning: "The journal's key cannot be had: what happens is recorded all the same, changes are refused, and nobody can prove later that records were not changed. The message says why.",
			Fields:  []Field{always("hint", "the next step")},
			Do:      "Bring the key back as the hint says; only where it is lost for good: shekara journal rotate-key --lost.",
		},
		{
			Type: JournalExpire, Severities: []Severity{Notice},
			Meaning: "The oldest day's records are so old that they go, as the Site says, never before three years: this is on disk and signed before they are removed. Only with a clock that is kept, and when a centre has what goes and a record of the last hour; one day's records a day.",
			Fields: []Field{
				always("first", "sequence of the first record that goes"), always("last", "sequence of the last"), always("day", "their legal day, as 2026-11-26"),
				always("files", "how many files go"), always("bytes", "how much that is on the disk"), size, root, edge,
			},
			Do: "Nothing; without this record the journal's beginning cannot be verified, so keep it as long as the rest.",
		},
		{
			Type: KeyRotate, Severities: []Severity{Notice},
			Meaning: "Somebody had the journal go on with a new key: from here on that signs. The note is signed by both, so that who has either verifies all.",
			Fields:  []Field{always("old", "public key that signed until here"), always("new", "public key that signs from here on"), always("note", "checkpoint of all before, with both keys")},
			Do:      "If nobody planned it: ask the actor. Give the new key to those who verify.",
		},
		{
			Type: KeyLose, Severities: []Severity{Alert},
			Meaning: "The journal's key was lost, and somebody began with a new one, which alone signs the note: the chain of signatures breaks here, and verification names it.",
			Fields:  []Field{always("new", "public key that signs from here on"), always("note", "checkpoint of all before, with the new key")},
			Do:      "Compare what was signed before with checkpoints that are held elsewhere, and give the new key to those who verify.",
		},
	}
}
