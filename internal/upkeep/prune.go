package upkeep

import (
	"context"
	"fmt"

	"github.com/warmlayer/warmlayer/backends"
)

// Pruned is what a prune has done to a store, or would do.
type Pruned struct {
	Removed []Chosen       // caches
	Left    []Chosen       // caches that were chosen and are still there, since a build has written them or because of an error
	Swept   backends.Swept // blobs
	Later   string         // what frees the blobs, where the prune does not; "": it does
}

// Prune removes the chosen caches, and then the blobs that no cache names. With an error it says what was done until then; the
// next prune goes on.
func Prune(ctx context.Context, c Cache, chosen []Chosen, rules Rules) (Pruned, error) {
	var done Pruned
	byKey, entries := map[string]Chosen{}, make([]backends.Entry, len(chosen))
	for i, s := range chosen {
		byKey[s.entry.Key], entries[i] = s, s.entry
	}
	var err error
	if rules.Dry {
		done.Removed = chosen
	} else if len(entries) > 0 {
		err = c.Store.Forget(ctx, entries, func(e backends.Entry) {
			done.Removed = append(done.Removed, byKey[e.Key])
			delete(byKey, e.Key)
		})
		for _, s := range chosen {
			if _, left := byKey[s.entry.Key]; left {
				done.Left = append(done.Left, s)
			}
		}
	}
	store, sweeps := c.Store.(backends.Sweeping)
	if !sweeps {
		done.Later = "the registry's own garbage collection frees the layers"
		return done, err
	}
	if err != nil {
		return done, fmt.Errorf("%w (no blob was removed)", err)
	}
	sweep := backends.Sweep{Grace: rules.Grace, Dry: rules.Dry}
	if rules.Dry {
		sweep.Without = func(e backends.Entry) bool { _, goes := byKey[e.Key]; return goes }
	}
	done.Swept, err = store.Sweep(ctx, sweep)
	return done, err
}
