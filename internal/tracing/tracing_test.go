package tracing

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"go.opentelemetry.io/otel/trace"
	tracepb "go.opentelemetry.io/proto/otlp/trace/v1"

	"github.com/warmlayer/warmlayer/internal/timing"
)

const (
	outer   = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7"
	traceID = "4bf92f3577b34da6a3ce929d0e0e4736"
	record  = `{"Name":"RUN curl hunter2","SpanContext":{"TraceID":"` + traceID + `","SpanID":"0102030405060708","TraceState":""},
		"Parent":{"TraceID":"` + traceID + `","SpanID":"00f067aa0ba902b7"},"SpanKind":3,"StartTime":"2026-01-01T00:00:01Z","EndTime":"2026-01-01T00:00:02.5Z",
		"Attributes":[{"Key":"url.full","Value":{"Type":"STRING","Value":"https://blobs.example/b?Signature=x"}},
			{"Key":"http.request.header.x-amz-security-token","Value":{"Type":"STRING","Value":"t"}},
			{"Key":"n","Value":{"Type":"INT64","Value":9007199254740993}},{"Key":"list","Value":{"Type":"STRINGSLICE","Value":["a","hunter2"]}}],
		"Events":[{"Name":"exception","Attributes":[{"Key":"exception.message","Value":{"Type":"STRING","Value":"no hunter2"}}],"Time":"2026-01-01T00:00:02Z"}],
		"Status":{"Code":1,"Description":"hunter2 failed"},"Resource":[{"Key":"service.name","Value":{"Type":"STRING","Value":"buildkitd"}}]}
	`
)

func environ(variables ...string) func(string) string {
	return func(name string) string {
		for _, v := range variables {
			if value, ok := strings.CutPrefix(v, name+"="); ok {
				return value
			}
		}
		return ""
	}
}

func TestStart(t *testing.T) {
	const endpoint = "OTEL_EXPORTER_OTLP_ENDPOINT=http://127.0.0.1:1"
	for name, c := range map[string]struct {
		variables []string
		parent    string // of the run's span; "none": there is no trace
		warning   string
	}{
		"no endpoint":              {[]string{"TRACEPARENT=" + outer + "-01"}, "none", ""},
		"an endpoint":              {[]string{endpoint}, "", ""},
		"one for traces":           {[]string{"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT=https://c.example/v1/traces"}, "", ""},
		"a parent":                 {[]string{endpoint, "TRACEPARENT=" + outer + "-01"}, "00f067aa0ba902b7", ""},
		"a parent that is broken":  {[]string{endpoint, "TRACEPARENT=00-xy"}, "", ""},
		"a parent without samples": {[]string{endpoint, "TRACEPARENT=" + outer + "-00"}, "none", ""},
		"disabled":                 {[]string{endpoint, "OTEL_SDK_DISABLED=true"}, "none", ""},
		"no exporter":              {[]string{endpoint, "OTEL_TRACES_EXPORTER=none"}, "none", ""},
		"this exporter":            {[]string{endpoint, "OTEL_TRACES_EXPORTER=otlp"}, "", ""},
		"no URL":                   {[]string{"OTEL_EXPORTER_OTLP_ENDPOINT=me:pass@host:4317"}, "none", "OTEL_EXPORTER_OTLP_ENDPOINT: no trace is sent: the value is not a URL such as http://localhost:4317"},
		"a socket":                 {[]string{"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT=unix:///dev/otel-grpc.sock"}, "", ""},
		"a socket over HTTP":       {[]string{"OTEL_EXPORTER_OTLP_ENDPOINT=unix:///a", "OTEL_EXPORTER_OTLP_PROTOCOL=http/protobuf"}, "none", `OTEL_EXPORTER_OTLP_PROTOCOL: no trace is sent: "http/protobuf" is unknown, or does not go with the address; use grpc or http/protobuf`},
		"another protocol":         {[]string{endpoint, "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL=http/json"}, "none", `OTEL_EXPORTER_OTLP_TRACES_PROTOCOL: no trace is sent: "http/json" is unknown, or does not go with the address; use grpc or http/protobuf`},
	} {
		made, warning := Start(environ(c.variables...), "v1")
		if warning != c.warning {
			t.Errorf("%s: warning %q", name, warning)
		}
		span := trace.SpanContextFromContext(made.Context(t.Context()))
		switch {
		case c.parent == "none":
			if made != nil || span.IsValid() {
				t.Errorf("%s: there is a trace", name)
			}
		case made == nil || !span.IsSampled():
			t.Errorf("%s: there is no trace", name)
		case c.parent != "" && (made.parent.SpanID().String() != c.parent || span.TraceID().String() != traceID):
			t.Errorf("%s: parent %s, trace %s", name, made.parent.SpanID(), span.TraceID())
		}
	}
}

