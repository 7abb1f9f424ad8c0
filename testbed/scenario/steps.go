package scenario

import (
	"maps"
	"slices"
	"strings"
)

// Action is the name of what the step does; "" for none, and "several" for more than one.
func (s Step) Action() string {
	set := map[string]bool{
		"apply": s.Apply != nil, "run": s.Run != nil, "start": s.Start != nil, "kill": s.Kill != nil, "write": s.Write != nil, "wait": s.Wait != nil,
		"send": s.Send != nil, "reach": s.Reach != nil, "matrix": s.Matrix != nil, "impair": s.Impair != nil, "link": s.Link != nil,
		"traffic": s.Traffic != nil, "endTraffic": s.EndTraffic != nil, "capture": s.Capture != nil, "endCapture": s.EndCapture != nil,
		"parallel": s.Parallel != nil, "part": s.Part != nil,
	}
	action := ""
	for name, is := range set {
		if is && action != "" {
			return "several"
		}
		if is {
			action = name
		}
	}
	return action
}

func (v *validator) steps(steps []Step) {
	for _, s := range steps {
		v.step(s)
		if s.Name != "" {
			v.done[s.Name] = s
		}
	}
}

func (v *validator) step(s Step) {
	if s.Name == "" {
		v.problem(s.Line, "a step has a name")
	}
	switch s.Action() {
	case "":
		v.problem(s.Line, "step %q does nothing", s.Name)
	case "several":
		v.problem(s.Line, "step %q does several things: one step, one action", s.Name)
	case "apply":
		v.on(s, s.Apply.On)
		if len(s.Apply.Documents) == 0 && s.Apply.Inline == "" {
			v.problem(s.Line, "step %q: apply needs documents or inline", s.Name)
		}
	case "run":
		v.on(s, s.Run.On)
		if (len(s.Run.Command) == 0) == (s.Run.Shell == "") {
			v.problem(s.Line, "step %q: run needs a command or a shell script", s.Name)
		}
		if s.Run.Store != nil {
			v.on(s, s.Run.Store.On)
		}
	case "start":
		v.program(s, s.Start.On, s.Start.Program)
	case "kill":
		v.program(s, s.Kill.On, s.Kill.Program)
	case "write":
		v.on(s, s.Write.On)
		if s.Write.Text != "" && s.Write.Copy != "" {
			v.problem(s.Line, "step %q: write has text or copies a file, not both", s.Name)
		}
	case "wait":
		v.on(s, s.Wait.On)
		if s.Wait.Match == nil {
			v.problem(s.Line, "step %q: wait needs match", s.Name)
		}
	case "send":
		v.send(s)
	case "reach":
		v.reach(s)
	case "matrix":
		v.on(s, s.Matrix.Hosts...)
		if earlier := s.Matrix.ControlOf; earlier != "" {
			if was, known := v.done[earlier]; !known || was.Matrix == nil || was.Matrix.ControlOf != "" {
				v.problem(s.Line, "step %q: controlOf %q names no earlier matrix", s.Name, earlier)
			}
			if len(s.Matrix.Hosts)+len(s.Matrix.Services)+len(s.Matrix.Documents) > 0 {
				v.problem(s.Line, "step %q: a matrix with controlOf has the hosts, services and documents of the other", s.Name)
			}
		} else if len(s.Matrix.Hosts) < 2 || len(s.Matrix.Services) == 0 || len(s.Matrix.Documents) == 0 {
			v.problem(s.Line, "step %q: matrix needs two hosts, a service and documents", s.Name)
		}
	case "impair":
		v.impair(s)
	case "link":
		v.on(s, s.Link.On)
		if v.links[s.Link.Link] == nil {
			v.problem(s.Line, "step %q: there is no link %q", s.Name, s.Link.Link)
		}
	case "traffic":
		v.on(s, s.Traffic.From, s.Traffic.To)
		if t := s.Traffic; t.Name == "" || t.Rate < 1 || !t.Source.IsValid() || t.Source.Is4() != t.Destination.Is4() {
			v.problem(s.Line, "step %q: traffic needs a name, a rate, a source and a destination of its family", s.Name)
		}
	case "capture":
		v.on(s, s.Capture.On)
		v.guards[s.Capture.Name] = *s.Capture
	case "endCapture":
		v.endCapture(s)
	case "parallel":
		v.steps(s.Parallel)
	}
}

func (v *validator) endCapture(s Step) {
	if len(s.EndCapture.Never) > 0 && len(s.EndCapture.Shows) == 0 {
		v.problem(s.Line, "step %q: never proves nothing without shows: give addresses that the capture does see", s.Name)
	}
	if guard := v.guards[s.EndCapture.Name]; len(guard.Inside) > 0 {
		place := guard.On + "/" + guard.Interface
		if s.EndCapture.Leaks == 0 {
			v.silent[place] = s
		} else {
			v.loud[place] = true
		}
	}
}

