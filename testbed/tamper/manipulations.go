package tamper

import (
	"bytes"
	"regexp"
	"slices"
	"strings"
)

// Manipulation is one thing that somebody does to a journal.
type Manipulation struct {
	Name string
	// Says is a pattern of what verification has to say, with the public key and a checkpoint that was kept elsewhere.
	Says string
	do   func(Journal, Signer)
}

// Do gives what becomes of a journal of three files or more, which stays as it is. Only what is done by who has the key uses the key.
func (m Manipulation) Do(j Journal, s Signer) Journal {
	done := Journal{}
	for name, data := range j {
		done[name] = data
	}
	m.do(done, s)
	return done
}

// All are all of them.
func All() []Manipulation {
	return slices.Concat(bytesOfFiles(), members(), records(), files(), checkpoints(), wholes())
}

// edit changes the lines of a file, counted from the end if n is negative.
func edit(n int, change func([]string) []string) func(Journal, Signer) {
	return func(j Journal, _ Signer) { name := j.file(n); j.put(name, change(j.lines(name))) }
}

// line changes the first line of the first file that a pattern fits, but the first three, of which other rules may hold, and but a checkpoint, if that
// is not what the pattern is for.
func line(fits string, change func(string) string) func(Journal, Signer) {
	pattern := regexp.MustCompile(fits)
	return edit(0, func(lines []string) []string {
		for i := 3; i < len(lines); i++ {
			if isCheckpoint(lines[i]) == strings.Contains(fits, "checkpoint") && pattern.MatchString(lines[i]) {
				lines[i] = change(lines[i])
				break
			}
		}
		return lines
	})
}

// member replaces what a pattern fits in the first line that has it, and makes the checksum anew.
func member(pattern, with string) func(Journal, Signer) {
	return line(pattern, func(s string) string {
		p, first := regexp.MustCompile(pattern), true
		return summed(p.ReplaceAllStringFunc(s, func(old string) string {
			if !first {
				return old
			}
			first = false
			return p.ReplaceAllString(old, with)
		}))
	})
}

// raw changes the bytes of a file.
func raw(n int, change func([]byte) []byte) func(Journal, Signer) {
	return func(j Journal, _ Signer) { name := j.file(n); j[name] = change(bytes.Clone(j[name])) }
}

func bytesOfFiles() []Manipulation {
	middle := func(data []byte) int { return bytes.IndexByte(data[len(data)/2:], '\n') + len(data)/2 + 20 } // within a record
	return []Manipulation{
		{"one bit of a record", "record [0-9]+ cannot be read: the checksum does not fit", raw(0, func(b []byte) []byte { b[middle(b)] ^= 1; return b })},
		{"one bit of the last file", "record [0-9]+ cannot be read: the checksum does not fit", raw(-1, func(b []byte) []byte { b[middle(b)] ^= 4; return b })},
		{"one digit of a checksum", "record [0-9]+ cannot be read: the checksum does not fit", line(`.`, func(s string) string {
			digit := byte('0')
			if s[len(s)-3] == digit {
				digit = '1'
			}
			return s[:len(s)-3] + string(digit) + s[len(s)-2:]
		})},
		{"4,096 bytes of zeroes", "cannot be read", raw(1, func(b []byte) []byte { clear(b[middle(b):][:4096]); return b })},
		{"a byte taken out", "cannot be read", raw(0, func(b []byte) []byte { return slices.Delete(b, middle(b), middle(b)+1) })},
		{"a byte put in", "cannot be read", raw(0, func(b []byte) []byte { return slices.Insert(b, middle(b), ' ') })},
		{"an end of line put in", "cannot be read", raw(0, func(b []byte) []byte { return slices.Insert(b, middle(b), '\n') })},
		{"an end of line taken out", "cannot be read", raw(0, func(b []byte) []byte { n := middle(b) - 20; return slices.Delete(b, n, n+1) })},
		{"ends of lines of another system", "bears no checksum", raw(1, func(b []byte) []byte { return bytes.Replace(b, []byte("\n"), []byte("\r\n"), 3) })},
		{"bytes of nothing behind the end", "without an end of line", raw(-1, func(b []byte) []byte { return append(b, 0, 0, 0, 0) })},
		{"half of the last record cut off", "without an end of line", raw(-1, func(b []byte) []byte { return b[:len(b)-30] })},
	}
}

