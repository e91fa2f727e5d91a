// Package tracing sends the trace of a run to a collector, over OTLP. The environment asks for it, with
// the variables of OpenTelemetry that docker buildx and buildctl read too:
//
//	t, warning := tracing.Start(environ.Get, "v1.2.3")
//	ctx = t.Context(ctx) // BuildKit joins its spans to the trace of this context
//	...
//	warning = t.Send(ctx, tracing.Run{Name: "build", Parts: parts, BuildKit: records}, redact)
//
// A nil Trace is none: its methods do nothing. A trace that cannot be sent costs a warning and at most
// the time [patience].
package tracing

import (
	"context"
	"crypto/rand"
	"fmt"
	"net/url"
	"strings"
	"time"

	"github.com/go-logr/logr"
	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracegrpc"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracehttp"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"
)

// patience is how long a collector may take for the whole trace, and hurry the same after a run was
// cancelled. OTEL_EXPORTER_OTLP_TIMEOUT may make it shorter.
const (
	patience = 5 * time.Second
	hurry    = time.Second
)

// Trace is the trace of one run.
type Trace struct {
	root    trace.SpanContext // of the run's own span
	parent  trace.SpanContext // of TRACEPARENT; invalid: there is none
	version string
	client  otlptrace.Client
}

// The variables that ask for a trace, and name the protocol. The second ones come first. All others are
// read by OpenTelemetry's library (opentelemetry.io/docs/specs/otel/protocol/exporter).
var (
	endpoints = []string{"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT"}
	protocols = []string{"OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL"}
	headers   = []string{"OTEL_EXPORTER_OTLP_TRACES_HEADERS", "OTEL_EXPORTER_OTLP_HEADERS"}
)

// first is the first of some variables that is set, and its value.
func first(getenv func(string) string, names []string) (name, value string) {
	for _, name := range names {
		if value := getenv(name); value != "" {
			return name, value
		}
	}
	return "", ""
}

// Start begins a trace where the environment asks for one. Nothing is sent, and no connection is made,
// before [Trace.Send]. The warning says what is wrong with the variables.
func Start(getenv func(string) string, version string) (_ *Trace, warning string) {
	name, endpoint := first(getenv, endpoints)
	exporter := getenv("OTEL_TRACES_EXPORTER")
	if name == "" || strings.EqualFold(getenv("OTEL_SDK_DISABLED"), "true") || exporter != "" && exporter != "otlp" {
		return nil, ""
	}
	u, err := url.Parse(endpoint)
	isURL := err == nil && (u.Host != "" && (u.Scheme == "http" || u.Scheme == "https") || u.Scheme == "unix" && u.Path != "")
	if !isURL {
		return nil, fmt.Sprintf("%s: no trace is sent: the value is not a URL such as http://localhost:4317", name)
	}
	parent := trace.SpanContextFromContext(propagation.TraceContext{}.Extract(context.Background(), propagation.MapCarrier{
		"traceparent": getenv("TRACEPARENT"), "tracestate": getenv("TRACESTATE"),
	}))
	if parent.IsValid() && !parent.IsSampled() {
		return nil, "" // who began the trace does not record it
	}
	// The library would log the values of variables that it cannot parse to standard error.
	otel.SetLogger(logr.Discard())
	otel.SetErrorHandler(otel.ErrorHandlerFunc(func(error) {}))
	t := &Trace{parent: parent, version: version}
	if t.client, warning = client(getenv, u); t.client == nil {
		return nil, warning
	}
	config := trace.SpanContextConfig{TraceID: parent.TraceID(), SpanID: NewSpan(), TraceFlags: trace.FlagsSampled, TraceState: parent.TraceState()}
	if !parent.IsValid() {
		_, _ = rand.Read(config.TraceID[:]) // it never fails
	}
	t.root = trace.NewSpanContext(config)
	return t, ""
}

// client is a client of the collector at an address; nil with a warning: the protocol is unknown.
func client(getenv func(string) string, collector *url.URL) (_ otlptrace.Client, warning string) {
	name, protocol := first(getenv, protocols)
	switch {
	case protocol == "" || protocol == "grpc":
		options := []otlptracegrpc.Option{otlptracegrpc.WithRetry(otlptracegrpc.RetryConfig{})}
		if collector.Scheme == "unix" { // as in RUN steps; the library would take the path for a host
			options = append(options, otlptracegrpc.WithEndpoint("unix://"+collector.Path), otlptracegrpc.WithInsecure())
		}
		return otlptracegrpc.NewClient(options...), ""
	case protocol == "http/protobuf" && collector.Scheme != "unix":
		return otlptracehttp.NewClient(otlptracehttp.WithRetry(otlptracehttp.RetryConfig{})), ""
	}
	return nil, fmt.Sprintf("%s: no trace is sent: %q is unknown, or does not go with the address; use grpc or http/protobuf", name, protocol)
}

// NewSpan is a new ID of a span.
func NewSpan() (id trace.SpanID) {
	_, _ = rand.Read(id[:]) // it never fails
	return id
}

// Context has the span of the run.
func (t *Trace) Context(ctx context.Context) context.Context {
	if t == nil {
		return ctx
	}
	return trace.ContextWithSpanContext(ctx, t.root)
}

// Credentials are the values of the headers that a collector asks for, in all forms in which the
// library may show them. They are to be hidden also where no trace is wanted.
func Credentials(getenv func(string) string) []string {
	var all []string
	for _, name := range headers {
		for header := range strings.SplitSeq(getenv(name), ",") {
			_, value, ok := strings.Cut(header, "=")
			if !ok {
				value = header // the variable is malformed
			}
			all = append(all, credential(value)...)
			if decoded, err := url.PathUnescape(value); err == nil {
				all = append(all, credential(decoded)...)
			}
		}
	}
	return all
}

// credential is the value of a header, without a scheme before it: "Bearer abc" is "abc".
func credential(value string) []string {
	value = strings.TrimSpace(value)
	if _, token, ok := strings.Cut(value, " "); ok {
		return []string{value, token}
	}
	return []string{value}
}
