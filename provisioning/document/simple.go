package document

import (
	"strings"

	"go.yaml.in/yaml/v4"
)

// simpleParser reads the YAML that nearly all documents are written in: block and one-line flow collections, words, numbers and quoted
// text without escapes, lines that are comments. It gives the very nodes that the library gives (FuzzSimpleParser compares them), at a
// tenth of its time, and gives up on everything else: then the library reads the document, and finds what is wrong with it if something is.
//
// The nodes are valid until the next call of parse.
type simpleParser struct {
	nodes []*yaml.Node // handed out again from document to document
	used  int
	lines []simpleLine
	at    int // in lines
}

// simpleLine is a line that is neither empty nor a comment, without the white space around it.
type simpleLine struct {
	text   string
	number int // from 1
	indent int
}

// simpleDepth is how deep collections may nest here; deeper ones are the library's, which knows MaxNesting.
const simpleDepth = 8

// parse answers nil for a document that is not simple.
func (p *simpleParser) parse(text string) *yaml.Node {
	p.used, p.at = 0, 0
	if !p.split(text) || len(p.lines) == 0 {
		return nil
	}
	n := p.block(0, p.lines[0].indent)
	if p.at < len(p.lines) {
		return nil
	}
	return n
}

// split cuts the document into lines. It reports false if a byte is neither printable ASCII nor a line feed.
func (p *simpleParser) split(text string) bool {
	p.lines = p.lines[:0]
	for number := 1; len(text) > 0; number++ {
		line, rest, _ := strings.Cut(text, "\n")
		text = rest
		for i := range len(line) {
			if line[i] < ' ' || line[i] > '~' {
				return false
			}
		}
		if number == 1 && line == "---" {
			continue
		}
		content := strings.TrimLeft(line, " ")
		if content == "" || content[0] == '#' {
			continue
		}
		p.lines = append(p.lines, simpleLine{strings.TrimRight(content, " "), number, len(line) - len(content)})
	}
	return true
}

func (p *simpleParser) node(kind yaml.Kind, line, column int) *yaml.Node {
	if p.used == len(p.nodes) {
		block := make([]yaml.Node, 64)
		for i := range block {
			p.nodes = append(p.nodes, &block[i])
		}
	}
	n := p.nodes[p.used]
	p.used++
	*n = yaml.Node{Kind: kind, Line: line, Column: column, Content: n.Content[:0]}
	return n
}

// block reads a mapping or a list whose lines all begin at indent, and stops at the first line that begins before it.
func (p *simpleParser) block(depth, indent int) *yaml.Node {
	if depth == simpleDepth {
		return nil
	}
	first := p.lines[p.at]
	if isItem(first.text) {
		return p.items(depth, indent)
	}
	n := p.node(yaml.MappingNode, first.number, indent+1)
	n.Tag = "!!map"
	for p.at < len(p.lines) && p.lines[p.at].indent >= indent {
		l := p.lines[p.at]
		name, rest, ok := simpleKey(l.text)
		if !ok || l.indent > indent {
			return nil
		}
		value := p.value(depth, l, rest)
		if value == nil {
			return nil
		}
		key := p.node(yaml.ScalarNode, l.number, indent+1)
		key.Tag, key.Value = "!!str", name
		n.Content = append(n.Content, key, value)
	}
	return n
}

// value reads what stands after a key: on its line from rest on, or on the lines below.
func (p *simpleParser) value(depth int, l simpleLine, rest int) *yaml.Node {
	p.at++
	if rest < len(l.text) {
		return p.inline(depth+1, l, rest)
	}
	if p.at == len(p.lines) {
		return nil // no value: the library has a word for it
	}
	next := p.lines[p.at]
	if next.indent > l.indent || next.indent == l.indent && isItem(next.text) {
		return p.block(depth+1, next.indent)
	}
	return nil
}

func isItem(text string) bool { return strings.HasPrefix(text, "- ") }

// items reads the lines of a list. A list may stand as far left as the key that it belongs to, so a line that is no item ends it.
func (p *simpleParser) items(depth, indent int) *yaml.Node {
	n := p.node(yaml.SequenceNode, p.lines[p.at].number, indent+1)
	n.Tag = "!!seq"
	for p.at < len(p.lines) && p.lines[p.at].indent >= indent {
		l := p.lines[p.at]
		if l.indent > indent {
			return nil
		}
		if !isItem(l.text) {
			break
		}
		content := strings.TrimLeft(l.text[1:], " ")
		inner := simpleLine{content, l.number, l.indent + len(l.text) - len(content)}
		var item *yaml.Node
		if _, _, mapping := simpleKey(content); mapping {
			p.lines[p.at] = inner
			item = p.block(depth+1, inner.indent)
		} else {
			p.at++
			item = p.inline(depth+1, inner, 0)
		}
		if item == nil {
			return nil
		}
		n.Content = append(n.Content, item)
	}
	return n
}

// inline reads a value that ends with its line.
func (p *simpleParser) inline(depth int, l simpleLine, from int) *yaml.Node {
	n, end := p.flow(depth, l, from)
	if end != len(l.text) {
		return nil
	}
	return n
}

