package cacheplan

import (
	"errors"
	"maps"
	"slices"
	"strings"

	"github.com/warmlayer/warmlayer/backends"
	"github.com/warmlayer/warmlayer/internal/cachegraph"
	"github.com/warmlayer/warmlayer/internal/cachespec"
	"github.com/warmlayer/warmlayer/scope"
)

// mounts reports whether the layers of a cache in a registry could mount in a repository that the image
// is pushed to: another one of the same registry. In the same repository they are there already. BuildKit
// mounts the layers of caches that it has imported from that registry.
func (r *Reads) mounts(cache backends.Backend) bool {
	pushed, ok := cache.(cachespec.Pushed)
	if !ok {
		return false
	}
	from, _ := pushed.PushedTo()
	host, _, _ := strings.Cut(from, "/")
	return slices.ContainsFunc(r.pushed, func(to string) bool {
		other, _, _ := strings.Cut(to, "/")
		return host == other && from != to
	})
}

// nativeImport is the import of a source by its cache's own entry.
func nativeImport(s *source) imports {
	one := scope.Plan{Read: []scope.Source{s.reading.Source}}
	entry := s.reading.From.Imports(one)[0]
	if s.inProcess() && s.state == Loaded {
		// Otherwise BuildKit's client asks the index, and leaves the cache out without a word while
		// another build holds the index's lock (v0.34.2, client/solve.go, parseCacheOptions).
		entry.Attrs["digest"] = s.reading.Manifest.Descriptor().Digest.String()
	}
	return imports{entry: entry, sources: []*source{s}, allOrNothing: true}
}

// nativeImports are the imports of sources that BuildKit reads itself. One entry may stand for
// several scopes of a cache. BuildKit then reads all of them or none, so an entry with a scope
// that is incomplete, or too large, is left out.
func nativeImports(sources []*source) []imports {
	var all, incomplete []imports
	for _, s := range sources {
		if s.own {
			continue
		}
		if s.verify(); s.state == Absent || s.state == Failed && s.inProcess() {
			continue
		}
		one := nativeImport(s)
		if errors.Is(s.err, backends.ErrGone) || cachegraph.Harmful(s.err) {
			incomplete = append(incomplete, one)
		} else if n := slices.IndexFunc(all, one.sameEntry); n >= 0 {
			all[n].sources = append(all[n].sources, s)
		} else {
			all = append(all, one)
		}
	}
	return slices.DeleteFunc(all, func(i imports) bool { return slices.ContainsFunc(incomplete, i.sameEntry) })
}

// inProcess tells whether BuildKit's client reads the cache in this process, so that it would fail,
// or block, as the reading did.
func (s *source) inProcess() bool { return len(s.reading.From.Dirs()) > 0 }

func (i imports) sameEntry(other imports) bool {
	return i.entry.Type == other.entry.Type && maps.Equal(i.entry.Attrs, other.entry.Attrs)
}
