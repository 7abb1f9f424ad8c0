package provisioning

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"strconv"
	"strings"

	"shekara/journal"
)

const (
	// changesShown is how many changed documents of a revision have a record of their own: what people change by hand. Of thousands at once
	// the digest in apply.start has to do, with the store that it fits.
	changesShown = 200
	// changeBytes is the most of a document's text in a record, before and after: both fit even where each byte is one that JSON escapes.
	changeBytes = 3500
)

// changeEvents say what a revision changes, document by document (JRN-05).
func changeEvents(actor journal.Actor, revision int, changes []Change) (events []journal.Event) {
	for _, c := range changes[:min(len(changes), changesShown)] {
		fields := fieldsOf("revision", strconv.Itoa(revision), "change", c.Verb, "before", cutText(c.Before), "after", cutText(c.After))
		if len(c.Before) > changeBytes {
			fields["beforeDigest"] = digest(c.Before)
		}
		if len(c.After) > changeBytes {
			fields["afterDigest"] = digest(c.After)
		}
		events = append(events, journal.Event{Type: journal.DocumentChange, Severity: journal.Notice, Actor: actor, Object: strings.ToLower(string(c.Kind)) + "/" + c.Name,
			Message: fmt.Sprintf("revision %d: %s %s/%s", revision, c.Verb, c.Kind, c.Name), Fields: fields})
	}
	return events
}

// digestOf is of all changes of a revision: SHA-256 of a line for each, "VERB KIND/NAME SHA-256-BEFORE SHA-256-AFTER", those of the canonical texts; "-": there is none.
func digestOf(changes []Change) string {
	hash := sha256.New()
	for _, c := range changes {
		fmt.Fprintf(hash, "%s %s/%s %s %s\n", c.Verb, c.Kind, c.Name, digest(c.Before), digest(c.After))
	}
	return hex.EncodeToString(hash.Sum(nil))
}

func digest(text string) string {
	if text == "" {
		return "-"
	}
	sum := sha256.Sum256([]byte(text))
	return hex.EncodeToString(sum[:])
}

func cutText(text string) string {
	if len(text) <= changeBytes {
		return text
	}
	return strings.ToValidUTF8(text[:changeBytes], "") + "…"
}