// members are of a record, whose checksum fits again.
func members() []Manipulation {
	changed := "one of [0-9]+ to [0-9]+ was changed"
	return []Manipulation{
		{"what a record says", changed, member(`"message":"[^"]*"`, `"message":"nothing happened"`)},
		{"a record's time, by a second", changed, member(`"time":"(....-..-..T..:..:)..`, `"time":"${1}77`)},
		{"a record's day", changed, member(`"time":"20`, `"time":"19`)},
		{"the error of its clock", changed, line(`.`, func(s string) string {
			with := strings.Replace(s, `"type":`, `"clockErrorMicroseconds":1,"type":`, 1)
			if at := regexp.MustCompile(`"clockErrorMicroseconds":[0-9]+`); at.MatchString(s) {
				with = at.ReplaceAllString(s, `"clockErrorMicroseconds":999999`)
			}
			return summed(with)
		})},
		{"its type", changed, member(`"type":"apply\.[a-z]+"`, `"type":"plan.make"`)},
		{"its severity", changed, member(`"severity":"notice"`, `"severity":"info"`)},
		{"who did it", changed, member(`"actor":{"uid":[0-9]+`, `"actor":{"uid":1000`)},
		{"that anybody did it", changed, member(`"actor":{[^}]*},`, ``)},
		{"by which process", changed, member(`"pid":[0-9]+`, `"pid":1`)},
		{"which revision it is about", changed, member(`"object":"revision/[0-9]+"`, `"object":"revision/999"`)},
		{"which tunnel it is about", "is about", member(`"object":"tunnel/[^"]*"`, `"object":"tunnel/another"`)},
		{"whose it is", "it is linked as one of", member(`"organisation":"[^"]*"`, `"organisation":"another"`)},
		{"the value of a field", changed, member(`("fields":{"[a-zA-Z]+"):"[^"]*"`, `$1:"another"`)},
		{"the name of a field", changed, member(`"fields":{"([a-zA-Z]+)"`, `"fields":{"x$1"`)},
		{"a field put in", changed, member(`"fields":{`, `"fields":{"a":"b",`)},
		{"all fields taken out", changed, member(`,"fields":{[^}]*}`, ``)},
		{"a member that the format does not know", changed, line(`.`, func(s string) string { return summed(strings.Replace(s, `,"crc":"`, `,"note":1,"crc":"`, 1)) })},
		{"a member twice", changed, member(`"severity":"notice"`, `"severity":"notice","severity":"notice"`)},
		{"members in another order", changed, member(`("type":"[^"]*"),("severity":"[^"]*")`, `$2,$1`)},
		{"a space between members", changed, member(`,"type"`, `, "type"`)},
		{"a letter written as an escape", changed, member(`"message":"[a-z]`, `"message":"\u0061`)},
		{"a checksum taken away", "bears no checksum", line(`.`, func(s string) string { return crcAtEnd.ReplaceAllString(s, "}") })},
		{"a record's number", "missing|out of order", line(`.`, func(s string) string { return numbered(s, sequence(s)+1_000_000) })},
		{"its number within its tunnel", "it is number [0-9]+ of tunnel/", member(`("of":"tunnel/[^"]*","number":)`, `${1}7`)},
		{"what it is linked to", "is not the one that it is linked to", member(`("number":[0-9]+,"before":")....`, `${1}AAAA`)},
		{"its links taken out", "it has 0 links", member(`,"links":\[{"of":"[^"]*","number":[2-9][^\]]*\]`, ``)},
		{"a link to another tunnel", "it is linked as one of", member(`"of":"tunnel/[^"]*"`, `"of":"tunnel/another"`)},
	}
}

