package tamper

import (
	"regexp"
	"slices"
	"strings"
)

var (
	oldKeyOf = regexp.MustCompile(`"old":"([^"]*)"`)
	newKeyOf = regexp.MustCompile(`"new":"[^"]*"`)
)

// Handovers are what is done to a journal that another key signs from a record on, by who has the new key at most: who verifies has the old one.
func Handovers() []Manipulation {
	changed := func(change func(string) string) func(Journal, Signer) {
		return func(j Journal, _ Signer) {
			j.handover(func(line string) []string { return []string{summed(change(line))} })
		}
	}
	broken := "handover of the key: "
	return []Manipulation{
		{"the handover taken out", "records [0-9]+ to [0-9]+ are missing", func(j Journal, _ Signer) { j.handover(func(string) []string { return nil }) }},
		{"the handover taken out, and all behind it made anew", "checkpoint: ", func(j Journal, s Signer) { j.forge(without("key.rotate"), s.note) }},
		{"a stranger in the new key's place", broken + "the note names other keys", changed(func(s string) string {
			return newKeyOf.ReplaceAllLiteralString(s, `"new":"journal/owner+00000000+AQ=="`)
		})},
		{"the old key's signature taken out", broken + "the old key has not signed it", changed(func(s string) string {
			return regexp.MustCompile(`\\n\\n— [^\\]*\\n`).ReplaceAllLiteralString(s, `\n\n`)
		})},
		{"the new key's signature taken out", broken + "the new key has not signed it", changed(func(s string) string {
			return regexp.MustCompile(`(\\n\\n— [^\\]*\\n)— [^\\]*\\n`).ReplaceAllString(s, `$1`)
		})},
		{"as if the old key had been lost", broken + "the note names other keys", changed(func(s string) string {
			return strings.Replace(oldKeyOf.ReplaceAllLiteralString(s, `"was":""`), "key.rotate", "key.lose", 1)
		})},
		{"once more, later", "handover of the key: it is one after|stands where [0-9]+ is due", func(j Journal, _ Signer) {
			j.handover(func(line string) []string { return []string{line, numbered(line, sequence(line)+1)} })
		}},
		{"to a stranger, after another record, and all behind it made anew and signed by him", broken + "the old key has not signed it", func(j Journal, s Signer) { s.stranger().takes(j) }},
		{"by the new key alone, after another record, and all behind it made anew", broken + "the old key has not signed it", func(j Journal, s Signer) { s.takes(j) }},
	}
}

// handover changes the first line by which another key signs from there on.
func (j Journal) handover(change func(string) []string) {
	for _, name := range j.names() {
		lines := j.lines(name)
		if at := slices.IndexFunc(lines, isHandover); at >= 0 {
			j.put(name, slices.Replace(lines, at, at+1, change(lines[at])...))
			return
		}
	}
}

// takes makes a journal anew from a record before its handover on, which is then one to this key that the old one has not signed.
func (s Signer) takes(j Journal) {
	old := ""
	for _, name := range j.names() {
		for _, line := range j.lines(name) {
			if is := oldKeyOf.FindStringSubmatch(line); is != nil && isHandover(line) {
				old = is[1]
			}
		}
	}
	j.forgeAll(func(line string) []string {
		switch {
		case isHandover(line):
			line = newKeyOf.ReplaceAllLiteralString(line, `"new":"`+s.public()+`"`)
		case strings.Contains(line, `"type":"apply.finish"`):
			line = summed(regexp.MustCompile(`"message":"[^"]*"`).ReplaceAllString(line, `"message":"nothing happened"`))
		}
		return []string{line}
	}, s.note, s.handover(old))
}
