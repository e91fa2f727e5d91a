package gateway

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"sync"
	"time"

	digest "github.com/opencontainers/go-digest"
	ocispecs "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/warmlayer/warmlayer/backends"
	"github.com/warmlayer/warmlayer/internal/crash"
	"github.com/warmlayer/warmlayer/internal/storage"
	"github.com/warmlayer/warmlayer/scope"
)

// smallBlob is the largest size, in bytes, of a blob that is held in memory and sent to the stores
// in the background. BuildKit sends four blobs at once (v0.34.2, util/resolver/limited), and would
// wait a round trip for each.
const smallBlob = 1 << 20

// Fanout is a repository of the gateway that receives one export for several stores. A store that
// fails or stalls gets no more data, and the others continue.
type Fanout struct {
	gateway  *Gateway
	repo     string // BuildKit's name for it: "127.0.0.1:41235/d0"
	members  []*member
	expected []ocispecs.Descriptor // the blobs of the caches that were read: most of an export
	first    sync.Once             // asks every store for all expected blobs, once
	known    []sizes               // the result: the expected blobs that each store has

	mu       sync.Mutex
	sizes    sizes // of the blobs that are expected or were received
	asked    map[digest.Digest]answer
	configs  map[digest.Digest][]byte // cache configs that BuildKit is about to send (nil), or has sent
	manifest *backends.Manifest       // sent by BuildKit, and not yet in a store
}

// Sent is a cache as BuildKit sent it.
type Sent struct {
	Manifest backends.Manifest
	Config   []byte // nil when BuildKit sent it as any other blob, and the stores have it
}

// Write makes a cache that was sent the scope's cache in one store, whose blobs are complete. The
// given blobs are those that were sent again and cannot be used from the store, each with the reason.
type Write func(ctx context.Context, store backends.Store, sent Sent, damaged map[digest.Digest]error) error

// sizes are the sizes of blobs, in bytes.
type sizes map[digest.Digest]int64

func newFanout(g *Gateway, repo string, stores []backends.Store, expected []ocispecs.Descriptor, stall time.Duration) *Fanout {
	f := &Fanout{gateway: g, repo: repo, expected: expected, sizes: sizes{}, configs: map[digest.Digest][]byte{}}
	for _, store := range stores {
		f.members = append(f.members, newMember(g.ctx, store, stall))
	}
	for _, desc := range expected {
		f.sizes[desc.Digest] = desc.Size
	}
	return f
}

// Ref is the reference under which BuildKit exports the cache of a scope.
func (f *Fanout) Ref(n scope.Name) string { return f.repo + ":" + string(n) }

// answer is the size of a blob in each store, in bytes, where the store has a usable copy: a
// size, or [backends.UnknownSize]; else noBlob.
type answer []int64

const noBlob int64 = -2