// flow reads a scalar, [list] or {mapping} that begins at a byte of the line, and says where it ends. A nil node: it is not simple.
func (p *simpleParser) flow(depth int, l simpleLine, at int) (*yaml.Node, int) {
	if at == len(l.text) || depth == simpleDepth {
		return nil, at
	}
	switch l.text[at] {
	case '"', '\'':
		return p.quoted(l, at)
	case '[', '{':
		return p.collection(depth, l, at)
	}
	end := at
	for end < len(l.text) && isSimple(l.text[end]) {
		end++
	}
	n := p.node(yaml.ScalarNode, l.number, l.indent+at+1)
	n.Value = l.text[at:end]
	if n.Tag = simpleTag(n.Value); n.Tag == "" {
		return nil, at
	}
	return n, end
}

func (p *simpleParser) quoted(l simpleLine, at int) (*yaml.Node, int) {
	quote := l.text[at]
	length := strings.IndexByte(l.text[at+1:], quote)
	end := at + 1 + length + 1
	if length < 0 || end < len(l.text) && l.text[end] == '\'' || strings.IndexByte(l.text[at:end], '\\') >= 0 {
		return nil, at // it goes on below, or has an escape
	}
	n := p.node(yaml.ScalarNode, l.number, l.indent+at+1)
	n.Tag, n.Value, n.Style = "!!str", l.text[at+1:end-1], yaml.DoubleQuotedStyle
	if quote == '\'' {
		n.Style = yaml.SingleQuotedStyle
	}
	return n, end
}

func (p *simpleParser) collection(depth int, l simpleLine, at int) (*yaml.Node, int) {
	n := p.node(yaml.SequenceNode, l.number, l.indent+at+1)
	n.Tag, n.Style = "!!seq", yaml.FlowStyle
	closing := byte(']')
	if l.text[at] == '{' {
		n.Kind, n.Tag, closing = yaml.MappingNode, "!!map", '}'
	}
	at = skipSpaces(l.text, at+1)
	for at < len(l.text) && l.text[at] != closing {
		if n.Kind == yaml.MappingNode {
			name, length, ok := simpleKey(l.text[at:])
			if !ok {
				return nil, at
			}
			key := p.node(yaml.ScalarNode, l.number, l.indent+at+1)
			key.Tag, key.Value = "!!str", name
			n.Content = append(n.Content, key)
			at += length
		}
		value, end := p.flow(depth+1, l, at)
		if value == nil {
			return nil, at
		}
		n.Content = append(n.Content, value)
		at = skipSpaces(l.text, end)
		if at < len(l.text) && l.text[at] == ',' {
			if at = skipSpaces(l.text, at+1); at < len(l.text) && l.text[at] == closing {
				return nil, at
			}
		} else if at < len(l.text) && l.text[at] != closing {
			return nil, at
		}
	}
	if at == len(l.text) {
		return nil, at // it goes on below
	}
	return n, at + 1
}

func skipSpaces(text string, at int) int {
	for at < len(text) && text[at] == ' ' {
		at++
	}
	return at
}

// simpleKey reads "name:" and the spaces after it, and says how long they are. No YAML reader takes the name for anything but text.
func simpleKey(text string) (name string, length int, ok bool) {
	end := 0
	for end < len(text) && (isLetter(text[end]) || end > 0 && isDigit(text[end])) {
		end++
	}
	if end > 64 || end == len(text) || text[end] != ':' || simpleTag(text[:end]) != "!!str" {
		return "", 0, false
	}
	if end+1 < len(text) && text[end+1] != ' ' {
		return "", 0, false
	}
	return text[:end], skipSpaces(text, end+1), true
}

func isLetter(c byte) bool { return 'a' <= c|0x20 && c|0x20 <= 'z' }
func isDigit(c byte) bool  { return '0' <= c && c <= '9' }

// isSimple is what words, numbers, addresses and keys are made of. None of it ends a plain scalar, but a colon at its end.
func isSimple(c byte) bool {
	return isLetter(c) || isDigit(c) || strings.IndexByte("._/:+=@-", c) >= 0
}

// simpleTag is what a plain scalar is; "" if it takes the library to say.
func simpleTag(s string) string {
	if s == "" || s[len(s)-1] == ':' {
		return ""
	}
	switch {
	case isLetter(s[0]):
		if s == "true" || s == "false" {
			return "!!bool"
		}
		if len(s) <= len("false") {
			switch strings.ToLower(s) {
			case "y", "n", "yes", "no", "on", "off", "true", "false", "null":
				return ""
			}
		}
		return "!!str"
	case !isDigit(s[0]):
		return ""
	}
	dots, others := 0, 0
	for i := range len(s) {
		switch {
		case s[i] == '.':
			dots++
		case s[i] == '/':
			return "!!str" // a prefix: no number or date has a slash
		case !isDigit(s[i]):
			others++
		}
	}
	switch {
	case others > 0:
		return ""
	case dots == 0 && len(s) <= 9 && (s[0] != '0' || len(s) == 1):
		return "!!int"
	case dots == 3:
		return "!!str" // an IPv4 address
	}
	return ""
}
