package source

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"time"

	"shekara/netctl/durable"
)

const (
	rememberEvery = 10 * time.Minute
	maxMemory     = 4096 // bytes
)

// memory is what outlives a restart.
type memory struct {
	Good  time.Time `json:"good"`  // a time that is over: the clock was synchronised then
	Drift float64   `json:"drift"` // seconds a second, as found last; 0: never
}

// recall reads the file. One that is not there is an empty memory, one that cannot be read an error beside an empty memory.
func recall(file string) (memory, error) {
	if file == "" {
		return memory{}, nil
	}
	text, err := durable.ReadFile(file, maxMemory)
	if errors.Is(err, fs.ErrNotExist) {
		return memory{}, nil
	}
	if err != nil {
		return memory{}, err
	}
	var m memory
	if err := json.Unmarshal(text, &m); err != nil {
		return memory{}, fmt.Errorf("read %s: %w", file, err)
	}
	if m.Drift < 0 || m.Drift > 1 {
		return memory{}, fmt.Errorf("read %s: drift %g is none", file, m.Drift)
	}
	return m, nil
}

func (m memory) keep(file string) error {
	text, err := json.Marshal(m)
	if err != nil {
		return err
	}
	return durable.WriteFile(file, append(text, '\n'), 0o600)
}
