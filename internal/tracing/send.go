package tracing

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/sdk/resource"
	"go.opentelemetry.io/otel/trace"
	commonpb "go.opentelemetry.io/proto/otlp/common/v1"
	resourcepb "go.opentelemetry.io/proto/otlp/resource/v1"
	tracepb "go.opentelemetry.io/proto/otlp/trace/v1"

	"github.com/warmlayer/warmlayer/internal/timing"
)

// Run is what a trace tells about a run.
type Run struct {
	Name         string // "build"
	Began, Ended time.Time
	Attributes   map[string]string // of the run's span; empty values are left out
	Err          error             // nil: it succeeded
	Parts        []timing.Part     // the program's own are spans; those with an ID are BuildKit's
	BuildKit     [][]byte          // the traces of the builder's records
}

// batch is the number of spans in one request: collectors take 4 MiB by default (gRPC).
const batch = 512

// Send sends the spans, with every text redacted.
func (t *Trace) Send(ctx context.Context, r Run, redact func(string) string) (warning string) {
	if t == nil {
		return ""
	}
	limit := patience
	if ctx.Err() != nil {
		limit = hurry
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), limit)
	defer cancel()
	spans, err := fromRecords(r.BuildKit, t.root.TraceID())
	ours, problem := t.spans(ctx, r)
	valid := func(s string) string { return strings.ToValidUTF8(redact(s), "\uFFFD") } // as gRPC requires
	groups := append([]*tracepb.ResourceSpans{ours}, spans...)
	for _, g := range groups {
		hide(g, valid)
	}
	if err := errors.Join(err, problem, t.upload(ctx, groups)); err != nil {
		return redact(fmt.Sprintf("trace: it could not be sent, or not all of it: %v", err))
	}
	return ""
}

// upload sends the spans in requests of a bounded size.
func (t *Trace) upload(ctx context.Context, groups []*tracepb.ResourceSpans) error {
	if err := t.client.Start(ctx); err != nil {
		return err
	}
	err := func() error {
		for _, g := range groups {
			for _, scope := range g.ScopeSpans {
				for all := scope.Spans; len(all) > 0; {
					n := min(batch, len(all))
					one := &tracepb.ResourceSpans{Resource: g.Resource, ScopeSpans: []*tracepb.ScopeSpans{{Scope: scope.Scope, Spans: all[:n]}}}
					if err := t.client.UploadTraces(ctx, []*tracepb.ResourceSpans{one}); err != nil {
						return err
					}
					all = all[n:]
				}
			}
		}
		return nil
	}()
	_ = t.client.Stop(ctx) // everything has been sent, or an error says so
	return err
}

// spans are the span of the run and those of its parts.
func (t *Trace) spans(ctx context.Context, r Run) (*tracepb.ResourceSpans, error) {
	root := t.span("warmlayer "+r.Name, t.root.SpanID(), t.parent.SpanID(), r.Began, r.Ended)
	for key, value := range r.Attributes {
		if value != "" {
			root.Attributes = append(root.Attributes, keyValue("warmlayer."+key, value))
		}
	}
	if r.Err != nil {
		root.Status = &tracepb.Status{Code: tracepb.Status_STATUS_CODE_ERROR, Message: r.Err.Error()}
	}
	spans := []*tracepb.Span{root}
	for _, p := range r.Parts {
		if p.ID != "" {
			continue
		}
		id := trace.SpanID(p.Span)
		if !id.IsValid() {
			id = NewSpan()
		}
		spans = append(spans, t.span(p.Name, id, t.root.SpanID(), p.Start, p.End))
	}
	described, err := resource.New(ctx,
		resource.WithAttributes(attribute.String("service.name", "warmlayer"), attribute.String("service.version", t.version)), resource.WithFromEnv())
	var attributes []*commonpb.KeyValue
	for _, a := range described.Attributes() {
		attributes = append(attributes, keyValue(string(a.Key), a.Value.String()))
	}
	return &tracepb.ResourceSpans{
		Resource:   &resourcepb.Resource{Attributes: attributes},
		ScopeSpans: []*tracepb.ScopeSpans{{Scope: &commonpb.InstrumentationScope{Name: "warmlayer", Version: t.version}, Spans: spans}},
	}, err
}

func (t *Trace) span(name string, id, parent trace.SpanID, from, to time.Time) *tracepb.Span {
	traceID := t.root.TraceID()
	s := &tracepb.Span{
		TraceId: traceID[:], SpanId: id[:], TraceState: t.root.TraceState().String(), Name: name, Kind: tracepb.Span_SPAN_KIND_INTERNAL,
		StartTimeUnixNano: nanoseconds(from), EndTimeUnixNano: nanoseconds(to),
	}
	if parent.IsValid() {
		s.ParentSpanId = parent[:]
	}
	return s
}

// nanoseconds since 1970, as OTLP counts.
func nanoseconds(at time.Time) uint64 { return uint64(max(0, at.UnixNano())) }

func keyValue(key, value string) *commonpb.KeyValue {
	return &commonpb.KeyValue{Key: key, Value: text(value)}
}

func text(value string) *commonpb.AnyValue {
	return &commonpb.AnyValue{Value: &commonpb.AnyValue_StringValue{StringValue: value}}
}
