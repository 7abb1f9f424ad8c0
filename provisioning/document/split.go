package document

import "bytes"

// chunk is the text of one YAML document, its "---" line included, and the line that it begins at.
type chunk struct {
	text      []byte
	firstLine int
}

// split cuts a file at its document markers. YAML 1.2, 9.1.2 (c-forbidden): "---" or "..." at the start of a line, followed by white
// space, is a marker wherever it stands, in a block or quoted scalar too; so the cut is exact, and one document with a
// syntax error does not hide the problems of the next.
func split(data []byte) []chunk {
	var chunks []chunk
	start, startLine, line := 0, 1, 1
	cut := func(end int) {
		if hasContent(data[start:end]) {
			chunks = append(chunks, chunk{data[start:end], startLine})
		}
	}
	for at := 0; at < len(data); line++ {
		next := len(data)
		if i := bytes.IndexByte(data[at:], '\n'); i >= 0 {
			next = at + i + 1
		}
		switch {
		case marker(data[at:next], "---"):
			cut(at)
			start, startLine = at, line
		case marker(data[at:next], "..."):
			cut(at)
			start, startLine = at+len("..."), line
		}
		at = next
	}
	cut(len(data))
	return chunks
}

func marker(line []byte, mark string) bool {
	rest, ok := bytes.CutPrefix(line, []byte(mark))
	return ok && (len(rest) == 0 || bytes.IndexByte([]byte(" \t\r\n"), rest[0]) >= 0)
}

// hasContent reports whether there is more than white space, comments and a marker.
func hasContent(text []byte) bool {
	text = bytes.TrimPrefix(text, []byte("\ufeff"))
	if marker(text, "---") {
		text = text[len("---"):]
	}
	for len(text) > 0 {
		line, rest, _ := bytes.Cut(text, []byte("\n"))
		text = rest
		if line = bytes.TrimSpace(line); len(line) > 0 && line[0] != '#' {
			return true
		}
	}
	return false
}
