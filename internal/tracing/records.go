package tracing

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/trace"
	commonpb "go.opentelemetry.io/proto/otlp/common/v1"
	resourcepb "go.opentelemetry.io/proto/otlp/resource/v1"
	tracepb "go.opentelemetry.io/proto/otlp/trace/v1"
)

// stub is a span in the trace of one of BuildKit's records: OpenTelemetry's tracetest.SpanStub as JSON
// (BuildKit v0.34.2, solver/llbsolver/history.go). Links are left out.
type stub struct {
	Name                 string
	SpanContext, Parent  struct{ TraceID, SpanID, TraceState string }
	SpanKind             int
	StartTime, EndTime   time.Time
	Attributes           []stubValue
	Events               []stubEvent
	Status               stubStatus
	Resource             []stubValue
	InstrumentationScope struct{ Name, Version string }
}

type stubEvent struct {
	Name       string
	Attributes []stubValue
	Time       time.Time
}

type stubStatus struct {
	Code        codes.Code
	Description string
}

type stubValue struct {
	Key   string
	Value struct{ Value any }
}

// most is the greatest number of BuildKit's spans that are sent. A RUN step can make any number.
const most = 20_000

// fromRecords are the spans of one trace, each once: the later record of a builder has the spans of the
// earlier ones too.
func fromRecords(records [][]byte, id trace.TraceID) ([]*tracepb.ResourceSpans, error) {
	var groups []*tracepb.ResourceSpans
	known, places := map[string]bool{}, map[string]*tracepb.ScopeSpans{}
	for _, record := range records {
		d := json.NewDecoder(bytes.NewReader(record))
		d.UseNumber()
		for {
			var s stub
			err := d.Decode(&s)
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil {
				return groups, fmt.Errorf("parse BuildKit's trace: %w", err)
			}
			if s.SpanContext.TraceID != id.String() || known[s.SpanContext.SpanID] {
				continue
			}
			if len(known) == most {
				return groups, fmt.Errorf("BuildKit has more than %d spans", most)
			}
			known[s.SpanContext.SpanID] = true
			place := fmt.Sprint(s.Resource, s.InstrumentationScope)
			if places[place] == nil {
				places[place] = &tracepb.ScopeSpans{Scope: &commonpb.InstrumentationScope{Name: s.InstrumentationScope.Name, Version: s.InstrumentationScope.Version}}
				groups = append(groups, &tracepb.ResourceSpans{
					Resource: &resourcepb.Resource{Attributes: converted(s.Resource)}, ScopeSpans: []*tracepb.ScopeSpans{places[place]},
				})
			}
			places[place].Spans = append(places[place].Spans, s.span())
		}
	}
	return groups, nil
}

// statuses are OTLP's numbers of the statuses.
var statuses = map[codes.Code]tracepb.Status_StatusCode{codes.Ok: tracepb.Status_STATUS_CODE_OK, codes.Error: tracepb.Status_STATUS_CODE_ERROR}

func (s stub) span() *tracepb.Span {
	all := &tracepb.Span{
		TraceId: bits(s.SpanContext.TraceID), SpanId: bits(s.SpanContext.SpanID), TraceState: s.SpanContext.TraceState,
		Name: s.Name, Kind: tracepb.Span_SpanKind(min(max(0, s.SpanKind), 5)),
		StartTimeUnixNano: nanoseconds(s.StartTime), EndTimeUnixNano: nanoseconds(s.EndTime), Attributes: converted(s.Attributes),
		Status: &tracepb.Status{Code: statuses[s.Status.Code], Message: s.Status.Description},
	}
	if parent := bits(s.Parent.SpanID); !bytes.Equal(parent, make([]byte, len(parent))) {
		all.ParentSpanId = parent
	}
	for _, e := range s.Events {
		all.Events = append(all.Events, &tracepb.Span_Event{TimeUnixNano: nanoseconds(e.Time), Name: e.Name, Attributes: converted(e.Attributes)})
	}
	return all
}

// bits are the bytes of an ID; nil: it is none.
func bits(id string) []byte {
	raw, err := hex.DecodeString(id)
	if err != nil {
		return nil
	}
	return raw
}

// converted are the attributes that are sent. BuildKit's requests have their headers, which may hold
// tokens of stores, and their addresses with the signatures of redirects: headers and queries are left
// out.
func converted(values []stubValue) []*commonpb.KeyValue {
	var all []*commonpb.KeyValue
	for _, v := range values {
		if strings.HasPrefix(v.Key, "http.request.header.") || strings.HasPrefix(v.Key, "http.response.header.") || v.Key == "url.query" {
			continue
		}
		if address, ok := v.Value.Value.(string); ok && (v.Key == "url.full" || v.Key == "http.url") {
			v.Value.Value, _, _ = strings.Cut(address, "?")
		}
		all = append(all, &commonpb.KeyValue{Key: v.Key, Value: convert(v.Value.Value)})
	}
	return all
}

// convert is a value of JSON in OTLP.
func convert(value any) *commonpb.AnyValue {
	switch v := value.(type) {
	case bool:
		return &commonpb.AnyValue{Value: &commonpb.AnyValue_BoolValue{BoolValue: v}}
	case json.Number:
		if n, err := v.Int64(); err == nil {
			return &commonpb.AnyValue{Value: &commonpb.AnyValue_IntValue{IntValue: n}}
		}
		f, _ := v.Float64() // of a number that is too large it is infinite
		return &commonpb.AnyValue{Value: &commonpb.AnyValue_DoubleValue{DoubleValue: f}}
	case []any:
		list := &commonpb.ArrayValue{}
		for _, one := range v {
			list.Values = append(list.Values, convert(one))
		}
		return &commonpb.AnyValue{Value: &commonpb.AnyValue_ArrayValue{ArrayValue: list}}
	case string:
		return text(v)
	}
	return text(fmt.Sprint(value))
}
