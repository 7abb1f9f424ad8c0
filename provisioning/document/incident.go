package document

// IncidentRule says which events together are an incident (JRN-07, JRN-08). One of Threshold, Sequence and Absence is set, unless it is Off.
type IncidentRule struct {
	Sites     []string       `yaml:"sites,omitempty" doc:"names of the Sites whose journals it reads" default:"all"`
	Off       bool           `yaml:"off,omitempty" doc:"the built-in rule of this name is not in force; nothing else but sites may stand beside it"`
	Severity  string         `yaml:"severity,omitempty" doc:"of the incident: alert, error, warning, notice or info" default:"warning"`
	Summary   string         `yaml:"summary,omitempty" doc:"one sentence: what an incident means"`
	Advice    string         `yaml:"advice,omitempty" doc:"what to do about it"`
	By        []string       `yaml:"by,omitempty" doc:"an incident of its own for each value of these: type, severity, object, organisation, actor, or fields.NAME; events without one of them are left out" default:"one incident for all events"`
	Threshold *RuleThreshold `yaml:"threshold,omitempty" doc:"so many events within a time"`
	Sequence  *RuleSequence  `yaml:"sequence,omitempty" doc:"one event and then another within a time"`
	Absence   *RuleAbsence   `yaml:"absence,omitempty" doc:"no event for longer than a time"`
	Until     *RuleEvents    `yaml:"until,omitempty" doc:"events that end the incident" default:"none; with absence what was absent"`
	Quiet     string         `yaml:"quiet,omitempty" doc:"the incident ends when none of its events came for longer than this, as 10m; at most 24h" default:"10m with threshold and sequence, unless there is until"`
	Tests     []RuleTest     `yaml:"tests,omitempty" doc:"what the rule makes of some events: one at least that opens an incident, and one that does not. A rule that fails one is refused"`
}

// RuleEvents choose events; all that is given must hold.
type RuleEvents struct {
	Types      []string `yaml:"types,omitempty" doc:"one of these types, as tunnel.state; drift.* is all of a noun" default:"all but incident.*"`
	Severities []string `yaml:"severities,omitempty" doc:"one of these: alert, error, warning, notice, info" default:"all"`
	Object     string   `yaml:"object,omitempty" doc:"what they are about, as tunnel/agency-a; all of a sort if it ends in a slash" default:"all"`
	Text       string   `yaml:"text,omitempty" doc:"stands in the sentence, the object, the organisation, a system, the actor's name or a field's value; capital or small is one" default:"all"`
	Fields     []string `yaml:"fields,omitempty" doc:"fields and their values, as after=down" default:"all"`
}

// RuleThreshold is so many events within a time.
type RuleThreshold struct {
	Events   RuleEvents `yaml:"events" doc:"which are counted"`
	Count    int        `yaml:"count" doc:"how many open an incident, 1 to 1000"`
	Distinct []string   `yaml:"distinct,omitempty" doc:"count different values of these instead, named as in by" default:"every event counts"`
	Within   string     `yaml:"within,omitempty" doc:"of which time, as 60s; at most 24h; with count 1 it may be left out"`
}

// RuleSequence is one event after the other.
type RuleSequence struct {
	First  RuleEvents `yaml:"first" doc:"what comes first"`
	Then   RuleEvents `yaml:"then" doc:"what opens an incident if it comes after that"`
	Within string     `yaml:"within" doc:"the longest time between, as 5m; at most 24h"`
}

// RuleAbsence is what does not come.
type RuleAbsence struct {
	Events RuleEvents  `yaml:"events" doc:"what should come"`
	After  *RuleEvents `yaml:"after,omitempty" doc:"what it should come after" default:"the last of them, or the daemon's start"`
	Within string      `yaml:"within" doc:"for how long it may stay away, as 10m; at most 24h"`
}

// RuleTest is a case that the rule is held to before it is taken.
type RuleTest struct {
	Name   string          `yaml:"name" doc:"what the case shows"`
	Events []RuleTestEvent `yaml:"events" doc:"what happens, in this order"`
	For    string          `yaml:"for,omitempty" doc:"how long it is waited after the last event, as 10m" default:"0s"`
	Opens  int             `yaml:"opens,omitempty" doc:"how many incidents open" default:"0"`
	Keys   []string        `yaml:"keys,omitempty" doc:"for which values of by they open, in this order; several with a comma and a space between" default:"not looked at"`
	Open   int             `yaml:"open,omitempty" doc:"how many of them are still open at the end" default:"0"`
}

// RuleTestEvent is one event, or several alike.
type RuleTestEvent struct {
	After        string   `yaml:"after,omitempty" doc:"how long after the event before, as 5s" default:"0s"`
	Times        int      `yaml:"times,omitempty" doc:"how often it happens, 1 to 10000, each time so long after the one before; {n} in object and fields is the number of the time, from 1" default:"1"`
	Type         string   `yaml:"type" doc:"of the event"`
	Severity     string   `yaml:"severity,omitempty" doc:"of the event" default:"info"`
	Object       string   `yaml:"object,omitempty" doc:"what it is about"`
	Organisation string   `yaml:"organisation,omitempty" doc:"whose it is"`
	Actor        string   `yaml:"actor,omitempty" doc:"who did it"`
	Message      string   `yaml:"message,omitempty" doc:"its sentence"`
	Fields       []string `yaml:"fields,omitempty" doc:"as source=10.64.1.5"`
}

func incidentReference() (about string, e example) {
	return "What events together are an incident ([incidents](incidents.md)). Rules that are built in have names too: a document with the name of one takes its place, and one that says `off: true` puts it out of force. " +
			"An incident that opens and one that is over are events themselves.",
		example{"tunnel-stays-down", &IncidentRule{Severity: "error", Summary: "a tunnel stays down", Advice: "shekara tunnel show NAME has the reason", By: []string{"object"},
			Absence: &RuleAbsence{After: &RuleEvents{Types: []string{"tunnel.state"}, Fields: []string{"after=down"}}, Events: RuleEvents{Types: []string{"tunnel.state"}, Fields: []string{"after=passing"}}, Within: "15m"},
			Tests: []RuleTest{
				{Name: "it stays down", Events: []RuleTestEvent{{Type: "tunnel.state", Object: "tunnel/agency-a", Fields: []string{"after=down"}}}, For: "16m", Opens: 1, Keys: []string{"tunnel/agency-a"}, Open: 1},
				{Name: "it comes back", Events: []RuleTestEvent{{Type: "tunnel.state", Object: "tunnel/agency-a", Fields: []string{"after=down"}},
					{After: "10m", Type: "tunnel.state", Object: "tunnel/agency-a", Fields: []string{"after=passing"}}}, For: "1h"}}}}
}
