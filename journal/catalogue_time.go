package journal

// catalogueOfTime is how far the clock can be believed, and who was given the time.
func catalogueOfTime() []Entry {
	times := always("times", "how often it changed since the event before")
	before := maybe("before", "as told last; absent where nothing was")
	return []Entry{
		{
			Type: ClockSynchronise, Severities: []Severity{Notice},
			Meaning: "Somebody keeps the clock again, by the kernel's word. Told once a minute.",
			Fields:  []Field{before, always("after", "synchronised"), times, always("errorMicroseconds", "how wrong it may be, in µs")},
			Do:      nothing,
		},
		{
			Type: ClockLose, Severities: []Severity{Error},
			Meaning: "Nobody keeps the clock: not any more, or not since the daemon started; how wrong the times of records are is not known until clock.synchronise, or a daemon.start after which it is not told again. Told once a minute.",
			Fields:  []Field{before, always("after", "unsynchronised"), times, maybe("errorMicroseconds", "the last bound of its error, in µs; absent where there was none")},
			Do:      "See what keeps the clock (chronyc tracking, timedatectl), and whether it reaches its sources.",
		},
		{
			Type: ClockStep, Severities: []Severity{Warning},
			Meaning: "The clock was set by more than a second. Told once a minute.",
			Fields: []Field{
				always("before", "what the clock would show"), always("after", "what it shows"), always("by", "the difference, a duration"),
				always("times", "how often it was set since the event before"), always("synchronised", "true or false: whether somebody keeps it now"),
			},
			Do: "Find who set it (journalctl -u chronyd, or the console): times of records before and after cannot be compared without the difference.",
		},
		{
			Type: TimeState, Severities: []Severity{Notice, Warning, Error},
			Meaning: "How far the clock is kept, as the TimeService in force measures it, changed: synchronised (notice), holdover (no source confirms it, and the bound of its error grows: warning) or unsynchronised (error), or unwatched where no TimeService is in force any more (notice).",
			Fields: []Field{
				before, always("after", "synchronised, holdover, unsynchronised or unwatched"),
				maybe("stratum", "as clients are told"), maybe("reference", "source that is followed"), maybe("offset", "what has to be added to our clock to be right by the sources, a duration"),
				maybe("boundMicroseconds", "by how much the clock may be wrong, in µs; absent while unsynchronised"),
			},
			Do: "shekara time status says which sources answer and agree, and docs/time.md what to look at.",
		},
		{
			Type: TimeSource, Severities: []Severity{Info, Warning},
			Meaning: "What is thought of a source of time changed: it agrees with the others (info), or not, or does not answer (warning). Told once a minute for each source.",
			Fields: []Field{
				always("source", "its address or name"), before, always("after", "agrees, disagrees, falseticker, unreachable …"), always("offset", "what has to be added to our clock to be right by it, a duration"),
				always("distance", "its root distance, a duration: how wrong it may be itself"), always("stratum", "as it says"), maybe("authentication", "nts, key or none"),
				times, maybe("error", "what it answered, or why it could not be asked"),
			},
			Do: "While three others agree: ask who keeps the source. Else add sources to the TimeService.",
		},
		{
			Type: TimeWarn, Severities: []Severity{Info, Warning},
			Meaning: "Something about the time should be looked after: the clock is wrong by more than the TimeService's warnOffset, fewer than three sources answer, one tells another time than the majority, one is not authenticated, or shekarad time cannot do what its document asks. A warning when it begins, info when it is over.",
			Fields: []Field{
				always("warning", "its kind; trouble: shekarad time cannot do what its document asks"),
				maybe("source", "source that it is about; of a trouble its text"), always("state", "begins or over"),
			},
			Do: "shekara time status has all that lasts, and docs/time.md what to look at.",
		},
		{
			Type: TimeServe, Severities: []Severity{Info},
			Meaning: "How many requests for the time were answered and refused, of all, and in an event of its own for each System that asked: when a legal day is over, and when the daemon stops or the TimeService goes. A day may have several, which add up; what was asked while no daemon ran, or after it was killed, is in none.",
			Fields: []Field{
				always("day", "the legal day, as 2026-11-26"), always("since", "from when on it was counted"), always("until", "until when"),
				always("answered", "requests"), maybe("withheld", "not answered, as the clock was not synchronised; of all"), always("limited", "refused, as too many came from one client"),
				maybe("unregistered", "from no registered System; of all"), always("unauthenticated", "without the key that they need"), maybe("malformed", "that are no requests for the time; of all"),
				maybe("lastSeen", "when the System asked last"),
				maybe("offset", "by how much the System's clock was ahead of ours less the time on the way, by the last request that told, a duration"),
				maybe("offsetFarthest", "the farthest of these, looked at once a second"), maybe("offsetAt", "when offset was"),
			},
			Do: "A System that is far off, or asked last long ago, does not follow this clock: ask who keeps it.",
		},
		{
			Type: TimeFail, Severities: []Severity{Error},
			Meaning: "shekarad time does not answer: nobody is served, and the bound on records is the kernel's word.",
			Fields:  []Field{always("since", "from when on")},
			Do:      "systemctl status shekara-time, and journalctl -u shekara-time.",
		},
		{
			Type: TimeRecover, Severities: []Severity{Notice},
			Meaning: "shekarad time answers again.",
			Do:      nothing,
		},
	}
}
