package incidents

import (
	_ "embed"
	"fmt"
	"sync"

	"shekara/journal/incident"
	"shekara/provisioning/document"
)

//go:embed starter.yaml
var starterYAML string

// Starter are the rules that are built in, as documents.
func Starter() ([]*document.Document, error) {
	docs, problems := document.Decode([]document.File{{Name: "starter.yaml", Data: []byte(starterYAML)}})
	if len(problems) > 0 {
		return nil, fmt.Errorf("read the built-in rules: %v", problems[0])
	}
	return docs, nil
}

// IsBuiltIn says whether a built-in rule has the name.
func IsBuiltIn(name string) bool {
	docs, err := Starter()
	if err != nil {
		return false
	}
	for _, d := range docs {
		if d.Name == name {
			return true
		}
	}
	return false
}

// starter makes them once: their cases are held against them each time, too.
var starter = sync.OnceValues(func() (rules []incident.Rule, err error) {
	docs, err := Starter()
	if err != nil {
		return nil, err
	}
	for _, d := range docs {
		spec, is := d.Spec.(*document.IncidentRule)
		if !is {
			return nil, fmt.Errorf("built-in %s is no rule", d.Ref())
		}
		r, problems := Rule(d.Name, spec)
		if len(problems) > 0 {
			p := problems[0]
			return nil, fmt.Errorf("built-in rule %s: %s: %s %q: %s", d.Name, p.Path, p.What, p.Value, p.Hint)
		}
		rules = append(rules, r)
	}
	return rules, nil
})