func TestCredentials(t *testing.T) {
	t.Parallel()
	got := Credentials(environ("OTEL_EXPORTER_OTLP_HEADERS=authorization=Bearer%20abc,x-key = k", "OTEL_EXPORTER_OTLP_TRACES_HEADERS=dd=1,token"))
	if text := strings.Join(got, "|"); text != "1|1|token|token|Bearer%20abc|Bearer abc|abc|k|k" {
		t.Error(text)
	}
}

// kept is a client that keeps what it is to send.
type kept struct {
	groups []*tracepb.ResourceSpans
	sizes  []int
}

func (k *kept) Start(context.Context) error { return nil }
func (k *kept) Stop(context.Context) error  { return nil }
func (k *kept) UploadTraces(_ context.Context, groups []*tracepb.ResourceSpans) error {
	k.groups = append(k.groups, groups...)
	k.sizes = append(k.sizes, len(groups[0].ScopeSpans[0].Spans))
	return nil
}

// All texts are redacted and valid, BuildKit's spans come once, and requests are small.
func TestSend(t *testing.T) {
	made, _ := Start(environ("OTEL_EXPORTER_OTLP_ENDPOINT=http://127.0.0.1:1", "TRACEPARENT="+outer+"-01"), "v1")
	client := &kept{}
	made.client = client
	began := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	parts := []timing.Part{{Name: "read hunter2", Start: began, End: began.Add(time.Second)}, {Name: "RUN make", ID: "sha256:a"}}
	for range 600 {
		parts = append(parts, timing.Part{Name: "more \xff", Start: began, End: began})
	}
	foreign := strings.ReplaceAll(record, traceID, "00000000000000000000000000000001")
	warning := made.Send(t.Context(), Run{
		Name: "build", Began: began, Ended: began.Add(3 * time.Second), Attributes: map[string]string{"scope": "b-main", "digest": ""},
		Err: errors.New("hunter2 is wrong"), Parts: parts, BuildKit: [][]byte{[]byte(record), []byte(record + foreign)},
	}, func(s string) string { return strings.ReplaceAll(s, "hunter2", "***") })
	if warning != "" || len(client.sizes) != 3 || client.sizes[0] != batch || client.sizes[2] != 1 {
		t.Fatalf("warning %q, requests of %v spans", warning, client.sizes)
	}
	root, read := client.groups[0].ScopeSpans[0].Spans[0], client.groups[0].ScopeSpans[0].Spans[1]
	if root.Status.Message != "*** is wrong" || read.Name != "read ***" || string(read.ParentSpanId) != string(root.SpanId) || len(root.Attributes) != 1 {
		t.Errorf("%v\n%v", root, read)
	}
	last := client.groups[2].ScopeSpans[0].Spans[0]
	text := last.String()
	for _, want := range []string{`name:"RUN curl ***"`, `"https://blobs.example/b"`, "9007199254740993", `"no ***"`, `"*** failed"`, "STATUS_CODE_ERROR", "SPAN_KIND_CLIENT"} {
		if !strings.Contains(strings.ReplaceAll(text, "  ", " "), want) {
			t.Errorf("%s is not in %s", want, text)
		}
	}
	if strings.Contains(text, "hunter2") || strings.Contains(text, "security-token") || last.EndTimeUnixNano-last.StartTimeUnixNano != 1_500_000_000 {
		t.Error(text)
	}
}

// What is not a trace of BuildKit's is a warning, and the run's own spans are sent.
func TestSendWithoutBuildKit(t *testing.T) {
	made, _ := Start(environ("OTEL_EXPORTER_OTLP_ENDPOINT=http://127.0.0.1:1"), "v1")
	client := &kept{}
	made.client = client
	warning := made.Send(t.Context(), Run{Name: "build", BuildKit: [][]byte{[]byte(`[1]`)}}, strings.ToUpper)
	if !strings.Contains(warning, "PARSE BUILDKIT'S TRACE") || len(client.sizes) != 1 {
		t.Errorf("warning %q, requests of %v spans", warning, client.sizes)
	}
	if warning := (*Trace)(nil).Send(t.Context(), Run{}, strings.ToUpper); warning != "" {
		t.Error(warning)
	}
}