// lacking are the stores that need a blob. A copy of another size counts as absent, since it was
// truncated. Stores that have failed are left out.
func (f *Fanout) lacking(a answer, desc ocispecs.Descriptor) []*member {
	var lacking []*member
	for i, m := range f.members {
		if a[i] != desc.Size && a[i] != backends.UnknownSize && m.failure() == nil {
			lacking = append(lacking, m)
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
	for i, m := range f.members {
		there = there || a[i] != noBlob && m.failure() == nil
	}
	return size, there && len(f.lacking(a, ocispecs.Descriptor{Digest: blob, Size: size})) == 0
}

// ask asks all stores at once. Stores that fail get no more data. BuildKit asks before each upload,
// so the answer is used for both.
func (f *Fanout) ask(blob digest.Digest) answer {
	f.first.Do(func() { f.known = f.stat(digestsOf(f.expected)) })
	found := f.known
	if !slices.ContainsFunc(f.expected, func(d ocispecs.Descriptor) bool { return d.Digest == blob }) {
		found = f.stat([]digest.Digest{blob})
	}
	a := make(answer, len(f.members))
	for i := range f.members {
		size, ok := found[i][blob]
		if a[i] = size; !ok || f.gateway.isLost(blob) {
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

// stat asks each store for blobs, and returns the sizes at the index of the store.
func (f *Fanout) stat(blobs []digest.Digest) []sizes {
	found := make([]sizes, len(f.members))
	var wg sync.WaitGroup
	for i, m := range f.members {
		if len(blobs) > 0 && m.failure() == nil {
			wg.Go(func() {
				defer crash.Catch()
				found[i] = m.stat(blobs)
			})
		}
	}
	wg.Wait()
	return found
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
func (f *Fanout) remembered(blob digest.Digest) answer {
	f.mu.Lock()
	a, ok := f.asked[blob]
	delete(f.asked, blob)
	f.mu.Unlock()
	if !ok {
		a = f.ask(blob)
	}
	return a
}

// put sends one body to the stores that lack it; a small one is sent after put returns. The error
// says that the body does not match the descriptor, or that every store has failed.
func (f *Fanout) put(ctx context.Context, desc ocispecs.Descriptor, body io.Reader) error {
	if f.isConfig(desc.Digest) {
		return f.hold(desc, body)
	}
	if desc.Size > smallBlob {
		return f.send(ctx, desc, body)
	}
	var content bytes.Buffer
	if err := receive(&content, desc, body); err != nil {
		return err
	}
	f.received(desc)
	var reserved []*member
	for _, m := range f.members {
		if m.reserve(ctx) {
			reserved = append(reserved, m)
		}
	}
	f.gateway.begin(func() { f.sendSmall(desc, content.Bytes(), reserved) })
	return context.Cause(ctx)
}

// errTooLarge says that a cache config is not accepted.
var errTooLarge = fmt.Errorf("the cache config is larger than %d bytes", backends.MaxManifest)

// expectConfig records that BuildKit is about to send a cache config.
func (f *Fanout) expectConfig(d digest.Digest) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.configs[d] == nil {
		f.configs[d] = nil
	}
}

func (f *Fanout) isConfig(d digest.Digest) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	_, ok := f.configs[d]
	return ok
}

// hold keeps a cache config in memory until the commit, which decides whether it is written.
func (f *Fanout) hold(desc ocispecs.Descriptor, body io.Reader) error {
	if desc.Size > backends.MaxManifest {
		return errTooLarge
	}
	var content bytes.Buffer
	if err := receive(&content, desc, body); err != nil {
		return err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.configs[desc.Digest] = content.Bytes()
	return nil
}

// sendSmall sends a blob to those of the stores that lack it, and releases their slots. No store
// waits for another one.
func (f *Fanout) sendSmall(desc ocispecs.Descriptor, content []byte, reserved []*member) {
	lacking := f.lacking(f.remembered(desc.Digest), desc)
	var wg sync.WaitGroup
	for _, m := range reserved {
		wg.Go(func() {
			defer crash.Catch()
			defer m.slots.Release(1)
			if !slices.Contains(lacking, m) {
				return
			}
			if err := m.put(m.ctx, desc, bytes.NewReader(content)); err != nil {
				m.fail(err)
			} else if f.gateway.isLost(desc.Digest) {
				m.check(desc)
			}
		})
	}
	wg.Wait()
}

// send streams one body to several stores.
func (f *Fanout) send(ctx context.Context, desc ocispecs.Descriptor, body io.Reader) error {
	lacking := f.lacking(f.remembered(desc.Digest), desc)
	pipes := make(pipes, len(lacking))
	outcome := make([]error, len(lacking))
	var wg sync.WaitGroup
	for n, m := range lacking {
		reader, writer := io.Pipe()
		pipes[n] = writer
		wg.Go(func() {
			defer crash.Catch()
			outcome[n] = m.put(ctx, desc, reader)
			// A store that has failed, or stops reading, must not delay the others.
			reader.CloseWithError(io.ErrClosedPipe)
		})
	}
	err := receive(pipes, desc, body)
	for _, p := range pipes {
		_ = p.CloseWithError(err) // never fails; a nil error is io.EOF
	}
	wg.Wait()
	if err != nil {
		return err
	}
	for n, m := range lacking {
		if outcome[n] != nil {
			m.fail(outcome[n])
		} else if f.gateway.isLost(desc.Digest) {
			m.check(desc)
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

// pipes are one pipe for each store. A write skips those that the store has closed.
type pipes []*io.PipeWriter

// Write implements [io.Writer].
func (p pipes) Write(b []byte) (int, error) {
	for _, pipe := range p {
		_, _ = pipe.Write(b) // the outcome of the store's Put tells more
	}
	return len(b), nil
}

func receive(to io.Writer, desc ocispecs.Descriptor, body io.Reader) error {
	if _, err := io.Copy(to, storage.Verify(body, desc)); err != nil {
		return fmt.Errorf("receive blob %s: %w", desc.Digest, err)
	}
	return nil
}

// Failures are, for each of the stores in their order, why it gets no more data; nil for one that
// has not failed.
func (f *Fanout) Failures() []error {
	all := make([]error, len(f.members))
	for i, m := range f.members {
		all[i] = m.failure()
	}
	return all
}

// allFailed is the error of each store when all have failed, and nil otherwise.
func (f *Fanout) allFailed() error {
	var all []error
	for _, m := range f.members {
		err := m.failure()
		if err == nil {
			return nil
		}
		all = append(all, err)
	}
	return errors.Join(all...)
}

// Commit writes the cache that BuildKit sent to every store, in the way that write returns for the
// store's number. It returns one error or nil for each store, in their order. A store whose blobs are
// not complete when ctx ends keeps the cache that it has.
func (f *Fanout) Commit(ctx context.Context, write func(store int) Write) []error {
	f.mu.Lock()
	var sent *Sent
	if f.manifest != nil {
		sent = &Sent{*f.manifest, f.configs[f.manifest.Config.Digest]}
	}
	f.mu.Unlock()
	outcome := make([]error, len(f.members))
	var wg sync.WaitGroup
	for i, m := range f.members {
		wg.Go(func() {
			defer crash.Catch()
			outcome[i] = m.commit(ctx, sent, write(i))
		})
	}
	wg.Wait()
	return outcome
}
