package backends

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/moby/buildkit/client"
	digest "github.com/opencontainers/go-digest"
	ocispecs "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/warmlayer/warmlayer/scope"
)

// State is what became of a source.
type State string

// A source is loaded when its cache was there and, once it is settled, whole; absent when
// there was certainly none; and failed in every other case.
const (
	Loaded State = "loaded"
	Absent State = "absent"
	Failed State = "failed"
)

// Source is one scope of one cache that a build reads, and what came of it.
type Source struct {
	scope.Source
	From     Keeper // the cache; nil for an entry of the user's own (cache-from)
	State    State
	Err      error    // why it failed or is absent; nil when loaded
	Manifest Manifest // the zero value unless loaded
	Config   []byte   // the cache config as JSON (BuildKit's cache/remotecache/v1/types); nil unless loaded

	// Entry is the import as the user wrote it, when From is nil.
	Entry client.CacheOptionsEntry

	whole func() error // waits for the answer whether all blobs are there; nil when nobody has asked
}

// String names the source's cache for people.
func (s Source) String() string {
	if s.From == nil {
		return Label(s.Entry)
	}
	return s.From.String()
}

// Exported is what a build made, as far as it is known when its cache is exported.
type Exported struct {
	Content  string        // what stands for the result's content; see [ResultKey]
	Image    digest.Digest // the image or index; "" when none was made
	Manifest digest.Digest // the cache manifest that BuildKit sent; "" before and for an inline cache
}

// Destination is one place that a build's cache is exported to. BuildKit sends
// the cache once for each, and a Destination may pass it on to several caches.
type Destination struct {
	Name scope.Name
	// Caches names the caches behind this place, in the order of Commit's results.
	Caches []string
	// Entry is BuildKit's export entry; its Type is "" when there is nothing to
	// send, because the cache travels in the image.
	Entry client.CacheOptionsEntry
	// Silent: BuildKit does not say which manifest it sent.
	Silent bool
	// Unchanged reports whether every cache behind this place holds this already.
	// A nil Unchanged means no.
	Unchanged func(Exported) bool
	// Commit makes what was sent the scope's cache, with a record, and returns one
	// error (or nil) for each of Caches. It is called only after a successful
	// export. A nil Commit means that the export itself was all.
	Commit func(context.Context, Exported) []error
	// Strict reports, for each of Caches, whether a failure fails the step.
	Strict []bool
	// Refused says why nothing is sent; nil when it is.
	Refused error
}

// Read looks up every scope of the plan in every cache that can be read, in
// parallel and for at most timeout altogether, and returns them nearest scope
// first, caches in their order. A source that could not be read within the time
// has failed. Whether the blobs of those that are loaded are there is still being asked
// then, until ctx or the time ends: [Source.Settle].
func Read(ctx context.Context, caches []Keeper, plan scope.Plan, timeout time.Duration) []Source {
	ctx, cancel := context.WithTimeoutCause(ctx, timeout, fmt.Errorf("no answer within %s (probe-timeout)", timeout))
	var sources []Source
	for _, s := range plan.Read {
		for _, c := range caches {
			sources = append(sources, Source{Source: s, From: c})
		}
	}
	var loading, checking sync.WaitGroup
	for i := range sources {
		loading.Go(func() { sources[i].read(ctx, &checking) })
	}
	loading.Wait()
	go func() {
		checking.Wait()
		cancel()
	}()
	return sources
}

// Settle waits until it is known whether a loaded cache is whole. Where it is not, the
// source is no longer loaded.
func (s *Source) Settle() {
	if s.State == Loaded && s.whole != nil {
		s.fail(s.whole())
	}
}

// fail marks a source, unless there is no error.
func (s *Source) fail(err error) {
	if err == nil {
		return
	}
	s.State, s.Err = Failed, err
	if errors.Is(err, ErrAbsent) {
		s.State = Absent
	}
	s.Manifest, s.Config = Manifest{}, nil
}

// read loads the cache, and has it checked meanwhile.
func (s *Source) read(ctx context.Context, checking *sync.WaitGroup) {
	timely := func(err error) error {
		if err != nil && ctx.Err() != nil && !errors.Is(err, ErrAbsent) {
			return context.Cause(ctx)
		}
		return err
	}
	s.State = Loaded
	store := s.From.Scopes()
	m, err := store.Manifest(ctx, s.Name)
	if err == nil && m.Config.Digest == "" && m.Inline == nil {
		err = errors.New("what is there is no cache")
	}
	if err != nil {
		s.fail(timely(err))
		return
	}
	checked := make(chan error, 1)
	checking.Go(func() { checked <- timely(checkWhole(ctx, store, m)) })
	s.Manifest, s.whole = m, sync.OnceValue(func() error { return <-checked })
	if s.Config = m.Inline; s.Config == nil {
		s.Config, err = readBlob(ctx, store, m.Config)
		s.fail(timely(err))
	}
}

// readBlob reads a small blob whole, and believes it only if it is what it should be.
// That it is absent says nothing of the scope, which is there, and broken.
func readBlob(ctx context.Context, store Scopes, desc ocispecs.Descriptor) ([]byte, error) {
	if desc.Size > MaxConfig {
		return nil, fmt.Errorf("%s of %d bytes is larger than the %d that BuildKit imports", desc.Digest, desc.Size, MaxConfig)
	}
	blob, err := store.Open(ctx, desc.Digest, 0)
	if err != nil {
		return nil, fmt.Errorf("config %s cannot be read: %v", desc.Digest, err) //nolint:errorlint // it is not ErrAbsent any more
	}
	defer blob.Close()
	content, err := io.ReadAll(io.LimitReader(blob, desc.Size))
	if err != nil {
		return nil, err
	}
	if digest.FromBytes(content) != desc.Digest {
		return nil, fmt.Errorf("config %s is damaged", desc.Digest)
	}
	return content, nil
}

// MaxConfig is the largest cache config that BuildKit imports (v0.33.1,
// cache/remotecache/import.go, readBlob).
const MaxConfig = 1 << 20

// ErrGone says that a cache is there and names blobs that certainly are not.
var ErrGone = errors.New("blobs are gone")

// checkWhole refuses a cache that would fail a build later, when its blobs are wanted.
func checkWhole(ctx context.Context, store Scopes, m Manifest) error {
	missing, err := Missing(ctx, store, m.Blobs())
	if err != nil {
		return err
	}
	if len(missing) > 0 {
		return fmt.Errorf("%d of %d %w, the first %s", len(missing), len(m.Blobs()), ErrGone, missing[0])
	}
	return nil
}

// Missing are those of the blobs that the store lacks, or has in another size than it should.
func Missing(ctx context.Context, store Scopes, descs []ocispecs.Descriptor) ([]digest.Digest, error) {
	if len(descs) == 0 {
		return nil, nil
	}
	digests := make([]digest.Digest, len(descs))
	for i, d := range descs {
		digests[i] = d.Digest
	}
	sizes, err := store.Stat(ctx, digests)
	if err != nil {
		return nil, err
	}
	var missing []digest.Digest
	for _, d := range descs {
		if size, ok := sizes[d.Digest]; !ok || size != d.Size && size != UnknownSize {
			missing = append(missing, d.Digest)
		}
	}
	return missing, nil
}