// guarded refuses guards that never saw anything: where nothing may leak, something must have leaked once.
func (v *validator) guarded() {
	for _, place := range slices.Sorted(maps.Keys(v.silent)) {
		if s := v.silent[place]; !v.loud[place] {
			v.problem(s.Line, "step %q: that nothing leaks at %s proves nothing without a positive control: another guard there must end with leaks", s.Name, place)
		}
	}
}

func (v *validator) on(s Step, hosts ...string) {
	for _, name := range hosts {
		if v.hosts[name] == nil {
			v.problem(s.Line, "step %q: there is no host %q", s.Name, name)
		}
	}
}

func (v *validator) program(s Step, host, program string) {
	v.on(s, host)
	if h := v.hosts[host]; h != nil && !slices.ContainsFunc(h.Programs, func(p Program) bool { return p.Name == program }) {
		v.problem(s.Line, "step %q: host %q has no program %q", s.Name, host, program)
	}
}

func (v *validator) impair(s Step) {
	l := v.links[s.Impair.Link]
	switch {
	case l == nil:
		v.problem(s.Line, "step %q: there is no link %q", s.Name, s.Impair.Link)
		return
	case !l.Impairable:
		v.problem(s.Line, "step %q: link %q is not impairable", s.Name, l.Name)
	case s.Impair.From != "" && !slices.ContainsFunc(l.Ends, func(e End) bool { return e.Host == s.Impair.From }):
		v.problem(s.Line, "step %q: link %q does not end at %q", s.Name, l.Name, s.Impair.From)
	}
	if err := s.Impair.By.Validate(); err != nil {
		v.problem(s.Line, "step %q: %v", s.Name, err)
	}
}

// send refuses a check that cannot fail: packets that must not arrive need a control that does.
func (v *validator) send(s Step) {
	a := s.Send
	v.on(s, a.From)
	v.on(s, hostsOf(a.Arrives)...)
	v.on(s, hostsOf(a.NotArrives)...)
	if len(a.Arrives)+len(a.NotArrives) == 0 {
		v.problem(s.Line, "step %q: send needs arrives or notArrives", s.Name)
	}
	if len(a.NotArrives) == 0 {
		if a.Control != nil || a.ControlBy != "" {
			v.problem(s.Line, "step %q: a control without notArrives controls nothing", s.Name)
		}
		return
	}
	if (a.Control == nil) == (a.ControlBy == "") {
		v.problem(s.Line, "step %q: notArrives proves nothing without a positive control: give control (a packet that does arrive there) or controlBy (an earlier step)", s.Name)
		return
	}
	var shown []string
	if a.Control != nil {
		if shown = hostsOf(a.Control.Arrives); len(shown) == 0 {
			shown = hostsOf(a.NotArrives)
		}
		v.on(s, shown...)
		if a.Control.From != "" {
			v.on(s, a.Control.From)
		}
	} else {
		earlier, known := v.done[a.ControlBy]
		if !known || earlier.Send == nil {
			v.problem(s.Line, "step %q: controlBy %q names no earlier send", s.Name, a.ControlBy)
			return
		}
		shown = hostsOf(earlier.Send.Arrives)
		if earlier.Send.Control != nil {
			if shown = append(shown, hostsOf(earlier.Send.Control.Arrives)...); len(earlier.Send.Control.Arrives) == 0 {
				shown = append(shown, hostsOf(earlier.Send.NotArrives)...)
			}
		}
	}
	for _, host := range hostsOf(a.NotArrives) {
		if !slices.Contains(shown, host) {
			v.problem(s.Line, "step %q: its control does not arrive at %q, so nothing seen there proves nothing", s.Name, host)
		}
	}
}

func (v *validator) reach(s Step) {
	a := s.Reach
	v.on(s, a.From)
	if !slices.Contains([]string{"tcp", "http", "udp", "icmp"}, a.Protocol) {
		v.problem(s.Line, "step %q: protocol %q: tcp, http, udp and icmp are known", s.Name, a.Protocol)
	}
	if !a.Blocked {
		return
	}
	earlier, known := v.done[a.ControlBy]
	if !known || earlier.Reach == nil || earlier.Reach.Blocked || hostPart(earlier.Reach.To) != hostPart(a.To) {
		v.problem(s.Line, "step %q: blocked proves nothing without a positive control: controlBy must name an earlier reach of the same destination that was not blocked", s.Name)
	}
}

// hostPart is the address of "192.0.2.1:80", "192.0.2.1" or "http://192.0.2.1/".
func hostPart(to string) string {
	to = strings.TrimPrefix(to, "http://")
	to, _, _ = strings.Cut(to, "/")
	if rest, bracketed := strings.CutPrefix(to, "["); bracketed {
		to, _, _ = strings.Cut(rest, "]")
		return to
	}
	if strings.Count(to, ":") == 1 {
		to, _, _ = strings.Cut(to, ":")
	}
	return to
}

// hostsOf leaves the hosts of "host" and "host/interface".
func hostsOf(places []string) []string {
	var hosts []string
	for _, p := range places {
		host, _, _ := strings.Cut(p, "/")
		hosts = append(hosts, host)
	}
	return hosts
}
