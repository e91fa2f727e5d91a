package backends

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"sync"
	"time"

	digest "github.com/opencontainers/go-digest"
	ocispecs "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/warmlayer/warmlayer/internal/crash"
	"github.com/warmlayer/warmlayer/internal/storage"
	"github.com/warmlayer/warmlayer/scope"
)

// Reading is what was found when the scope of one cache was read.
type Reading struct {
	scope.Source
	From     Backend  // the cache
	Manifest Manifest // the zero value when Err is not nil
	Config   []byte   // the cache config as JSON (BuildKit's cache/remotecache/v1/types); nil when Err is not nil
	Err      error    // why there is no manifest and config; an [ErrAbsent] when there is certainly no cache

	Began, Ended time.Time // of the reading, without the check of the blobs

	verified func() error // waits for the check of the blobs; nil when it is known to be good
	doubts   *doubts      // shared by all copies
}

// doubts are blobs of a cache that a build could not use, of whatever size.
type doubts struct {
	mu    sync.Mutex
	blobs []digest.Digest
}

// Doubt remembers blobs that a build could not use. [Mend] compares their content.
func (r Reading) Doubt(blobs []digest.Digest) {
	if r.doubts == nil {
		return
	}
	r.doubts.mu.Lock()
	defer r.doubts.mu.Unlock()
	r.doubts.blobs = append(r.doubts.blobs, blobs...)
}

// Doubted are the blobs of the cache that a build could not use; see [Reading.Doubt].
func (r Reading) Doubted() []digest.Digest {
	if r.doubts == nil {
		return nil
	}
	r.doubts.mu.Lock()
	defer r.doubts.mu.Unlock()
	return slices.Clone(r.doubts.blobs)
}

// Verify waits until it is known whether the store has all blobs of the cache. The error is
// Err where the cache was not read, and an [ErrGone] where blobs are certainly not there.
func (r Reading) Verify() error {
	if r.Err != nil || r.verified == nil {
		return r.Err
	}
	return r.verified()
}

// suspects are the blobs of the cache that are there in another size, also where its config could not
// be read, and those that a build could not use. It waits until they are known.
func (r Reading) suspects() []digest.Digest {
	var all []digest.Digest
	var gone *Gone
	if r.verified != nil && errors.As(r.verified(), &gone) {
		all = append(all, gone.Cut...)
	}
	return append(all, r.Doubted()...)
}

// Read reads every scope of the plan from every cache, in parallel and for at most
// timeout altogether, and returns the readings nearest scope first, caches in their order.
// It returns when the manifests and configs are read. The checks of the blobs go on until
// they are done, ctx ends or the time is over; [Reading.Verify] waits for them.
func Read(ctx context.Context, caches []Backend, plan scope.Plan, timeout time.Duration) []Reading {
	return read(ctx, caches, plan, timeout, false)
}

// ReadTrusting is [Read] without a request for each blob where the store is a [Complete] one. It is for
// builds that find a lost blob when they use it, and begin again without what needs it.
func ReadTrusting(ctx context.Context, caches []Backend, plan scope.Plan, timeout time.Duration) []Reading {
	return read(ctx, caches, plan, timeout, true)
}

func read(ctx context.Context, caches []Backend, plan scope.Plan, timeout time.Duration, trusting bool) []Reading {
	ctx, cancel := context.WithTimeoutCause(ctx, timeout, noAnswer(timeout))
	var readings []Reading
	for _, s := range plan.Read {
		for _, c := range caches {
			readings = append(readings, Reading{Source: s, From: c, doubts: &doubts{}})
		}
	}
	var loading, checking sync.WaitGroup
	configs := make([]configReads, len(caches))
	for i := range readings {
		loading.Go(func() {
			defer crash.Catch()
			readings[i].Began = time.Now()
			readings[i].read(ctx, trusting, &configs[i%len(caches)], &checking)
			readings[i].Ended = time.Now()
		})
	}
	loading.Wait()
	go func() {
		defer crash.Catch()
		checking.Wait()
		cancel()
	}()
	return readings
}

func noAnswer(timeout time.Duration) error {
	return fmt.Errorf("no answer within %s (probe-timeout)", timeout)
}

