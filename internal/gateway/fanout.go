package gateway

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"sync"

	digest "github.com/opencontainers/go-digest"
	ocispecs "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sync/errgroup"

	"github.com/warmlayer/warmlayer/backends"
	"github.com/warmlayer/warmlayer/scope"
)

// smallBlob is the largest size, in bytes, of a blob that is held in memory and sent to the stores
// in the background. BuildKit sends four blobs at once (v0.33.1, util/resolver/limited), and would
// wait a round trip for each.
const smallBlob = 1 << 20

// smallAtOnce bounds the small blobs that are in transfer at the same time.
const smallAtOnce = 16

// Fanout is a repository of the gateway that receives one export for several stores. A store that
// fails gets no more data, and the others continue.
type Fanout struct {
	repo     string // BuildKit's name for it: "127.0.0.1:41235/d0"
	stores   []backends.Store
	lost     func(digest.Digest) bool  // whether a store's copy of a blob is known to be unusable
	expected []ocispecs.Descriptor     // the blobs of the caches that were read: most of an export
	first    sync.Once                 // asks every store for all expected blobs, once
	known    []map[digest.Digest]int64 // the result: for each store the sizes, in bytes, of the expected blobs that it has
	small    errgroup.Group            // small blobs in transfer
	ctx      context.Context           // of the gateway, for transfers that continue after a request

	mu       sync.Mutex
	failed   []error                 // for each store, why it gets no more data
	sizes    map[digest.Digest]int64 // in bytes, of the blobs that are expected or were received
	asked    map[digest.Digest]answer
	manifest *backends.Manifest // sent by BuildKit, and not yet in a store
}

func newFanout(ctx context.Context, repo string, stores []backends.Store, expected []ocispecs.Descriptor, lost func(digest.Digest) bool) *Fanout {
	f := &Fanout{
		ctx: ctx, repo: repo, stores: stores, expected: expected, lost: lost,
		failed: make([]error, len(stores)), known: make([]map[digest.Digest]int64, len(stores)),
		sizes: map[digest.Digest]int64{},
	}
	for _, desc := range expected {
		f.sizes[desc.Digest] = desc.Size
	}
	f.small.SetLimit(smallAtOnce)
	return f
}

// Ref is the reference under which BuildKit exports the cache of a scope.
func (f *Fanout) Ref(n scope.Name) string { return f.repo + ":" + string(n) }

// answer is the size of a blob in each store, in bytes, where the store has a usable copy: a
// size, or [backends.UnknownSize]; else noBlob.
type answer []int64

const noBlob int64 = -2

// lacking are the indexes of the stores that need a blob. A copy of another size counts as absent,
// since it was truncated. Stores that have failed are left out.
func (f *Fanout) lacking(a answer, desc ocispecs.Descriptor) []int {
	var lacking []int
	for i, size := range a {
		if size != desc.Size && size != backends.UnknownSize && f.failure(i) == nil {
			lacking = append(lacking, i)
		}
	}
	return lacking
}

// complete reports whether every store that has not failed has the blob, and at least one store has
// it, and returns its size. A blob of unknown correct size is complete only when the stores report
// no size: BuildKit sends the size with the blob, and put leaves out the stores whose copy has it.
func (f *Fanout) complete(a answer, blob digest.Digest) (size int64, ok bool) {
	f.mu.Lock()
	size, known := f.sizes[blob]
	f.mu.Unlock()
	if !known {
		size = backends.UnknownSize
	}
	there := false
	for i, has := range a {
		there = there || has != noBlob && f.failure(i) == nil
	}
	return size, there && len(f.lacking(a, ocispecs.Descriptor{Digest: blob, Size: size})) == 0
}

// ask asks all stores at once. Stores that fail get no more data. BuildKit asks before each upload,
// so the answer is used for both.
func (f *Fanout) ask(ctx context.Context, blob digest.Digest) answer {
	f.first.Do(func() { f.stat(ctx, digestsOf(f.expected), f.known) })
	sizes := f.known
	if !slices.ContainsFunc(f.expected, func(d ocispecs.Descriptor) bool { return d.Digest == blob }) {
		sizes = make([]map[digest.Digest]int64, len(f.stores))
		f.stat(ctx, []digest.Digest{blob}, sizes)
	}
	a := make(answer, len(f.stores))
	for i := range f.stores {
		size, ok := sizes[i][blob]
		if a[i] = size; !ok || f.lost(blob) {
			a[i] = noBlob
		}
	}
	return a
}

func digestsOf(descs []ocispecs.Descriptor) []digest.Digest {
	var all []digest.Digest
	for _, d := range descs {
		all = append(all, d.Digest)
	}
	return all
}

