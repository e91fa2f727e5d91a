package cacheplan

import (
	"errors"
	"slices"

	"github.com/warmlayer/warmlayer/backends"
	"github.com/warmlayer/warmlayer/internal/cachegraph"
)

// Remembered is a scope of a cache, with what it remembers of its builds.
type Remembered struct {
	Name   string
	Absent bool
	Err    error    // why it could not be read; nil: it could, or is absent
	Lost   bool     // layers of it are lost
	Builds [][]byte // the memories of its builds, the newest build's first; see package cachemiss
}

// Remembered are the scopes that were read, in their order. It waits for the readings.
func (r *Reads) Remembered() []Remembered {
	r.settle()
	var all []Remembered
	for _, s := range slices.Concat(r.sources, r.leftOut) {
		if s.own {
			continue
		}
		one := Remembered{Name: string(s.reading.Name), Absent: s.state == Absent, Lost: len(s.lost) > 0 || errors.Is(s.err, backends.ErrGone)}
		if s.state == Failed {
			one.Err = s.err
		}
		builds := cachegraph.Builds(s.reading.Config)
		slices.SortStableFunc(builds, func(a, b cachegraph.Build) int { return b.Time.Compare(a.Time) })
		for _, b := range builds {
			if len(b.Memory) > 0 {
				one.Builds = append(one.Builds, b.Memory)
			}
		}
		all = append(all, one)
	}
	return all
}
