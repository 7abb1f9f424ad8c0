package journal

import (
	"context"
	"errors"
	"time"
)

const (
	// tendEvery is how often the files are looked at, for those that have grown old.
	tendEvery = time.Hour
	// coolRests: compressing and checking take a tenth of one processor at most.
	coolRests = 9
)

// Tending is what Tend asks of who knows more than the journal.
type Tending struct {
	Months   func() int                            // calendar months that records are kept; fewer than KeepMonths count as these
	Anchored func(context.Context) (uint64, error) // the newest record that somebody outside the box has taken; 0: none
	Complain func(error)                           // is told what cannot be done; it is tried again later
}

// Tend makes the indexes of files that are closed, compresses files that have grown old, removes those that have grown too old, and checks one that is closed each time, until the context ends. One Tend a journal.
func (j *Journal) Tend(ctx context.Context, t Tending) {
	ticker := time.NewTicker(tendEvery)
	defer ticker.Stop()
	for {
		j.months.Store(int64(t.Months()))
		err := j.indexAll(ctx, coolRests)
		_, cooled := j.cool(ctx, time.Now(), coolRests)
		if err = errors.Join(err, cooled, j.expireNow(ctx, t), j.checkNext(ctx, coolRests)); err != nil && ctx.Err() == nil {
			t.Complain(err)
		}
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		case <-j.closes:
		}
	}
}

func (j *Journal) expireNow(ctx context.Context, t Tending) error {
	anchored, err := t.Anchored(ctx)
	if err != nil {
		return err
	}
	kept, err := j.clock()()
	if err != nil {
		return err
	}
	months := max(t.Months(), KeepMonths) // as the documents have it now: compressing may have taken hours
	j.months.Store(int64(months))
	return j.expire(ctx, time.Now(), months, outside{kept.Synchronised, anchored})
}
