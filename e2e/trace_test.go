package e2e

import (
	"encoding/hex"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	controlapi "github.com/moby/buildkit/api/services/control"
	"github.com/moby/buildkit/client"
	tracepb "go.opentelemetry.io/proto/otlp/trace/v1"

	"github.com/warmlayer/warmlayer/internal/testkit"
)

// The span that TRACEPARENT names in these tests.
const (
	outerTrace = "4bf92f3577b34da6a3ce929d0e0e4736"
	outerSpan  = "00f067aa0ba902b7"
)

// traced is a build whose Dockerfile has the text of a secret in a step.
func traced(t *testing.T, env map[string]string) testkit.Invocation {
	t.Helper()
	app := testkit.App(t)
	dockerfile, err := os.ReadFile(filepath.Join(app, "Dockerfile"))
	if err != nil {
		t.Fatal(err)
	}
	testkit.Write(t, filepath.Join(app, "Dockerfile"), string(dockerfile)+"RUN echo s3cret-of-a-step > /told\n")
	env["WARMLAYER_SECRETS"] = "id=s3cret-of-a-step"
	if env["OTEL_EXPORTER_OTLP_HEADERS"] == "" {
		env["OTEL_EXPORTER_OTLP_HEADERS"] = "authorization=Bearer%20t0ken-of-the-collector"
	}
	return testkit.Invocation{Dir: app, Branch: "main", Env: env, Args: []string{
		"--cache", "type=local,dest=" + filepath.Join(t.TempDir(), "cache"), "--outputs", "type=oci,dest=" + filepath.Join(t.TempDir(), "image.tar"), "--timings",
	}}
}

// The program's spans and BuildKit's are one trace below the span of TRACEPARENT, also those of the
// solve that exports the cache, and no text of them has a secret.
func TestTrace(t *testing.T) {
	t.Parallel()
	for _, protocol := range []string{"grpc", "http/protobuf", "unix"} {
		t.Run(protocol, func(t *testing.T) {
			t.Parallel()
			collector := testkit.StartCollector(t, protocol)
			run := traced(t, map[string]string{
				"OTEL_EXPORTER_OTLP_ENDPOINT": collector.URL, "OTEL_EXPORTER_OTLP_PROTOCOL": strings.Replace(protocol, "unix", "grpc", 1), "TRACEPARENT": "00-" + outerTrace + "-" + outerSpan + "-01",
			})
			out := run.Start(t)
			if out.Code != 0 || len(out.Report.Warnings) > 0 {
				t.Fatalf("exit code %d:\n%s", out.Code, out.Text)
			}
			spans, text := collector.Spans()
			checkTrace(t, spans)
			if strings.Contains(text, "s3cret-of-a-step") || !strings.Contains(text, "RUN echo *** > /told") {
				t.Error("the step's name is not redacted")
			}
			if strings.Contains(text, "http.request.header") || strings.Contains(text, "blobs/uploads/") && strings.Contains(text, "?digest=") {
				t.Error("headers or queries of BuildKit's requests were sent")
			}
			if all := collector.Authorization(); len(all) == 0 || all[0] != "Bearer t0ken-of-the-collector" {
				t.Errorf("authorization: %v", all)
			}
			if !strings.Contains(out.Files, `"critical": true`) {
				t.Errorf("no critical path in the report:\n%s", out.Files)
			}
			if strings.Contains(out.Text+out.Files, "t0ken") || !strings.Contains(out.Text, "critical path *") {
				t.Errorf("the log:\n%s", out.Text)
			}
		})
	}
}

