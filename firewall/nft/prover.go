package nft

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"shekara/firewall"
	"shekara/firewall/proof"
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

// Prover reads and proves what the network namespace of the calling thread has loaded. It writes nothing, and a Loader does not wait for it.
// The zero value is ready. Proofs follow one another: the next is quicker for what the last one built.
type Prover struct{ proofs proof.Prover }

// Generation counts the changes of the kernel's nftables, whoever made them.
func (*Prover) Generation() (uint32, error) { return nftables.Generation() }

// Read lists all tables as of one generation. The error is ErrUnsteady if they kept changing. A table in which a Loader has a ruleset brought
// into form is there for a moment, and none that packets meet: it is waited for; if it stays it is listed.
func (*Prover) Read(ctx context.Context) (Listing, error) {
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

// Prove decides for all packets whether what was listed lets pass what the policy allows.
func (p *Prover) Prove(ctx context.Context, l Listing, policy firewall.Policy) (proof.Result, error) {
	loaded, err := proof.Decode(l.JSON)
	if err != nil {
		return proof.Result{}, err
	}
	defer func() {
		if r := recover(); r != nil { // whatever is half built must not be built upon
			p.proofs = proof.Prover{}
			panic(r)
		}
	}()
	return p.proofs.Prove(ctx, loaded, policy)
}
