package nft

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"shekara/netctl/nftables"
)

// ErrUnsteady says that somebody changed the kernel's rules each time while they were listed.
var ErrUnsteady = errors.New("the rules keep changing while they are listed")

const (
	listings    = 5                      // how often a listing is begun anew because somebody changed something meanwhile
	listingRest = 100 * time.Millisecond // before that
)

// Listing is all that the kernel's nftables held at one generation, the tables of others too, as nft -n -j list ruleset prints it.
type Listing struct {
	JSON       []byte
	Generation uint32
}

// List lists all tables of the calling thread's network namespace as of one generation. The error is ErrUnsteady if they kept changing. A table
// in which a Loader has a ruleset brought into form is there for a moment, and none that packets meet: it is waited for; if it stays it is listed.
func List(ctx context.Context) (Listing, error) {
	_, name, _ := strings.Cut(checkTable, " ")
	forming := fmt.Appendf(nil, `"name": %q`, name)
	for try := range listings {
		if try > 0 {
			select {
			case <-ctx.Done():
			case <-time.After(listingRest):
			}
		}
		before, err := nftables.Generation()
		if err != nil {
			return Listing{}, fmt.Errorf("list the rules: %w", err)
		}
		text, listErr := query(ctx, "-n", "-j", "list", "ruleset")
		after, err := nftables.Generation()
		if err != nil {
			return Listing{}, fmt.Errorf("list the rules: %w", err)
		}
		switch {
		case ctx.Err() != nil:
			return Listing{}, fmt.Errorf("list the rules: %w", ctx.Err())
		case before != after: // and what was printed, or refused, is of no one moment
		case try < listings-1 && bytes.Contains(text, forming):
		case listErr != nil:
			return Listing{}, fmt.Errorf("list the rules: %w", listErr)
		default:
			return Listing{text, after}, nil
		}
	}
	return Listing{}, ErrUnsteady
}
