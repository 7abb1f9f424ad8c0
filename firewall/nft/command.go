package nft

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"

	"shekara/netctl"
	"shekara/netctl/run"
)

// nft is nft(8) with a script: one transaction.
func nft(script string, options ...string) run.Command {
	argv := append(append([]string{"nft"}, options...), "-f", "-")
	return run.Command{Argv: argv, Stdin: []byte(script), Timeout: patience, MaxOutput: maxListing}
}

func query(ctx context.Context, argv ...string) ([]byte, error) {
	return run.Command{Argv: append([]string{"nft"}, argv...), Timeout: patience, MaxOutput: maxListing}.Run(ctx)
}

// listed are the items that nft answers to commands ("list chains; list sets"), without the elements of sets. One process answers all.
func listed[Item any](ctx context.Context, commands string) ([]Item, error) {
	out, err := query(ctx, "-j", "-t", commands)
	if err != nil {
		return nil, err
	}
	return decode[Item](out)
}

// decode reads what nft -j printed: an object for each command, one after another.
func decode[Item any](out []byte) ([]Item, error) {
	var items []Item
	for decoder := json.NewDecoder(bytes.NewReader(out)); ; {
		var answer struct{ NFTables []Item }
		switch err := decoder.Decode(&answer); {
		case errors.Is(err, io.EOF) && len(bytes.TrimSpace(out)) > 0:
			return items, nil
		case err != nil:
			return nil, &netctl.Error{Op: "read answer of", Object: "nft -j", Err: err}
		}
		items = append(items, answer.NFTables...)
	}
}