// A remote builder's spans are in the trace too, of a failed build as well, and its history has the
// build's own record only.
func TestTraceOfRemoteBuilder(t *testing.T) {
	t.Parallel()
	address := testkit.StartBuildkitd(t)
	collector := testkit.StartCollector(t, "grpc")
	run := traced(t, map[string]string{"OTEL_EXPORTER_OTLP_ENDPOINT": collector.URL, "TRACEPARENT": "00-" + outerTrace + "-" + outerSpan + "-01"})
	run.Args = append(run.Args, "--builder", address)
	run.Build(t)
	spans, _ := collector.Spans()
	checkTrace(t, spans)

	c, err := client.New(t.Context(), address)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	history, err := c.ControlClient().ListenBuildHistory(t.Context(), &controlapi.BuildHistoryRequest{EarlyExit: true})
	records := 0
	for err == nil {
		if _, err = history.Recv(); err == nil {
			records++
		}
	}
	if !errors.Is(err, io.EOF) || records != 1 {
		t.Errorf("%d records, %v", records, err)
	}

	failing := testkit.StartCollector(t, "grpc")
	testkit.Write(t, filepath.Join(run.Dir, "Dockerfile"), "FROM scratch\nADD rootfs.tar /\nRUN echo s3cret-of-a-step; exit 7\n")
	run.Env["OTEL_EXPORTER_OTLP_ENDPOINT"] = failing.URL
	if out := run.Start(t); out.Code != 1 {
		t.Fatalf("exit code %d:\n%s", out.Code, out.Text)
	}
	spans, text := failing.Spans()
	errored := map[string]bool{}
	for _, s := range spans {
		if s.Status.GetCode() == tracepb.Status_STATUS_CODE_ERROR {
			errored[s.Name] = true
		}
	}
	if !errored["warmlayer build"] || !errored["[2/2] RUN echo ***; exit 7"] || strings.Contains(text, "s3cret-of-a-step") {
		t.Errorf("spans with errors: %v", errored)
	}
}

// checkTrace checks that all spans are of one trace, and whose children they are.
func checkTrace(t *testing.T, spans map[string]testkit.Span) {
	t.Helper()
	children := map[string]int{} // of BuildKit, by the program's span above them
	roots := 0
	for _, s := range spans {
		if hex.EncodeToString(s.TraceId) != outerTrace {
			t.Errorf("%s is in another trace", s.Name)
		}
		if hex.EncodeToString(s.ParentSpanId) == outerSpan {
			roots++
			if s.Name != "warmlayer build" || s.Service != "warmlayer" {
				t.Errorf("%s of %s is below TRACEPARENT's span", s.Name, s.Service)
			}
		}
		above := s
		for above.Service == "buildkitd" {
			next, ok := spans[hex.EncodeToString(above.ParentSpanId)]
			if !ok {
				break
			}
			above = next
		}
		if s.Service == "buildkitd" {
			children[above.Name]++
		}
	}
	if roots != 1 {
		t.Errorf("%d spans are below TRACEPARENT's", roots)
	}
	exports := 0
	for name, n := range children {
		if strings.HasPrefix(name, "export cache ") {
			exports += n
		}
	}
	if children["build"] < 10 || exports < 5 {
		t.Errorf("BuildKit's spans: %v", children)
	}
	t.Logf("%d spans; BuildKit's by the span above them: %v", len(spans), children)
}

// A collector that never answers, one that is away, and variables that cannot be used cost one warning,
// and the build succeeds.
func TestTraceWithoutCollector(t *testing.T) {
	t.Parallel()
	silent, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0") // the kernel accepts for it
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = silent.Close() })
	hangs := "http://" + silent.Addr().String()
	for name, env := range map[string]map[string]string{
		"hangs with grpc":   {"OTEL_EXPORTER_OTLP_ENDPOINT": hangs, "OTEL_EXPORTER_OTLP_TIMEOUT": "200"},
		"hangs with http":   {"OTEL_EXPORTER_OTLP_ENDPOINT": hangs, "OTEL_EXPORTER_OTLP_TIMEOUT": "200", "OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf"},
		"away":              {"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://127.0.0.1:1", "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL": "http/protobuf"},
		"unknown protocol":  {"OTEL_EXPORTER_OTLP_ENDPOINT": hangs, "OTEL_EXPORTER_OTLP_PROTOCOL": "http/json"},
		"malformed headers": {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:1", "OTEL_EXPORTER_OTLP_HEADERS": "t0ken-of-the-collector"},
		"no scheme":         {"OTEL_EXPORTER_OTLP_ENDPOINT": "localhost:4317"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			out := traced(t, env).Start(t)
			if out.Code != 0 || len(out.Report.Warnings) != 1 {
				t.Fatalf("exit code %d, warnings %q:\n%s", out.Code, out.Report.Warnings, out.Text)
			}
			if warning := out.Report.Warnings[0]; !strings.Contains(warning, "trace") {
				t.Error(warning)
			} else {
				t.Log(warning)
			}
			if strings.Contains(out.Text+out.Files, "t0ken") {
				t.Errorf("the log has the collector's token:\n%s", out.Text)
			}
		})
	}
}
