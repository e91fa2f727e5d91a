package step

import (
	"github.com/containerd/platforms"

	"github.com/warmlayer/warmlayer/backends"
	"github.com/warmlayer/warmlayer/internal/builder"
	"github.com/warmlayer/warmlayer/internal/cachemounts"
	"github.com/warmlayer/warmlayer/internal/mountprogram"
)

// cacheMounts are the cache mounts that a build keeps; nil: none.
func (r Run) cacheMounts(b Build, on *builder.Builder, record backends.Record) *cachemounts.Mounts {
	in := b.Inputs.CacheMounts
	if !in.On() || b.asks() || r.why {
		return nil
	}
	return cachemounts.New(cachemounts.Options{
		Auto: in.Auto, Sizes: in.Sizes, Total: in.Total,
		Plan: b.Plan, Caches: b.Caches, Record: record, Timeout: b.Inputs.CacheTimeout,
		Program: func() ([]byte, error) {
			return mountprogram.For(platforms.Format(on.Platforms[0]), r.host.Program)
		},
		Fresh: on.Managed && on.Address != "container" && !on.Used,
	})
}
