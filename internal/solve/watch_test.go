package solve

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/moby/buildkit/client"
	"github.com/moby/buildkit/session"
	digest "github.com/opencontainers/go-digest"

	"github.com/warmlayer/warmlayer/internal/cacheplan"
)

// at is a moment of a stream, in seconds.
func at(seconds float64) *time.Time {
	t := time.Unix(1000, 0).Add(time.Duration(seconds * float64(time.Second)))
	return &t
}

// An event of a stream: a vertex begins, ends, ends cached, or ends with an error.
type event struct {
	name   string
	what   string // begin, end, cached, or an error's text
	second float64
}

// source is the beginning of the names of vertices without inputs, which exports have too.
const source = "[internal]"

func stream(t *testing.T, w *watch, events ...event) {
	t.Helper()
	began := map[string]*time.Time{}
	for _, e := range events {
		v := &client.Vertex{Digest: digest.FromString(e.name), Name: e.name}
		if strings.HasPrefix(e.name, "[") && !strings.HasPrefix(e.name, source) {
			v.Inputs = []digest.Digest{digest.FromString("input")}
		}
		switch e.what {
		case "begin":
			began[e.name] = at(e.second)
		case "known":
		case "end", "cached":
			v.Completed, v.Cached = at(e.second), e.what == "cached"
		default:
			v.Completed, v.Error = at(e.second), e.what
		}
		v.Started = began[e.name]
		w.update(&client.SolveStatus{Vertexes: []*client.Vertex{v}})
	}
}

func testWatch(t *testing.T) *watch {
	t.Helper()
	s, err := session.NewSession(t.Context(), "")
	if err != nil {
		t.Fatal(err)
	}
	return newWatch(s)
}

func TestSteps(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name   string
		events []event
		want   []string // name, "cached" or "", seconds, error
	}{
		{"ran", []event{{"[1]", "begin", 1}, {"[1]", "end", 3}}, []string{"[1] false 2 "}},
		{"cached once, then unpacked", []event{
			{"[1]", "begin", 1}, {"[1]", "cached", 1}, {"[1]", "begin", 2}, {"[1]", "end", 5},
		}, []string{"[1] true 3 "}},
		{"told twice", []event{
			{"[1]", "begin", 1}, {"[1]", "end", 2}, {"[1]", "end", 2},
		}, []string{"[1] false 1 "}},
		{"never began", []event{{"[1]", "known", 0}, {"[2]", "begin", 1}, {"[2]", "end", 1}}, []string{"[2] false 0 "}},
		{"sources are not steps", []event{{source, "begin", 1}, {source, "end", 2}}, nil},
		{"in the order in which they began", []event{
			{"[2]", "known", 0}, {"[1]", "begin", 1}, {"[2]", "begin", 2}, {"[2]", "cached", 2}, {"[1]", "end", 4},
		}, []string{"[1] false 3 ", "[2] true 0 "}},
		{"failed", []event{{"[1]", "begin", 1}, {"[1]", "exit code: 1", 2}}, []string{"[1] false 1 exit code: 1"}},
		{"under way", []event{{"[1]", "begin", 1}}, []string{"[1] false 0 "}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			w := testWatch(t)
			stream(t, w, test.events...)
			var got []string
			for _, s := range w.steps() {
				got = append(got, fmt.Sprintf("%s %t %g %s", s.Name, s.Cached, s.Seconds, s.Error))
			}
			if !slices.Equal(got, test.want) {
				t.Errorf("steps %q, want %q", got, test.want)
			}
		})
	}
}

// TestStepsFollowTheirInputs: of cached steps the last one begins first.
func TestStepsFollowTheirInputs(t *testing.T) {
	t.Parallel()
	w := testWatch(t)
	for _, v := range []struct {
		name   string
		inputs []string
		second float64 // 0: never began
	}{
		{"[late]", []string{"[base 1]"}, 0},
		{"[out 2]", []string{"[out 1]", "[tools 2]"}, 1},
		{"[out 1]", []string{"[base 1]"}, 4},
		{"[tools 2]", []string{"[tools 1]"}, 2},
		{"[tools 1]", []string{"[base 1]"}, 3},
		{"[base 1]", []string{"rootfs"}, 5},
		{"[other]", []string{"rootfs"}, 0.5},
		{"rootfs", nil, 6},
	} {
		told := &client.Vertex{Digest: digest.FromString(v.name), Name: v.name}
		for _, input := range v.inputs {
			told.Inputs = append(told.Inputs, digest.FromString(input))
		}
		if v.second > 0 {
			told.Started, told.Completed, told.Cached = at(v.second), at(v.second), true
		}
		w.update(&client.SolveStatus{Vertexes: []*client.Vertex{told}})
	}
	var got []string
	for _, s := range w.steps() {
		got = append(got, s.Name)
	}
	if want := []string{"[other]", "[base 1]", "[out 1]", "[tools 1]", "[tools 2]", "[out 2]"}; !slices.Equal(got, want) {
		t.Errorf("steps %q, want %q", got, want)
	}
}

