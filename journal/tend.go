package journal

import (
	"context"
	"time"
)

const (
	// tendEvery is how often the files are looked at, for those that have grown old.
	tendEvery = time.Hour
	// coolRests: compressing takes a tenth of one processor at most.
	coolRests = 9
)

// Tend compresses files that have grown old, until the context ends. What it cannot do it tells, and tries again later. One Tend a journal.
func (j *Journal) Tend(ctx context.Context, complain func(error)) {
	ticker := time.NewTicker(tendEvery)
	defer ticker.Stop()
	for {
		if _, err := j.cool(ctx, time.Now(), coolRests); err != nil {
			complain(err)
		}
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
	}
}