// stat asks each store for blobs, and records their sizes at the index of the store.
func (f *Fanout) stat(ctx context.Context, blobs []digest.Digest, sizes []map[digest.Digest]int64) {
	var wg sync.WaitGroup
	for i, store := range f.stores {
		if len(blobs) == 0 || f.failure(i) != nil {
			continue
		}
		wg.Go(func() {
			var err error
			if sizes[i], err = store.Stat(ctx, blobs); err != nil {
				f.fail(i, err)
			}
		})
	}
	wg.Wait()
}

func (f *Fanout) remember(blob digest.Digest, a answer) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.asked == nil {
		f.asked = map[digest.Digest]answer{}
	}
	f.asked[blob] = a
}

// remembered is a new answer, or the remembered one, which it removes.
func (f *Fanout) remembered(ctx context.Context, blob digest.Digest) answer {
	f.mu.Lock()
	a, ok := f.asked[blob]
	delete(f.asked, blob)
	f.mu.Unlock()
	if !ok {
		a = f.ask(ctx, blob)
	}
	return a
}

func (f *Fanout) failure(i int) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.failed[i]
}

func (f *Fanout) fail(i int, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.failed[i] = err
}

// put sends one body to the stores that lack it; a small one is sent after put returns. The error
// says that the body does not match the descriptor, or that every store has failed.
func (f *Fanout) put(ctx context.Context, desc ocispecs.Descriptor, body io.Reader) error {
	if desc.Size > smallBlob {
		return f.send(ctx, desc, body)
	}
	var content bytes.Buffer
	if err := receive(&content, desc, body); err != nil {
		return err
	}
	f.small.Go(func() error {
		_ = f.send(f.ctx, desc, &content) // failures are kept for each store
		return nil
	})
	return nil
}

// send streams one body to several stores.
func (f *Fanout) send(ctx context.Context, desc ocispecs.Descriptor, body io.Reader) error {
	lacking := f.lacking(f.remembered(ctx, desc.Digest), desc)
	pipes := make([]*io.PipeWriter, len(lacking))
	outcome := make([]error, len(lacking))
	var wg sync.WaitGroup
	for n, i := range lacking {
		reader, writer := io.Pipe()
		pipes[n] = writer
		wg.Go(func() {
			outcome[n] = f.stores[i].Put(ctx, desc, reader)
			// A store that has failed, or stops reading, must not delay the others.
			_, _ = io.Copy(io.Discard, reader)
		})
	}
	err := fanOut(pipes, desc, body)
	wg.Wait()
	if err != nil {
		return err
	}
	for n, i := range lacking {
		if outcome[n] != nil {
			f.fail(i, outcome[n])
		}
	}
	f.received(desc)
	return f.allFailed()
}

// received records the size of a blob whose content is correct.
func (f *Fanout) received(desc ocispecs.Descriptor) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.sizes[desc.Digest] = desc.Size
}

// fanOut writes the body to every pipe, and ends each with an error unless the content
// matches the descriptor.
func fanOut(pipes []*io.PipeWriter, desc ocispecs.Descriptor, body io.Reader) error {
	var writers []io.Writer
	for _, p := range pipes {
		writers = append(writers, p)
	}
	err := receive(io.MultiWriter(writers...), desc, body)
	for _, p := range pipes {
		_ = p.CloseWithError(err) // never fails; a nil error is io.EOF
	}
	return err
}

func receive(to io.Writer, desc ocispecs.Descriptor, body io.Reader) error {
	if _, err := io.Copy(to, backends.Verify(body, desc)); err != nil {
		return fmt.Errorf("receive blob %s: %w", desc.Digest, err)
	}
	return nil
}

// allFailed is the error of each store when all have failed, and nil otherwise.
func (f *Fanout) allFailed() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, err := range f.failed {
		if err == nil {
			return nil
		}
	}
	return errors.Join(f.failed...)
}

// Commit writes the manifest that BuildKit sent, with the record, as the scope's cache to every
// store. It returns one error or nil for each store, in their order.
func (f *Fanout) Commit(ctx context.Context, n scope.Name, r backends.Record) []error {
	_ = f.small.Wait() // failures are kept for each store
	outcome := make([]error, len(f.stores))
	f.mu.Lock()
	copy(outcome, f.failed)
	manifest := f.manifest
	f.mu.Unlock()
	var wg sync.WaitGroup
	for i, store := range f.stores {
		if outcome[i] != nil {
			continue
		}
		wg.Go(func() { outcome[i] = commitTo(ctx, store, n, manifest, r) })
	}
	wg.Wait()
	return outcome
}

func commitTo(ctx context.Context, store backends.Store, n scope.Name, m *backends.Manifest, r backends.Record) error {
	if m == nil {
		return errors.New("no manifest was received")
	}
	annotated, err := m.WithRecord(r)
	if err != nil {
		return err
	}
	return store.PutManifest(ctx, n, annotated)
}
