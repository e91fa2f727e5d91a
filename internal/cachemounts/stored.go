package cachemounts

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	cacheconfig "github.com/moby/buildkit/cache/remotecache/v1/types"
	digest "github.com/opencontainers/go-digest"
	ocispecs "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sync/errgroup"

	"github.com/warmlayer/warmlayer/backends"
	"github.com/warmlayer/warmlayer/internal/crash"
	"github.com/warmlayer/warmlayer/scope"
)

// The mounts of a scope are one cache more in the store, under the name [scope.Name.Mounts]: a cache config without
// records, whose layers are the packs and the indexes of all mounts, and which has one more field. So every store
// keeps them as it keeps layers, with the same checks and the same replacement in one step.
type document struct {
	Layers  []cacheconfig.CacheLayer  `json:"layers"`
	Records []cacheconfig.CacheRecord `json:"records"`
	Mounts  map[string]*entry         `json:"mounts"` // by [llbgraph.CacheMount].Key
}

// entry is one mount.
type entry struct {
	Index blob      `json:"index"`
	Packs []blob    `json:"packs"`
	Time  time.Time `json:"time"` // of the save

	scope scope.Name
	from  backends.Scopes
	cache string
}

type blob struct {
	Digest digest.Digest `json:"digest"`
	Size   int64         `json:"size"`
}

// bytes is what an entry takes in a store.
func (e *entry) bytes() int64 {
	n := e.Index.Size
	for _, p := range e.Packs {
		n += p.Size
	}
	return n
}

func (e *entry) blobs() []blob { return append([]blob{e.Index}, e.Packs...) }

// Media types of the blobs.
const (
	mediaIndex = "application/vnd.warmlayer.mount.index.v1"
	mediaPack  = "application/vnd.warmlayer.mount.pack.v1"
)

func (b blob) descriptor(mediaType string) ocispecs.Descriptor {
	return ocispecs.Descriptor{
		MediaType: mediaType, Digest: b.Digest, Size: b.Size,
		// BuildKit's form of a layer requires the digest of its content; nothing reads it.
		Annotations: map[string]string{"containerd.io/uncompressed": b.Digest.String()},
	}
}

// maxMounts bounds the mounts of a scope, and maxIndex the bytes of a mount's index.
const (
	maxMounts = 1000
	maxIndex  = 64 << 20
)

// parse reads a document. What someone else may have written is bounded by [backends.MaxConfig].
func parse(raw []byte) (*document, error) {
	d := &document{}
	if err := json.Unmarshal(raw, d); err != nil {
		return nil, fmt.Errorf("parse the scope's cache mounts: %w", err)
	}
	if len(d.Mounts) > maxMounts {
		return nil, fmt.Errorf("parse the scope's cache mounts: %d are more than the %d that are read", len(d.Mounts), maxMounts)
	}
	for key, e := range d.Mounts {
		if e == nil {
			return nil, fmt.Errorf("parse the scope's cache mounts: %q has no content", key)
		}
		for _, b := range e.blobs() {
			if err := b.Digest.Validate(); err != nil || b.Size < 0 {
				return nil, fmt.Errorf("parse the scope's cache mounts: %q names no blob: %q", key, b.Digest)
			}
		}
	}
	return d, nil
}

// manifest is a document as a cache of a store, with its config.
func (d *document) manifest(r backends.Record) (m backends.Manifest, config []byte, err error) {
	d.Layers, d.Records = []cacheconfig.CacheLayer{}, []cacheconfig.CacheRecord{}
	var layers []ocispecs.Descriptor
	known := map[digest.Digest]bool{}
	add := func(b blob, mediaType string) {
		if !known[b.Digest] {
			known[b.Digest] = true
			layers = append(layers, b.descriptor(mediaType))
			d.Layers = append(d.Layers, cacheconfig.CacheLayer{
				Blob: b.Digest, ParentIndex: -1,
				Annotations: &cacheconfig.LayerAnnotations{MediaType: mediaType, DiffID: b.Digest, Size: b.Size},
			})
		}
	}
	for _, key := range d.keys() {
		add(d.Mounts[key].Index, mediaIndex)
		for _, p := range d.Mounts[key].Packs {
			add(p, mediaPack)
		}
	}
	if config, err = json.Marshal(d); err != nil {
		return m, nil, fmt.Errorf("write the scope's cache mounts: %w", err)
	}
	m, err = backends.NewManifest(config, layers, r)
	m.Inline = config
	return m, config, err
}

func (d *document) keys() []string {
	keys := make([]string, 0, len(d.Mounts))
	for key := range d.Mounts {
		keys = append(keys, key)
	}
	slices.Sort(keys)
	return keys
}

// read reads the mounts of a scope from a store. A scope without any has an empty document, and the version "".
func read(ctx context.Context, store backends.Scopes, n scope.Name) (*document, string, error) {
	m, err := store.Manifest(ctx, n.Mounts())
	if errors.Is(err, backends.ErrAbsent) {
		return &document{Mounts: map[string]*entry{}}, "", nil
	}
	if err != nil {
		return nil, "", err
	}
	config := m.Inline
	if config == nil {
		if config, err = backends.ReadBlob(ctx, store, m.Config, backends.MaxConfig); err != nil {
			return nil, "", err
		}
	}
	d, err := parse(config)
	if err == nil && d.Mounts == nil {
		d.Mounts = map[string]*entry{}
	}
	return d, m.Version, err
}

// stored is what the scopes of the plan have. They are read once, all at once, when it is first asked for.
type stored struct {
	plan   scope.Plan
	caches []backends.Backend
	mu     sync.Mutex
	done   atomic.Bool
	found  map[string]*entry // of the nearest scope that has it
	err    error             // of a scope that could not be read
}

func newStored(o Options) *stored { return &stored{plan: o.Plan, caches: o.Caches} }

// find is what the nearest scope has for a mount; nil: none has it.
func (s *stored) find(ctx context.Context, key string) (*entry, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.done.Load() {
		s.found, s.err = s.read(ctx)
		s.done.Store(!errors.Is(context.Cause(ctx), context.Canceled)) // another try of the build reads again
	}
	return s.found[key], s.err
}

// asked tells whether it is known what the scopes have.
func (s *stored) asked() bool { return s.done.Load() }

func (s *stored) read(ctx context.Context) (map[string]*entry, error) {
	var places []*document
	var eg errgroup.Group
	for _, source := range s.plan.Read {
		for _, cache := range s.caches {
			if cache.InImage() {
				continue
			}
			at := &document{}
			places = append(places, at)
			eg.Go(func() error {
				defer crash.Catch()
				d, _, err := read(ctx, cache.Scopes(), source.Name)
				if err != nil {
					return fmt.Errorf("read the cache mounts of %s: %w", source.Name, err)
				}
				for _, e := range d.Mounts {
					e.scope, e.from, e.cache = source.Name, cache.Scopes(), cache.String()
				}
				at.Mounts = d.Mounts
				return nil
			})
		}
	}
	err := eg.Wait()
	found := map[string]*entry{}
	for _, at := range places {
		for key, e := range at.Mounts {
			if found[key] == nil {
				found[key] = e
			}
		}
	}
	return found, err
}

// put writes a small blob.
func put(ctx context.Context, store backends.Store, desc ocispecs.Descriptor, content []byte) error {
	return store.Put(ctx, desc, bytes.NewReader(content))
}
