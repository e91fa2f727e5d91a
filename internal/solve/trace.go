package solve

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"time"

	controlapi "github.com/moby/buildkit/api/services/control"
	digest "github.com/opencontainers/go-digest"
	ocispecs "github.com/opencontainers/image-spec/specs-go/v1"
	"go.opentelemetry.io/otel/trace"
)

// traceTimeout bounds the requests for BuildKit's spans, and largestTrace is the greatest size in bytes
// of a record's spans as JSON.
const (
	traceTimeout = 3 * time.Second
	largestTrace = 64 << 20
)

// traced tells whether BuildKit's spans are wanted: ctx has a span.
func traced(ctx context.Context) bool { return trace.SpanContextFromContext(ctx).IsValid() }

func newSpan() (id [8]byte) {
	_, _ = rand.Read(id[:]) // it never fails
	return id
}

// within makes the solve's span the parent of BuildKit's.
func (t target) within(ctx context.Context) context.Context {
	if !traced(ctx) {
		return ctx
	}
	return trace.ContextWithSpanContext(ctx, trace.SpanContextFromContext(ctx).WithSpanID(t.span))
}

// recorded is a solve with a record in the daemon's history.
type recorded struct {
	ref    string
	remove bool // the record is for its trace only
}

// traces takes the traces of the records, and removes the records that are for these only. BuildKit
// stores a trace three seconds after a solve, or when it is told to finalize the record (v0.34.2,
// solver/llbsolver/history.go).
func (b *run) traces(ctx context.Context) {
	if len(b.records) == 0 || ctx.Err() != nil {
		return
	}
	defer b.time.Start("read trace")()
	ctx, cancel := context.WithTimeout(ctx, traceTimeout)
	defer cancel()
	var failed error
	for _, r := range b.records {
		text, err := b.trace(ctx, r.ref)
		if failed = errors.Join(failed, err); err == nil {
			b.result.Traces = append(b.result.Traces, text)
		}
		if r.remove {
			_, err := b.Builder.Client.ControlClient().UpdateBuildHistory(ctx, &controlapi.UpdateBuildHistoryRequest{Ref: r.ref, Delete: true})
			failed = errors.Join(failed, err)
		}
	}
	if failed != nil {
		b.result.Warnings = append(b.result.Warnings, Warning{Text: fmt.Sprintf("trace: without BuildKit's spans, or not with all of them: %v", failed)})
	}
}

// trace is the trace of one record.
func (b *run) trace(ctx context.Context, ref string) ([]byte, error) {
	control := b.Builder.Client.ControlClient()
	if _, err := control.UpdateBuildHistory(ctx, &controlapi.UpdateBuildHistoryRequest{Ref: ref, Finalize: true}); err != nil {
		return nil, fmt.Errorf("finalize build record: %w", err)
	}
	var stored *controlapi.Descriptor
	err := b.history(ctx, ref, func(record *controlapi.BuildHistoryRecord) error {
		if d := record.GetTrace(); d != nil {
			stored = d
		}
		return nil
	})
	switch {
	case err != nil:
		return nil, err
	case stored == nil:
		return nil, errors.New("the builder stored no trace")
	case stored.Size > largestTrace:
		return nil, fmt.Errorf("the trace has %d bytes, and at most %d are read", stored.Size, largestTrace)
	}
	text, err := b.blob(ctx, ocispecs.Descriptor{MediaType: stored.MediaType, Digest: digest.Digest(stored.Digest), Size: stored.Size})
	if err != nil {
		return nil, fmt.Errorf("read trace: %w", err)
	}
	return text, nil
}

// record notes a solve that is recorded.
func (b *run) record(t target) {
	if t.internal {
		return
	}
	b.recording.Lock()
	defer b.recording.Unlock()
	b.records = append(b.records, recorded{t.ref, t.export})
}