func records() []Manipulation {
	last := func(l []string) int { return len(l) - 1 }
	return []Manipulation{
		{"the first record taken out", "records 1 to 1 are missing", edit(0, func(l []string) []string { return l[1:] })},
		{"a record taken out", "records ([0-9]+) to [0-9]+ are missing", edit(0, func(l []string) []string { return slices.Delete(l, 9, 10) })},
		{"a hundred records taken out", "records ([0-9]+) to [0-9]+ are missing", edit(1, func(l []string) []string { return slices.Delete(l, 500, 600) })},
		{"the last record of a file taken out", "missing", edit(1, func(l []string) []string { return l[:last(l)] })},
		{"a record taken out, and those behind it up to the next checkpoint numbered anew", "linked|checkpoint of|was changed", edit(0, func(l []string) []string {
			l = slices.Delete(l, 9, 10)
			for i := 9; !isCheckpoint(l[i]); i++ {
				l[i] = numbered(l[i], sequence(l[i])-1)
			}
			return l
		})},
		{"a record twice", "stands where [0-9]+ is due", edit(0, func(l []string) []string { return slices.Insert(l, 9, l[8]) })},
		{"an old record once more at the end", "stands where [0-9]+ is due", func(j Journal, _ Signer) {
			old := j.lines(j.file(0))[8]
			edit(-1, func(l []string) []string { return append(l, old) })(j, Signer{})
		}},
		{"an invented record among the others", "stands where [0-9]+ is due|was changed|cannot be", edit(0, func(l []string) []string {
			return slices.Insert(l, 9, summed(strings.Replace(l[8], `"message":"`, `"message":"never: `, 1)))
		})},
		{"an object of nothing among them", "cannot be read: no record", edit(0, func(l []string) []string { return slices.Insert(l, 9, "{}") })},
		{"an empty line among them", "cannot be read", edit(1, func(l []string) []string { return slices.Insert(l, 9, "") })},
		{"a line of text among them", "cannot be read", edit(1, func(l []string) []string { return slices.Insert(l, 9, "nothing to see here") })},
		{"a line longer than a record may be", "cannot be read", edit(1, func(l []string) []string { return slices.Insert(l, 9, strings.Repeat("x", 1<<20)) })},
		{"two records changed round", "missing|out of order", edit(0, func(l []string) []string { l[9], l[10] = l[10], l[9]; return l })},
		{"two records changed round, with each other's numbers", "was changed|linked", edit(0, func(l []string) []string {
			n := slices.IndexFunc(l[9:], func(s string) bool { return !isCheckpoint(s) }) + 9
			for isCheckpoint(l[n+1]) {
				n += 2
			}
			l[n], l[n+1] = numbered(l[n+1], sequence(l[n])), numbered(l[n], sequence(l[n+1]))
			return l
		})},
		{"all records of a file in reverse", "missing|out of order", edit(1, func(l []string) []string { slices.Reverse(l); return l })},
	}
}

func files() []Manipulation {
	rename := func(j Journal, from, to string) { j[to] = j[from]; delete(j, from) }
	return []Manipulation{
		{"the first file taken away", "records 1 to [0-9]+ are missing", func(j Journal, _ Signer) { delete(j, j.file(0)) }},
		{"a file in the middle taken away", "records [0-9]+ to [0-9]+ are missing", func(j Journal, _ Signer) { delete(j, j.file(1)) }},
		{"the newest file taken away", "the end is missing", func(j Journal, _ Signer) { delete(j, j.file(-1)) }},
		{"all files taken away", "the end is missing", func(j Journal, _ Signer) { clear(j) }},
		{"a file without anything in it", "missing", func(j Journal, _ Signer) { j[j.file(1)] = nil }},
		{"two files under each other's names", "missing|out of order", func(j Journal, _ Signer) {
			a, b := j.file(1), j.file(2)
			j[a], j[b] = j[b], j[a]
		}},
		{"a file under another name", "the file begins with record [0-9]+, and its name says [0-9]+", func(j Journal, _ Signer) { rename(j, j.file(1), fileName(sequence(j.lines(j.file(1))[0])+3)) }},
		{"a file once more under another name", "out of order|twice", func(j Journal, _ Signer) { j[fileName(sequence(j.lines(j.file(1))[0])+3)] = j[j.file(1)] }},
		{"the end of a file in a file of its own", "begins with no checkpoint", func(j Journal, _ Signer) {
			name := j.file(0)
			lines := j.lines(name)
			n := slices.IndexFunc(lines[9:], func(s string) bool { return !isCheckpoint(s) }) + 9
			j.put(name, lines[:n])
			j.put(fileName(sequence(lines[n])), lines[n:])
		}},
		{"the end cut off at a checkpoint", "the end is missing", edit(-1, func(l []string) []string { return l[:1] })},
	}
}

