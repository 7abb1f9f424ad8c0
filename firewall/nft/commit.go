package nft

import (
	"context"

	"shekara/netctl/nftables"
)

// commit runs a script in one transaction, and says what the kernel's generation was before and after.
func (l *Loader) commit(ctx context.Context, script string) (before, after uint32, err error) {
	return l.commits.Make(1, func() (pid int, err error) {
		command := nft(script)
		command.Started = func(child int) { pid = child }
		_, err = command.Run(ctx)
		return pid, err
	})
}

// Own says whether a transaction that the kernel told of was made by this Loader.
func (l *Loader) Own(tx nftables.Transaction) bool { return l.commits.Own(tx) }
