package iptables

import (
	"context"
	"errors"
	"io/fs"

	"shekara/netctl/run"
)

// SaveAll lists all tables that there are of a family and variant, as iptables-save(8) does. It makes none. Where the host has no program of
// that name it is nil: then nothing of the kind was listed.
func SaveAll(ctx context.Context, variant Variant, v6 bool) ([]byte, error) {
	name := "iptables"
	if v6 {
		name = "ip6tables"
	}
	if variant != Default {
		name += "-" + string(variant)
	}
	if _, err := run.Find(name + "-save"); errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	out, err := run.Command{Argv: []string{name + "-save"}, Timeout: patience, MaxOutput: maxListing}.Run(ctx)
	if err == nil && out == nil {
		out = []byte{}
	}
	return out, err
}