// TestLayersExist: the exporter's vertex begins to commit, and again to push.
func TestLayersExist(t *testing.T) {
	t.Parallel()
	w := testWatch(t)
	exporter := func(what string, second float64) {
		v := &client.Vertex{Digest: w.exporter, Name: "exporting to image", Started: at(second)}
		if what == "end" {
			v.Started, v.Completed = at(second-1), at(second)
		}
		w.update(&client.SolveStatus{Vertexes: []*client.Vertex{v}})
	}
	exist := func() bool {
		select {
		case <-w.layers:
			return true
		default:
			return false
		}
	}
	exporter("begin", 1)
	exporter("begin", 1)
	exporter("end", 2)
	if exist() || w.Pushed() {
		t.Error("layers exist before the push")
	}
	for _, second := range []float64{3, 4} { // a second push must not close the channel again
		exporter("begin", second)
		if !exist() || !w.Pushed() {
			t.Error("the layers do not exist although they are pushed")
		}
	}
}

// TestRan: the steps that ran for an export and not for the build.
func TestRan(t *testing.T) {
	t.Parallel()
	built := []event{{"[1]", "begin", 1}, {"[1]", "end", 2}, {"[2]", "begin", 3}}
	tests := []struct {
		name   string
		events []event
		want   string
	}{
		{"joined", []event{{"[1]", "begin", 1}, {"[1]", "end", 2}, {"[2]", "begin", 3}}, ""},
		{"found cached", []event{{"[1]", "begin", 4}, {"[1]", "cached", 4}}, ""},
		{"ran again", []event{{"[1]", "begin", 4}}, "[1]"},
		{"a step that the build did not run", []event{{"[3]", "begin", 2}}, "[3]"},
		{"only a source was loaded again", []event{{source, "begin", 4}}, ""},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			before, w := testWatch(t), testWatch(t)
			stream(t, before, built...)
			stream(t, w, test.events...)
			if got := w.ran(before); got != test.want {
				t.Errorf("ran %q, want %q", got, test.want)
			}
		})
	}
}

// TestImportTooLong: an import that takes too long cancels the solve, and the end of an import
// stops its timer.
func TestImportTooLong(t *testing.T) {
	t.Parallel()
	for _, hangs := range []bool{true, false} {
		w := testWatch(t)
		ctx, cancel := context.WithCancelCause(t.Context())
		w.limitCaches(time.Millisecond, begun, cancel)
		if !hangs {
			w.timeout = time.Hour
		}
		stream(t, w, event{importing + "example.org/a:b", "begin", 1})
		if hangs {
			<-ctx.Done()
			const want = "the import hangs: example.org/a:b after 1ms (cache-timeout)"
			if err := context.Cause(ctx); !errors.Is(err, cacheplan.ErrImportHangs) || err.Error() != want {
				t.Errorf("the cause is %v", err)
			}
		}
		stream(t, w, event{importing + "example.org/a:b", "end", 2})
		for _, timer := range w.timers {
			if timer.Stop() {
				t.Error("the timer runs after the import's end")
			}
		}
		cancel(nil)
	}
}

// begun is when the scopes were read: long ago.
func begun() time.Time { return time.Unix(1, 0) }

// TestImportWaits: an import that waits for the scopes does not take too long.
func TestImportWaits(t *testing.T) {
	t.Parallel()
	w, asked := testWatch(t), 0
	ctx, cancel := context.WithCancelCause(t.Context())
	w.limitCaches(time.Millisecond, func() time.Time {
		if asked++; asked < 4 {
			return time.Time{}
		}
		return begun()
	}, cancel)
	stream(t, w, event{importing + "127.0.0.1:5000/s0:scopes", "begin", 1})
	<-ctx.Done()
	if w.stop(); asked != 4 {
		t.Errorf("it took too long at the look %d", asked)
	}
}

