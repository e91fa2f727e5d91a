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

// smallBlob is the size up to which a blob is taken into memory, and sent on to the
// stores while BuildKit goes on: it sends four at once (v0.33.1, util/resolver/limited),
// and would wait a round trip for each.
const smallBlob = 1 << 20

// smallAtOnce are the small blobs that are under way at once.
const smallAtOnce = 16

// destination takes one export for several stores. A store that fails is left
// out from then on, and the others go on.
type destination struct {
	stores   []backends.Store
	lost     func(digest.Digest) bool  // a store may have such a blob, and it is no good
	expected []digest.Digest           // those of the caches that were read: most of what is exported
	first    sync.Once                 // asks for the expected ones, all at once
	known    []map[digest.Digest]int64 // then: for each store, the sizes of those that it has
	small    errgroup.Group            // small blobs under way
	ctx      context.Context           // of the gateway, for what goes on after a request

	mu       sync.Mutex
	failed   []error // for each store, why it was left out
	asked    map[digest.Digest]answer
	manifest *backends.Manifest // what BuildKit sent, not yet in any store
}

func newDestination(ctx context.Context, stores []backends.Store, expected []digest.Digest, lost func(digest.Digest) bool) *destination {
	d := &destination{
		ctx: ctx, stores: stores, expected: expected, lost: lost,
		failed: make([]error, len(stores)), known: make([]map[digest.Digest]int64, len(stores)),
	}
	d.small.SetLimit(smallAtOnce)
	return d
}

// answer is what the stores said of a blob.
type answer struct {
	there   bool  // a store has it
	size    int64 // there; may be [backends.UnknownSize]
	lacking []int // the indexes of the stores to send it to
}

// lacking asks which stores are to be sent a blob. An upload follows upon BuildKit's own
// question, so that the answer to that serves for both.
func (d *destination) lacking(ctx context.Context, blob digest.Digest) []int {
	d.mu.Lock()
	a, ok := d.asked[blob]
	delete(d.asked, blob)
	d.mu.Unlock()
	if !ok {
		a = d.ask(ctx, blob)
	}
	return slices.DeleteFunc(a.lacking, func(i int) bool { return d.why(i) != nil })
}

// ask asks all stores at once, and leaves out from then on those that fail.
func (d *destination) ask(ctx context.Context, blob digest.Digest) answer {
	d.first.Do(func() { d.stat(ctx, d.expected, d.known) })
	sizes := d.known
	if !slices.Contains(d.expected, blob) {
		sizes = make([]map[digest.Digest]int64, len(d.stores))
		d.stat(ctx, []digest.Digest{blob}, sizes)
	}
	a := answer{size: backends.UnknownSize}
	for i := range d.stores {
		size, ok := sizes[i][blob]
		switch {
		case d.why(i) != nil:
		case !ok || d.lost(blob):
			a.lacking = append(a.lacking, i)
		default:
			a.there, a.size = true, max(a.size, size)
		}
	}
	return a
}

// stat asks each store for blobs, and keeps their sizes in its place.
func (d *destination) stat(ctx context.Context, blobs []digest.Digest, sizes []map[digest.Digest]int64) {
	var wg sync.WaitGroup
	for i, store := range d.stores {
		if len(blobs) == 0 || d.why(i) != nil {
			continue
		}
		wg.Go(func() {
			var err error
			if sizes[i], err = store.Stat(ctx, blobs); err != nil {
				d.drop(i, err)
			}
		})
	}
	wg.Wait()
}

func (d *destination) remember(blob digest.Digest, a answer) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.asked == nil {
		d.asked = map[digest.Digest]answer{}
	}
	d.asked[blob] = a
}

func (d *destination) why(i int) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.failed[i]
}

func (d *destination) drop(i int, err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.failed[i] = err
}

// put sends one body on to the stores that lack it: a small one later. It fails when
// the body is not what it should be, which is no store's fault, and when no store is left.
func (d *destination) put(ctx context.Context, desc ocispecs.Descriptor, body io.Reader) error {
	if desc.Size > smallBlob {
		return d.send(ctx, desc, body)
	}
	var content bytes.Buffer
	if err := copyVerified(&content, desc.Digest, body); err != nil {
		return err
	}
	d.small.Go(func() error {
		_ = d.send(d.ctx, desc, &content) // kept for each store
		return nil
	})
	return nil
}

// send streams one body into several stores.
func (d *destination) send(ctx context.Context, desc ocispecs.Descriptor, body io.Reader) error {
	lacking := d.lacking(ctx, desc.Digest)
	pipes := make([]*io.PipeWriter, len(lacking))
	outcome := make([]error, len(lacking))
	var wg sync.WaitGroup
	for n, i := range lacking {
		reader, writer := io.Pipe()
		pipes[n] = writer
		wg.Go(func() {
			outcome[n] = d.stores[i].Put(ctx, desc, reader)
			// A store that has failed, or has enough, must not hold up the others.
			_, _ = io.Copy(io.Discard, reader)
		})
	}
	err := fanOut(pipes, desc.Digest, body)
	wg.Wait()
	if err != nil {
		return err
	}
	for n, i := range lacking {
		if outcome[n] != nil {
			d.drop(i, outcome[n])
		}
	}
	return d.allFailed()
}

// fanOut writes the body to every pipe, and ends each with an error unless the
// content was the digest's.
func fanOut(pipes []*io.PipeWriter, d digest.Digest, body io.Reader) error {
	var writers []io.Writer
	for _, p := range pipes {
		writers = append(writers, p)
	}
	err := copyVerified(io.MultiWriter(writers...), d, body)
	for _, p := range pipes {
		_ = p.CloseWithError(err) // never fails; a nil error is io.EOF
	}
	return err
}

// copyVerified fails after the last byte when the content was not the digest's.
func copyVerified(to io.Writer, d digest.Digest, body io.Reader) error {
	verifier := d.Verifier()
	_, err := io.Copy(io.MultiWriter(verifier, to), body)
	if err == nil && !verifier.Verified() {
		err = errors.New("content does not match the digest")
	}
	if err != nil {
		return fmt.Errorf("receive blob %s: %w", d, err)
	}
	return nil
}

// allFailed is the reason of each store, when none is left.
func (d *destination) allFailed() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, err := range d.failed {
		if err == nil {
			return nil
		}
	}
	return errors.Join(d.failed...)
}

// commit makes the received manifest the scope's cache in every store, each with
// its own outcome.
func (d *destination) commit(ctx context.Context, n scope.Name, records []backends.Record) []error {
	_ = d.small.Wait() // what failed is kept for each store
	outcome := make([]error, len(d.stores))
	d.mu.Lock()
	copy(outcome, d.failed)
	manifest := d.manifest
	d.mu.Unlock()
	var wg sync.WaitGroup
	for i, store := range d.stores {
		if outcome[i] != nil {
			continue
		}
		wg.Go(func() { outcome[i] = commitTo(ctx, store, n, manifest, records[i]) })
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