// read loads the manifest and the config, and begins the check of the blobs meanwhile.
func (r *Reading) read(ctx context.Context, trusting bool, configs *configReads, checking *sync.WaitGroup) {
	timely := func(err error) error {
		if err != nil && ctx.Err() != nil && !errors.Is(err, ErrAbsent) {
			return context.Cause(ctx)
		}
		return err
	}
	store := r.From.Scopes()
	m, err := store.Manifest(ctx, r.Name)
	if err == nil && m.Config.Digest == "" && m.Inline == nil {
		err = errors.New("the manifest is not a cache")
	}
	if r.Err = timely(err); err != nil {
		return
	}
	if _, complete := store.(Complete); !complete || !trusting {
		checked := make(chan error, 1)
		checking.Go(func() {
			defer crash.Catch()
			checked <- timely(checkWhole(ctx, store, m))
		})
		r.verified = sync.OnceValue(func() error { return <-checked })
	}
	config := m.Inline
	if config == nil {
		config, err = configs.read(ctx, store, m.Config)
		r.Err = timely(err)
	}
	if r.Err == nil {
		r.Manifest, r.Config = m, config
	}
}

// configReads are the reads of one cache's configs. Scopes that name the same config, as a copied scope and
// its origin do, share one request.
type configReads struct {
	mu    sync.Mutex
	reads map[configOf]func() ([]byte, error)
}

// configOf is a cache config as a manifest names it: the size may be wrong.
type configOf struct {
	digest digest.Digest
	size   int64
}

func (c *configReads) read(ctx context.Context, store Scopes, desc ocispecs.Descriptor) ([]byte, error) {
	key := configOf{desc.Digest, desc.Size}
	c.mu.Lock()
	if c.reads == nil {
		c.reads = map[configOf]func() ([]byte, error){}
	}
	read, known := c.reads[key]
	if !known {
		read = sync.OnceValues(func() ([]byte, error) { return ReadBlob(ctx, store, desc, MaxConfig) })
		c.reads[key] = read
	}
	c.mu.Unlock()
	return read()
}

// ReadBlob reads a blob of at most limit bytes whole and verifies it. Its errors are never an [ErrAbsent]:
// a scope whose config is absent is there, and broken.
func ReadBlob(ctx context.Context, store Scopes, desc ocispecs.Descriptor, limit int64) ([]byte, error) {
	if desc.Size > limit {
		return nil, fmt.Errorf("%s has %d bytes, and at most %d are imported", desc.Digest, desc.Size, limit)
	}
	blob, err := store.Open(ctx, desc.Digest, 0)
	if err != nil {
		return nil, fmt.Errorf("config %s cannot be read: %v", desc.Digest, err) //nolint:errorlint // it must not be an ErrAbsent
	}
	defer blob.Close()
	content, err := io.ReadAll(storage.Verify(io.LimitReader(blob, desc.Size), desc))
	if errors.Is(err, storage.ErrMismatch) {
		return nil, fmt.Errorf("config %s is damaged", desc.Digest)
	}
	return content, err
}

// MaxConfig is the largest cache config that BuildKit imports (v0.34.2,
// cache/remotecache/import.go, readBlob).
const MaxConfig = 1 << 20

// ErrGone says that a cache is there and names blobs that certainly are not.
var ErrGone = errors.New("blobs are gone")

// Gone says which blobs of a cache are certainly not there, or have another size than they
// should. It is an [ErrGone].
type Gone struct {
	Missing []digest.Digest // at least one
	Cut     []digest.Digest // those of them that are there in another size
	Of      int             // the number of the cache's blobs
}

func (e *Gone) Error() string {
	return fmt.Sprintf("%d of %d %v, the first %s", len(e.Missing), e.Of, ErrGone, e.Missing[0])
}

// Is implements the interface that errors.Is asks for.
func (e *Gone) Is(target error) bool { return target == ErrGone }

// checkWhole refuses a cache that would fail a build later, when its blobs are wanted.
func checkWhole(ctx context.Context, store Scopes, m Manifest) error {
	missing, cut, err := storage.Damaged(ctx, store, m.Blobs())
	if err != nil {
		return err
	}
	if len(missing) > 0 {
		return &Gone{missing, cut, len(m.Blobs())}
	}
	return nil
}