// TestStall: layers are in transfer, and none of them makes progress.
func TestStall(t *testing.T) {
	t.Parallel()
	one, two := digest.FromString("one"), digest.FromString("two")
	type status struct {
		layer  digest.Digest
		bytes  int64
		second float64
	}
	const whole = 100 << 10 // bytes of each layer
	tests := []struct {
		name    string
		on      string // the vertex
		stream  []status
		stalls  bool
		partial []digest.Digest
	}{
		{"gets on", "[1]", []status{{one, 0, 1}, {one, 50 << 10, 10}, {one, 60 << 10, 19}}, false, []digest.Digest{one}},
		{"stalls", "[1]", []status{{one, 50 << 10, 1}, {one, 50 << 10, 5}, {one, 50 << 10, 11}}, true, []digest.Digest{one}},
		{"trickles", "[1]", []status{{one, 0, 1}, {one, 5 << 10, 5}, {one, 9 << 10, 10.5}, {one, 9<<10 + 1, 11}}, true, []digest.Digest{one}},
		{"ended", "[1]", []status{{one, 50 << 10, 1}, {one, whole, 2}, {one, whole, 20}}, false, nil},
		{"a layer that waits for another one", "[1]", []status{{one, 0, 1}, {two, 0, 1}, {two, 19 << 10, 10}, {one, 0, 12}}, false, []digest.Digest{one, two}},
		{"a layer of a base image", source, []status{{one, 0, 1}, {one, 0, 100}}, false, nil},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			w := testWatch(t)
			ctx, cancel := context.WithCancelCause(t.Context())
			defer cancel(nil)
			w.limitCaches(10*time.Second, begun, cancel)
			stream(t, w, event{test.on, "begin", 1})
			for _, s := range test.stream {
				status := &client.VertexStatus{
					ID: s.layer.String(), Vertex: digest.FromString(test.on), Current: s.bytes, Total: whole, Timestamp: *at(s.second),
				}
				if s.bytes == whole {
					status.Completed = at(s.second)
				}
				w.update(&client.SolveStatus{Statuses: []*client.VertexStatus{status}})
			}
			if stalls := errors.Is(context.Cause(ctx), cacheplan.ErrStalled); stalls != test.stalls {
				t.Errorf("stalls: %t", stalls)
			}
			if got := w.partial(); !slices.Equal(slices.Sorted(slices.Values(got)), slices.Sorted(slices.Values(test.partial))) {
				t.Errorf("partial: %v", got)
			}
		})
	}
}

// TestSilence: the layers of a cached step are fetched, and their store does not answer.
func TestSilence(t *testing.T) {
	t.Parallel()
	w := testWatch(t)
	ctx, cancel := context.WithCancelCause(t.Context())
	defer cancel(nil)
	w.limitCaches(10*time.Millisecond, begun, cancel)
	stream(t, w, event{"[1]", "begin", 1}, event{"[1]", "cached", 1}, event{"[1]", "begin", 2})
	<-ctx.Done()
	if err := context.Cause(ctx); !errors.Is(err, cacheplan.ErrStalled) || !strings.Contains(err.Error(), `no layer of "[1]" came`) {
		t.Error(err)
	}
}

// TestImports: how each import ended.
func TestImports(t *testing.T) {
	t.Parallel()
	entry := client.CacheOptionsEntry{Type: "registry", Attrs: map[string]string{"ref": "example.org/a:b"}}
	for what, want := range map[string]cacheplan.ImportEnd{ // by the end of its vertex
		"end":    {Began: true, Ended: true},
		"denied": {Began: true, Ended: true, Error: "denied"},
		"begin":  {Began: true},
		"":       {},
	} {
		w := testWatch(t)
		if what != "" {
			stream(t, w, event{importing + "example.org/a:b", "begin", 1})
			stream(t, w, event{importing + "example.org/a:b", what, 1})
		}
		other := client.CacheOptionsEntry{Type: "registry", Attrs: map[string]string{"ref": "example.org/a:c"}}
		if got := w.imports([]client.CacheOptionsEntry{other, entry}); !slices.Equal(got, []cacheplan.ImportEnd{{}, want}) {
			t.Errorf("%q: %+v", what, got)
		}
	}
}
