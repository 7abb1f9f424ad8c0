package scenario

import (
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v4"
)

const (
	maxBytes = 1 << 20
	maxSteps = 5000 // after forEach
	maxHosts = 64
)

// Problem is one thing wrong with a scenario.
type Problem struct {
	File string
	Line int
	What string
}

func (p Problem) Error() string { return fmt.Sprintf("%s:%d: %s", p.File, p.Line, p.What) }

// Decode reads a scenario and finds all that is wrong with it. read finds the scenario that it extends.
func Decode(file string, data []byte, read func(file string) ([]byte, error)) (*Scenario, error) {
	s, err := parse(file, data)
	if err != nil {
		return nil, err
	}
	if s.Extends != "" {
		base := s.Extends + ".yaml"
		data, err := read(base)
		if err != nil {
			return nil, fmt.Errorf("%s: extends %q: %w", file, s.Extends, err)
		}
		b, err := parse(base, data)
		if err != nil {
			return nil, err
		}
		if b.Extends != "" {
			return nil, Problem{file, 1, fmt.Sprintf("extends %q, which extends another: once is enough", s.Extends)}
		}
		s.Hosts, s.Links, s.Tunnels, s.Setup = append(b.Hosts, s.Hosts...), append(b.Links, s.Links...), append(b.Tunnels, s.Tunnels...), append(b.Setup, s.Setup...)
		if b.Variables == nil {
			b.Variables = map[string]string{}
		}
		maps.Copy(b.Variables, s.Variables)
		s.Variables = b.Variables
		if s.Machines == nil {
			s.Machines = b.Machines
		}
	}
	for i := range s.Hosts {
		s.Hosts[i].Programs = append(s.Hosts[i].Programs, s.Programs[s.Hosts[i].Name]...)
	}
	v := &validator{file: file, scenario: s, hosts: map[string]*Host{}, links: map[string]*Link{}, done: map[string]Step{},
		guards: map[string]Capture{}, silent: map[string]Step{}, loud: map[string]bool{}}
	v.check()
	return s, errors.Join(v.problems...)
}

// parse reads the form alone.
func parse(file string, data []byte) (*Scenario, error) {
	if len(data) > maxBytes {
		return nil, Problem{file, 1, fmt.Sprintf("has %d bytes, at most %d", len(data), maxBytes)}
	}
	var root yaml.Node
	if err := yaml.Unmarshal(data, &root); err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	if err := unroll(&root); err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	var s Scenario
	if err := root.Load(&s, yaml.WithKnownFields()); err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	return &s, nil
}

// unroll replaces each step {forEach: {var, in | range, steps}} by its steps, once for each value, with ${var} filled in.
func unroll(n *yaml.Node) error {
	var grown []*yaml.Node
	for _, child := range n.Content {
		if err := unroll(child); err != nil {
			return err
		}
		if n.Kind != yaml.SequenceNode || child.Kind != yaml.MappingNode || len(child.Content) != 2 || child.Content[0].Value != "forEach" {
			grown = append(grown, child)
			continue
		}
		var loop struct {
			Var   string    `yaml:"var"`
			In    []string  `yaml:"in"`
			Range int       `yaml:"range"` // 1 to this
			Steps yaml.Node `yaml:"steps"`
		}
		if err := child.Content[1].Load(&loop, yaml.WithKnownFields()); err != nil {
			return err
		}
		if loop.Range > maxSteps || loop.Range < 0 {
			return fmt.Errorf("line %d: forEach: range is %d, at most %d", child.Line, loop.Range, maxSteps)
		}
		for i := range loop.Range {
			loop.In = append(loop.In, strconv.Itoa(i+1))
		}
		if loop.Var == "" || len(loop.In) == 0 || loop.Steps.Kind != yaml.SequenceNode {
			return fmt.Errorf("line %d: forEach needs var, steps, and in or range", child.Line)
		}
		for _, value := range loop.In {
			for _, step := range loop.Steps.Content {
				grown = append(grown, fill(step, "${"+loop.Var+"}", value))
			}
			if len(grown) > maxSteps {
				return fmt.Errorf("line %d: forEach makes more than %d steps", child.Line, maxSteps)
			}
		}
	}
	n.Content = grown
	return nil
}

// fill copies a node with a text replaced in all its scalars. One that is nothing else takes the value's type: "${port}" is a number.
func fill(n *yaml.Node, text, value string) *yaml.Node {
	filled := *n
	if n.Kind == yaml.ScalarNode && strings.Contains(n.Value, text) {
		filled.Value = strings.ReplaceAll(n.Value, text, value)
		if n.Value == text {
			filled.Tag, filled.Style = "", 0
		}
	}
	filled.Content = make([]*yaml.Node, len(n.Content))
	for i, child := range n.Content {
		filled.Content[i] = fill(child, text, value)
	}
	return &filled
}

// UnmarshalYAML keeps the line.
func (s *Step) UnmarshalYAML(n *yaml.Node) error {
	type plain Step
	if err := n.Load((*plain)(s), yaml.WithKnownFields()); err != nil {
		return err
	}
	s.Line = n.Line
	return nil
}

// UnmarshalYAML keeps the line.
func (h *Host) UnmarshalYAML(n *yaml.Node) error {
	type plain Host
	if err := n.Load((*plain)(h), yaml.WithKnownFields()); err != nil {
		return err
	}
	h.Line = n.Line
	return nil
}

// UnmarshalYAML keeps the line.
func (l *Link) UnmarshalYAML(n *yaml.Node) error {
	type plain Link
	if err := n.Load((*plain)(l), yaml.WithKnownFields()); err != nil {
		return err
	}
	l.Line = n.Line
	return nil
}

