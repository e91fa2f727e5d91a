// Package upkeep keeps stores of caches small. It takes stock of a store, chooses by rules what goes, and removes that.
//
//	stock, err := upkeep.Take(ctx, cache, now)
//	chosen := rules.Choose(stock, refs, now)
//	removed, err := upkeep.Prune(ctx, cache, chosen, rules)
package upkeep

import (
	"cmp"
	"context"
	"encoding/hex"
	"errors"
	"slices"
	"strings"
	"sync"
	"time"

	digest "github.com/opencontainers/go-digest"
	ocispecs "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sync/errgroup"

	"github.com/warmlayer/warmlayer/backends"
	"github.com/warmlayer/warmlayer/internal/crash"
	"github.com/warmlayer/warmlayer/scope"
)

// Cache is a store with the name by which people know it.
type Cache struct {
	Label string // "s3 my-cache/team"
	Store backends.Listing
}

// Scope is one cache in a store. What is not known has its zero value.
type Scope struct {
	Name        scope.Name `json:"name"`                  // as the store calls it, where another program wrote it
	Of          string     `json:"of"`                    // "branch feature/a", "pull request 7", "cache mounts of b-main", "another program"
	Key         string     `json:"key,omitempty"`         // the image's, as in the input cache-key
	Variants    int        `json:"variants,omitempty"`    // builds with other targets, arguments or platforms
	Own         int64      `json:"own"`                   // bytes of blobs that no other cache here names
	Shared      int64      `json:"shared"`                // bytes of blobs that others name, too
	Layers      int        `json:"layers"`                // blobs beside the cache config
	Created     time.Time  `json:"created,omitzero"`      // when the scope was written first
	Used        time.Time  `json:"used,omitzero"`         // when it was exported last; an unchanged cache in use is exported once a day
	Mode        string     `json:"mode,omitempty"`        // min or max
	Compression string     `json:"compression,omitempty"` // of its layers: "zstd", or several: "gzip,zstd"
	Foreign     bool       `json:"foreign,omitempty"`     // another program wrote it
	Problem     string     `json:"problem,omitempty"`     // why it cannot be read

	entry  backends.Entry
	record backends.Record
	mounts scope.Name // the scope whose cache mounts these are; "": it is no such cache
	blobs  []int32    // indexes in the stock's blobs
}

// Size is that of all blobs.
func (s Scope) Size() int64 { return s.Own + s.Shared }

// Stock is what a store has.
type Stock struct {
	Scopes []Scope // by name
	Bytes  int64   // of all blobs that the caches name, each once

	sizes []int64 // of blobs
	uses  []int32 // how many caches name a blob
}

// readAtOnce bounds the manifests that are read at the same time.
const readAtOnce = 32

// Take lists the caches of a store, and reads the manifest of each.
func Take(ctx context.Context, c Cache) (Stock, error) {
	t := taking{known: map[fingerprint]int32{}}
	eg, egCtx := errgroup.WithContext(ctx)
	eg.SetLimit(readAtOnce)
	err := c.Store.List(ctx, func(e backends.Entry) error {
		eg.Go(func() error {
			defer crash.Catch()
			m, err := c.Store.At(egCtx, e)
			if errors.Is(err, backends.ErrAbsent) {
				return nil // removed meanwhile
			}
			t.add(e, m, err)
			return context.Cause(egCtx)
		})
		return context.Cause(egCtx)
	})
	if waited := eg.Wait(); waited != nil {
		err = waited
	}
	return t.stock(), err
}

// taking collects a stock.
type taking struct {
	mu    sync.Mutex
	found Stock
	known map[fingerprint]int32
}

// fingerprint stands for a digest, in a fifth of the memory: the first 128 bits of a hash.
type fingerprint [16]byte

func fingerprintOf(d digest.Digest) (f fingerprint) {
	_, _ = hex.Decode(f[:], []byte(d.Encoded())[:min(len(d.Encoded()), 2*len(f))]) // valid digests are hexadecimal
	return f
}

