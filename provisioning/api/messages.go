package api

import (
	"net/url"
	"strings"
	"time"

	"shekara/journal"
	"shekara/provisioning"
)

// Documents is input to plan or to apply.
type Documents struct {
	Files         []File `json:"files" maxItems:"100000" doc:"documents; names are for messages"`
	Whole         bool   `json:"whole,omitempty" doc:"also remove what is absent; else merge by kind and name"`
	ConfirmWithin string `json:"confirmWithin,omitempty" maxLength:"32" doc:"a duration such as 5m: undone unless confirmed by then" example:"5m"`
	Message       string `json:"message,omitempty" maxLength:"1000" doc:"why, for the history"`
}

// File is one file of YAML documents.
type File struct {
	Name    string `json:"name" maxLength:"4096"`
	Content string `json:"content" doc:"one or many YAML documents"`
}

// Explain asks what becomes of a packet: by what is in force, or by what documents would make of it.
type Explain struct {
	Question provisioning.Question `json:"question"`
	Files    []File                `json:"files,omitempty" maxItems:"100000" doc:"documents that are taken as applied; none: what is in force is asked"`
	Whole    bool                  `json:"whole,omitempty" doc:"the documents are all there are; else merge by kind and name"`
}

// MatrixRequest asks who may open connections to whom: by what is in force, or by what documents would make of it.
type MatrixRequest struct {
	Files []File `json:"files,omitempty" maxItems:"100000" doc:"documents that are taken as applied; none: what is in force is asked"`
	Whole bool   `json:"whole,omitempty" doc:"the documents are all there are; else merge by kind and name"`
}

// Return says to which revision to go back.
type Return struct {
	Revision int `json:"revision,omitempty" minimum:"0" doc:"0: the one before; while a confirmation is pending, the one it replaced"`
}

// HoldRequest keeps drift from being repaired while someone works by hand.
type HoldRequest struct {
	For string `json:"for" maxLength:"32" doc:"a duration, at most 24h" example:"30m"`
}

// Hold says until when drift is only reported.
type Hold struct {
	Until time.Time `json:"until"`
}

// Revisions is the history, newest first.
type Revisions struct {
	Revisions []provisioning.Revision `json:"revisions"`
}

// Comparison is what differs between two revisions.
type Comparison struct {
	From    int                   `json:"from"`
	To      int                   `json:"to"`
	Changes []provisioning.Change `json:"changes"`
}

// Tunnels is every tunnel of this box.
type Tunnels struct {
	Tunnels []provisioning.TunnelStatus `json:"tunnels"`
}

// Events is a page of the journal, oldest first.
type Events struct {
	Events []journal.Event `json:"events"`
	Next   uint64          `json:"next" doc:"give it as after to read on"`
}

// EventFilter chooses events; all that is given must hold.
type EventFilter struct {
	Types        []string  `query:"type" maxItems:"50" doc:"one of these types, with commas between; drift.* is all of a noun"`
	Severities   []string  `query:"severity" maxItems:"5" doc:"one of these, with commas between: alert, error, warning, notice, info"`
	Object       string    `query:"object" maxLength:"300" doc:"what it is about, as tunnel/NAME; all below it with a / at the end"`
	Organisation string    `query:"organisation" maxLength:"300" doc:"the legal entity whose it is"`
	System       string    `query:"system" maxLength:"300" doc:"a registered system that it concerns"`
	Text         string    `query:"text" maxLength:"200" doc:"is in the message, the object, the user's name or a field; capital or small is one"`
	Day          string    `query:"day" maxLength:"10" doc:"legal day (Asia/Almaty), as 2026-11-26"`
	Since        time.Time `query:"since" doc:"at this time or later"`
	Until        time.Time `query:"until" doc:"before this time"`
	Checkpoints  bool      `query:"checkpoints" doc:"also the records that settle those before them, one a minute"`
}

// Query is the filter as a request has it.
func (f EventFilter) Query() url.Values {
	q := url.Values{}
	set := func(name, value string) {
		if value != "" {
			q.Set(name, value)
		}
	}
	set("type", strings.Join(f.Types, ","))
	set("severity", strings.Join(f.Severities, ","))
	set("object", f.Object)
	set("organisation", f.Organisation)
	set("system", f.System)
	set("text", f.Text)
	set("day", f.Day)
	if !f.Since.IsZero() {
		set("since", f.Since.UTC().Format(time.RFC3339Nano))
	}
	if !f.Until.IsZero() {
		set("until", f.Until.UTC().Format(time.RFC3339Nano))
	}
	if f.Checkpoints {
		set("checkpoints", "true")
	}
	return q
}

// JournalHead is what an auditor needs to verify a journal.
type JournalHead struct {
	Key        string `json:"key" doc:"public key of the signatures, as shekara journal verify takes it; empty: nothing is signed"`
	Checkpoint string `json:"checkpoint" doc:"newest signed checkpoint, a note of C2SP's tlog-checkpoint; empty: there is none yet"`
	Last       uint64 `json:"last" doc:"sequence of the newest record"`
}

// RotateKey asks that the journal goes on with a new key.
type RotateKey struct {
	Lost bool `json:"lost,omitempty" doc:"without the key before, which is lost: the chain of signatures is broken, and verification names it"`
}

// JournalKey is the public half of a key.
type JournalKey struct {
	Key string `json:"key" doc:"public key that signs from now on, as shekara journal verify takes it"`
}

// Sinks are to whom the journal of a Site goes.
type Sinks struct {
	Site  string              `json:"site"`
	Sinks []provisioning.Sink `json:"sinks"`
}

// Secrets are names, never values.
type Secrets struct {
	Secrets   []string `json:"secrets"`
	Recipient string   `json:"recipient,omitempty" doc:"to which others seal what is meant for this box"`
}

// SecretName asks for a new secret.
type SecretName struct {
	Name string `json:"name" maxLength:"220" doc:"as presharedKey of a Tunnel names it"`
}

// SecretValue is a secret on its way in: sealed to this box's recipient, or as wg genpsk prints it.
type SecretValue struct {
	Value string `json:"value" maxLength:"65536"`
}

// Recipient is to whom a secret is sealed on its way out.
type Recipient struct {
	Recipient string `json:"recipient" maxLength:"4096" doc:"age1..., as the other box's shekara secret list prints it"`
}

// SealedSecret is a secret that only its recipient can open.
type SealedSecret struct {
	Name   string `json:"name"`
	Sealed string `json:"sealed" doc:"armored age file"`
}

// Health is whether the daemon lives, or is ready.
type Health struct {
	OK     bool   `json:"ok"`
	Reason string `json:"reason,omitempty"`
}

// Update is one line of the stream of changes: exactly one field is set.
type Update struct {
	Status *provisioning.Status       `json:"status,omitempty"`
	Tunnel *provisioning.TunnelStatus `json:"tunnel,omitempty"`
	Gone   string                     `json:"gone,omitempty" doc:"name of a tunnel that is no more"`
}
