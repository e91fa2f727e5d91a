package testkit

import (
	"context"
	"encoding/hex"
	"io"
	"net"
	"net/http"
	"path/filepath"
	"sync"
	"testing"

	collectorpb "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	tracepb "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/proto"
)

// Collector is a stand-in for OpenTelemetry's collector. It keeps what it gets over OTLP (specification
// 1.10, "OTLP/gRPC" and "OTLP/HTTP", binary), and answers with success.
type Collector struct {
	collectorpb.UnimplementedTraceServiceServer

	URL string // http://127.0.0.1:PORT

	mu            sync.Mutex
	requests      []*collectorpb.ExportTraceServiceRequest
	authorization []string
}

// StartCollector starts a collector for one protocol, "grpc" or "http/protobuf", or for gRPC at a
// socket: "unix".
func StartCollector(t testing.TB, protocol string) *Collector {
	t.Helper()
	listener, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	c := &Collector{URL: "http://" + listener.Addr().String()}
	if protocol == "unix" {
		_ = listener.Close()
		socket := filepath.Join(Temp(t), "otel.sock")
		if listener, err = new(net.ListenConfig).Listen(t.Context(), "unix", socket); err != nil {
			t.Fatal(err)
		}
		c.URL, protocol = "unix://"+socket, "grpc"
	}
	var serving sync.WaitGroup
	if protocol == "grpc" {
		server := grpc.NewServer()
		collectorpb.RegisterTraceServiceServer(server, c)
		serving.Go(func() { _ = server.Serve(listener) })
		t.Cleanup(func() { server.Stop(); serving.Wait() })
		return c
	}
	server := &http.Server{Handler: http.HandlerFunc(c.serve)}
	serving.Go(func() { _ = server.Serve(listener) })
	t.Cleanup(func() { _ = server.Close(); serving.Wait() })
	return c
}

// Export implements the service of OTLP/gRPC.
func (c *Collector) Export(ctx context.Context, r *collectorpb.ExportTraceServiceRequest) (*collectorpb.ExportTraceServiceResponse, error) {
	headers, _ := metadata.FromIncomingContext(ctx)
	c.add(r, headers.Get("authorization"))
	return &collectorpb.ExportTraceServiceResponse{}, nil
}

// serve implements OTLP/HTTP.
func (c *Collector) serve(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	request := &collectorpb.ExportTraceServiceRequest{}
	if err != nil || r.URL.Path != "/v1/traces" || proto.Unmarshal(body, request) != nil {
		w.WriteHeader(http.StatusBadRequest)
		return
	}
	c.add(request, r.Header.Values("Authorization"))
	w.Header().Set("Content-Type", "application/x-protobuf") // an empty response is the whole success
}

func (c *Collector) add(r *collectorpb.ExportTraceServiceRequest, authorization []string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.requests, c.authorization = append(c.requests, r), append(c.authorization, authorization...)
}

// Authorization are the headers of that name.
func (c *Collector) Authorization() []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return append([]string(nil), c.authorization...)
}

// Span is a span that the collector has.
type Span struct {
	*tracepb.Span
	Service string // of its resource
}

// Spans are all spans, by their IDs in hexadecimal digits, and the text of all that was sent.
func (c *Collector) Spans() (spans map[string]Span, text string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	spans = map[string]Span{}
	for _, r := range c.requests {
		text += r.String()
		for _, group := range r.ResourceSpans {
			service := ""
			for _, a := range group.GetResource().GetAttributes() {
				if a.Key == "service.name" {
					service = a.Value.GetStringValue()
				}
			}
			for _, scope := range group.ScopeSpans {
				for _, s := range scope.Spans {
					spans[hex.EncodeToString(s.SpanId)] = Span{s, service}
				}
			}
		}
	}
	return spans, text
}
