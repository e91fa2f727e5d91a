package gateway

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"math"
	"sync"
	"time"

	digest "github.com/opencontainers/go-digest"
	ocispecs "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sync/semaphore"

	"github.com/warmlayer/warmlayer/backends"
	"github.com/warmlayer/warmlayer/internal/crash"
	"github.com/warmlayer/warmlayer/internal/storage"
)

// smallAtOnce bounds the small blobs that are in transfer to one store.
const smallAtOnce = 16

// cleanUp is how long a store may take to remove incomplete data after its context has ended.
const cleanUp = time.Second

// member is one store of a [Fanout].
type member struct {
	store backends.Store
	stall time.Duration           // how long it may accept no data of a blob, or not answer
	ctx   context.Context         // ends when the store gets no more data; its cause says why
	fail  context.CancelCauseFunc // ends ctx; only the first call counts
	slots *semaphore.Weighted     // a slot for each small blob in transfer

	mu      sync.Mutex
	damaged map[digest.Digest]error // blobs that were sent again and cannot be used from the store, with the reason
}

func newMember(ctx context.Context, store backends.Store, stall time.Duration) *member {
	if stall == 0 {
		stall = math.MaxInt64
	}
	ctx, fail := context.WithCancelCause(ctx)
	return &member{store: store, stall: stall, ctx: ctx, fail: fail, slots: semaphore.NewWeighted(smallAtOnce)}
}

// failure is why the store gets no more data; nil: it has not failed.
func (m *member) failure() error { return context.Cause(m.ctx) }

// both is a context that ends with ctx, and when the store fails. The caller calls end.
func (m *member) both(ctx context.Context) (_ context.Context, end func()) {
	ctx, cancel := context.WithCancelCause(ctx)
	stop := context.AfterFunc(m.ctx, func() {
		defer crash.Catch()
		cancel(m.failure())
	})
	return ctx, func() {
		stop()
		cancel(nil)
	}
}

// stat asks the store for blobs. A store that does not answer, or answers with an error, fails.
func (m *member) stat(blobs []digest.Digest) sizes {
	ctx, cancel := context.WithTimeoutCause(m.ctx, m.stall, fmt.Errorf("no answer within %s", m.stall))
	defer cancel()
	found, err := m.store.Stat(ctx, blobs)
	if err != nil && errors.Is(ctx.Err(), context.DeadlineExceeded) {
		err = context.Cause(ctx)
	}
	if err != nil {
		m.fail(err)
	}
	return found
}

// reserve takes a slot for a small blob. It reports false for a store that has failed, and when ctx
// ends.
func (m *member) reserve(ctx context.Context) bool {
	ctx, end := m.both(ctx)
	defer end()
	return ctx.Err() == nil && m.slots.Acquire(ctx, 1) == nil
}

// put sends a blob to the store, until ctx ends. A store that accepts no data for too long fails.
// All other errors are left to the caller, because the body may be at fault.
func (m *member) put(ctx context.Context, desc ocispecs.Descriptor, body io.Reader) error {
	ctx, end := m.both(ctx)
	defer end()
	stalled := time.AfterFunc(m.stall, func() {
		defer crash.Catch()
		if ctx.Err() == nil {
			m.fail(fmt.Errorf("no data of blob %s was accepted for %s", desc.Digest, m.stall))
		}
	})
	defer stalled.Stop()
	done := make(chan error, 1)
	go func() {
		defer crash.Catch()
		done <- m.store.Put(ctx, desc, &paced{body, stalled, m.stall})
	}()
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
	}
	select {
	case <-done:
	case <-time.After(cleanUp):
	}
	return context.Cause(ctx)
}

// check reads a blob back that was lost and has been sent again: a store may keep the copy that
// it had, as GitHub's cache does.
func (m *member) check(desc ocispecs.Descriptor) {
	ctx, cancel := context.WithTimeoutCause(m.ctx, m.stall, fmt.Errorf("no answer within %s", m.stall))
	defer cancel()
	err := readBack(ctx, m.store, desc)
	if err == nil {
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.damaged == nil {
		m.damaged = map[digest.Digest]error{}
	}
	m.damaged[desc.Digest] = err
}

// readBack reads a blob of a store to its end. The error says whether it is damaged, or cannot be read.
func readBack(ctx context.Context, store backends.Store, desc ocispecs.Descriptor) error {
	blob, err := store.Open(ctx, desc.Digest, 0)
	if err == nil {
		_, err = io.Copy(io.Discard, storage.Verify(blob, desc))
		blob.Close()
	}
	switch {
	case errors.Is(err, storage.ErrMismatch):
		return fmt.Errorf("the store keeps a damaged copy of blob %s", desc.Digest)
	case err != nil:
		return fmt.Errorf("blob %s was sent again and cannot be read back: %w", desc.Digest, err)
	}
	return nil
}

// paced is the body of a blob. The timer runs while its reader does not read.
type paced struct {
	from  io.Reader
	timer *time.Timer
	limit time.Duration
}

func (p *paced) Read(b []byte) (int, error) {
	p.timer.Stop()
	defer p.timer.Reset(p.limit)
	return p.from.Read(b)
}

// commit waits for the small blobs and writes the cache that was sent.
func (m *member) commit(ctx context.Context, sent *Sent, write Write) error {
	ctx, end := m.both(ctx)
	defer end()
	if m.slots.Acquire(ctx, smallAtOnce) == nil {
		m.slots.Release(smallAtOnce)
	} else {
		m.fail(context.Cause(ctx)) // which ends the transfers
	}
	if err := m.failure(); err != nil {
		return err
	}
	if sent == nil {
		return errors.New("no manifest was received")
	}
	m.mu.Lock()
	damaged := maps.Clone(m.damaged)
	m.mu.Unlock()
	return write(ctx, impatient{m.store, m}, *sent, damaged)
}

// impatient is a member's store that fails when it accepts no data of a blob for too long.
type impatient struct {
	backends.Store
	member *member
}

// Put implements [backends.Store].
func (s impatient) Put(ctx context.Context, desc ocispecs.Descriptor, body io.Reader) error {
	return s.member.put(ctx, desc, body)
}