// UnmarshalYAML compiles the expression; ^ and $ match at lines.
func (p *Pattern) UnmarshalYAML(n *yaml.Node) error {
	expression, err := regexp.Compile("(?m)" + n.Value)
	if err != nil {
		return fmt.Errorf("line %d: %w", n.Line, err)
	}
	p.Regexp = expression
	return nil
}

// Prefix is the route's destination; default is all of the gateway's family.
func (r Route) Prefix() (netip.Prefix, error) {
	if r.To == "default" {
		return netip.PrefixFrom(r.Via, 0).Masked(), nil
	}
	return netip.ParsePrefix(r.To)
}

// packageName is as Debian has them (Debian Policy 5.6.1).
var packageName = regexp.MustCompile("^[a-z0-9][a-z0-9+.-]+$")

// validator finds what does not fit together.
type validator struct {
	file     string
	scenario *Scenario
	hosts    map[string]*Host
	links    map[string]*Link
	done     map[string]Step // earlier steps by name, for controlBy
	problems []error
	guards   map[string]Capture // by name
	silent   map[string]Step    // by place: where a guard wants to see nothing
	loud     map[string]bool    // by place: where one wants to see something
}

func (v *validator) problem(line int, format string, values ...any) {
	v.problems = append(v.problems, Problem{v.file, line, fmt.Sprintf(format, values...)})
}

func (v *validator) check() {
	s := v.scenario
	if s.Name == "" || s.Title == "" {
		v.problem(1, "a scenario has a name and a title")
	}
	if len(s.Hosts) > maxHosts {
		v.problem(1, "%d hosts, at most %d", len(s.Hosts), maxHosts)
	}
	for i := range s.Hosts {
		v.host(&s.Hosts[i])
	}
	for program, variables := range s.Without {
		for name := range variables {
			if _, known := s.Variables[name]; !known {
				v.problem(1, "without %s: there is no variable %q to be different", program, name)
			}
		}
	}
	if s.Machines != nil {
		for _, name := range s.Machines.Packages {
			if !packageName.MatchString(name) {
				v.problem(1, "machines: %q is no name of a package", name)
			}
		}
	}
	interfaces := map[string]bool{}
	for i := range s.Links {
		v.link(&s.Links[i], interfaces)
	}
	for _, t := range s.Tunnels {
		for _, name := range t.Between {
			if v.hosts[name] == nil {
				v.problem(1, "tunnel %q: there is no host %q", t.Label, name)
			}
		}
	}
	for name := range s.Programs {
		if v.hosts[name] == nil {
			v.problem(1, "programs: there is no host %q", name)
		}
	}
	v.steps(s.Setup)
	v.steps(s.Steps)
	v.guarded()
}

func (v *validator) host(h *Host) {
	if !isLabel(h.Name) {
		v.problem(h.Line, "host %q: a name is a DNS label", h.Name)
	}
	if v.hosts[h.Name] != nil {
		v.problem(h.Line, "host %q is there twice", h.Name)
	}
	v.hosts[h.Name] = h
	if kinds := []string{"", "host", "server", "edge", "foreign", "router"}; !slices.Contains(kinds, h.Kind) {
		v.problem(h.Line, "host %q: kind %q: host, server, edge, foreign and router are known", h.Name, h.Kind)
	}
	for _, r := range h.Routes {
		if prefix, err := r.Prefix(); err != nil || !r.Via.IsValid() || prefix != prefix.Masked() || prefix.Addr().Is4() != r.Via.Is4() {
			v.problem(h.Line, "host %q: route to %q via %q: a prefix (or default) and a gateway of one family are wanted", h.Name, r.To, r.Via)
		}
	}
	for _, p := range h.Programs {
		if p.Name == "" || len(p.Command) == 0 {
			v.problem(h.Line, "host %q: a program has a name and a command", h.Name)
		}
	}
}

func (v *validator) link(l *Link, interfaces map[string]bool) {
	if l.Name == "" || v.links[l.Name] != nil {
		v.problem(l.Line, "link %q: a link has a name of its own", l.Name)
	}
	v.links[l.Name] = l
	if len(l.Ends) < 2 || l.Impairable && len(l.Ends) != 2 {
		v.problem(l.Line, "link %q has %d ends: two are wanted, or more if it is not impairable", l.Name, len(l.Ends))
	}
	if err := l.Impair.Validate(); err != nil {
		v.problem(l.Line, "link %q: %v", l.Name, err)
	}
	if !l.Impairable && l.Impair.String() != "good" {
		v.problem(l.Line, "link %q is not impairable", l.Name)
	}
	for _, e := range l.Ends {
		if v.hosts[e.Host] == nil {
			v.problem(l.Line, "link %q: there is no host %q", l.Name, e.Host)
		}
		if e.Interface == "" || len(e.Interface) > 15 {
			v.problem(l.Line, "link %q: interface %q: 1 to 15 bytes are wanted", l.Name, e.Interface)
		}
		if key := e.Host + "/" + e.Interface; interfaces[key] {
			v.problem(l.Line, "link %q: %s is there twice", l.Name, key)
		}
		interfaces[e.Host+"/"+e.Interface] = true
	}
}

func isLabel(s string) bool {
	for i, c := range []byte(s) {
		letter := 'a' <= c && c <= 'z' || '0' <= c && c <= '9'
		if !letter && (c != '-' || i == 0 || i == len(s)-1) {
			return false
		}
	}
	return s != "" && len(s) <= 63
}