func (t *taking) add(e backends.Entry, m backends.Manifest, err error) {
	s := Scope{Name: cmp.Or(e.Name, scope.Name(e.Key)), Used: e.Changed, entry: e, record: m.Record, Foreign: e.Name == ""}
	if err != nil {
		s.Problem = err.Error()
	}
	if !m.Record.Time.IsZero() {
		s.Used = m.Record.Time
	} else if s.Used.IsZero() {
		s.Used = newest(m.Layers)
	}
	s.Key, s.Mode, s.Variants, s.Created = m.Record.Key, m.Record.Mode, m.Record.Variants, m.Record.Created
	s.Layers, s.Compression = len(m.Layers), compressions(m.Layers)
	if c := e.Counted; c != nil {
		s.Own, s.Shared, s.Layers = c.Own, c.Shared, c.Blobs
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.found.Bytes += s.Own
	blobs := append(m.Blobs(), m.Descriptor())
	s.blobs = make([]int32, 0, len(blobs))
	for _, b := range blobs {
		if b.Size <= 0 {
			continue
		}
		f := fingerprintOf(b.Digest)
		i, known := t.known[f]
		if !known {
			i = int32(len(t.found.sizes))
			t.known[f] = i
			t.found.sizes, t.found.uses = append(t.found.sizes, b.Size), append(t.found.uses, 0)
			t.found.Bytes += b.Size
		}
		t.found.uses[i]++
		s.blobs = append(s.blobs, i)
	}
	t.found.Scopes = append(t.found.Scopes, s)
}

// stock completes what needs the other scopes: sizes, and whose the cache mounts are.
func (t *taking) stock() Stock {
	mounts := map[scope.Name]scope.Name{}
	for _, s := range t.found.Scopes {
		if !s.Foreign {
			mounts[s.Name.Mounts()] = s.Name
		}
	}
	for i := range t.found.Scopes {
		s := &t.found.Scopes[i]
		s.mounts = mounts[s.Name]
		s.Foreign = s.Foreign || s.misnamed()
		s.Of = s.of()
		for _, b := range s.blobs {
			if t.found.uses[b] > 1 {
				s.Shared += t.found.sizes[b]
			} else {
				s.Own += t.found.sizes[b]
			}
		}
	}
	slices.SortFunc(t.found.Scopes, func(a, b Scope) int { return cmp.Compare(a.Name, b.Name) })
	return t.found
}

// misnamed reports whether a branch's record belongs to another name, so that the cache is another one's whose name looks like
// one of these: app-b-b-main is b-main of the cache app-b, and not a scope of the cache app.
func (s Scope) misnamed() bool {
	kind, _ := s.Name.Ref()
	ref, _ := s.Name.Cut()
	return kind == "b" && s.record.Branch != "" && scope.BranchName(s.record.Branch, "") != ref
}

// of says for people what the cache belongs to. Names that are not written out in a record are told as they are in the scope's name.
func (s Scope) of() string {
	kind, slug := s.Name.Ref()
	switch {
	case s.Foreign:
		return "another program"
	case s.mounts != "":
		return "cache mounts of " + string(s.mounts)
	case kind == "pr":
		return "pull request " + slug
	case kind == "b":
		return "branch " + cmp.Or(s.record.Branch, slug)
	case kind == "t":
		return "tag " + slug
	case kind == "q":
		return "merge queue of " + slug
	}
	return "outside a checkout"
}

// newest is when the newest of layers was created, as far as BuildKit has noted that.
func newest(layers []ocispecs.Descriptor) (last time.Time) {
	for _, l := range layers {
		if made, err := time.Parse(time.RFC3339, l.Annotations["buildkit/createdat"]); err == nil && made.After(last) {
			last = made
		}
	}
	return last
}

// compressions are those of layers, each once, sorted and joined by commas.
func compressions(layers []ocispecs.Descriptor) string {
	var all []string
	for _, l := range layers {
		kind := "uncompressed"
		for _, known := range []string{"gzip", "zstd"} {
			if strings.HasSuffix(l.MediaType, known) {
				kind = known
			}
		}
		if !slices.Contains(all, kind) {
			all = append(all, kind)
		}
	}
	slices.Sort(all)
	return strings.Join(all, ",")
}