func checkpoints() []Manipulation {
	first := func(change func(string) string) func(Journal, Signer) {
		return line(`"type":"journal.checkpoint"`, change)
	}
	replaced := func(old, with string) func(Journal, Signer) {
		return first(func(s string) string { return summed(strings.Replace(s, old, with, 1)) })
	}
	return []Manipulation{
		{"how many records a checkpoint settles", "checkpoint", replaced(`"size":"`, `"size":"1`)},
		{"a checkpoint's root", "its edge comes to root", replaced(`"root":"`, `"root":"A`)},
		{"a checkpoint's edge", "edge of the tree", replaced(`"edge":"`, `"edge":"A`)},
		{"what is signed of it", "checkpoint: ", replaced(`"note":"journal/`, `"note":"journal/other`)},
		{"its signature", "checkpoint: ", first(func(s string) string {
			return summed(regexp.MustCompile(`(— [^ ]+ ........)....`).ReplaceAllString(s, "${1}AAAA"))
		})},
		{"the signature of another", "checkpoint: |what is signed of this checkpoint", func(j Journal, _ Signer) {
			other := noteOf.FindString(j.lines(j.file(1))[0])
			first(func(s string) string { return summed(noteOf.ReplaceAllLiteralString(s, other)) })(j, Signer{})
		}},
		{"a checkpoint taken out", "records [0-9]+ to [0-9]+ are missing", edit(1, func(l []string) []string { return l[1:] })},
	}
}

// wholes are journals in which all fits, but what somebody else holds or has signed.
func wholes() []Manipulation {
	silent := func(line string) []string {
		if strings.Contains(line, `"type":"apply.finish"`) {
			return []string{summed(regexp.MustCompile(`"message":"[^"]*"`).ReplaceAllString(line, `"message":"nothing happened"`))}
		}
		return []string{line}
	}
	invented := func(line string) []string {
		if sequence(line) == 12 {
			return []string{line, line}
		}
		return []string{line}
	}
	unsigned := func(uint64, []byte) string { return "" }
	held := "a checkpoint that is held"
	return []Manipulation{
		{"all made anew with other words, and not signed", held, func(j Journal, _ Signer) { j.forge(silent, unsigned) }},
		{"all made anew without a record, and not signed", held, func(j Journal, _ Signer) { j.forge(without("apply.finish"), unsigned) }},
		{"all made anew and signed by a stranger", "checkpoint: ", func(j Journal, s Signer) { j.forge(silent, s.stranger().note) }},
		{"with the key: other words", held, func(j Journal, s Signer) { j.forge(silent, s.note) }},
		{"with the key: without a record", held + "|the end is missing", func(j Journal, s Signer) { j.forge(without("apply.finish"), s.note) }},
		{"with the key: with an invented record", held, func(j Journal, s Signer) { j.forge(invented, s.note) }},
	}
}

// without takes out the records of a type.
func without(kind string) func(string) []string {
	return func(line string) []string {
		if strings.Contains(line, `"type":"`+kind+`"`) {
			return nil
		}
		return []string{line}
	}
}

// Without is the journal made anew and signed, as if there never had been records of a type.
func (j Journal) Without(kind string, s Signer) Journal {
	return Manipulation{do: func(j Journal, s Signer) { j.forge(without(kind), s.note) }}.Do(j, s)
}
