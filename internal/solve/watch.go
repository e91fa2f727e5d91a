package solve

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/gohugoio/hashstructure"
	"github.com/moby/buildkit/client"
	gw "github.com/moby/buildkit/frontend/gateway/client"
	"github.com/moby/buildkit/session"
	digest "github.com/opencontainers/go-digest"

	"github.com/warmlayer/warmlayer/internal/cacheplan"
	"github.com/warmlayer/warmlayer/internal/crash"
	"github.com/warmlayer/warmlayer/internal/timing"
)

// watch follows the status stream of one solve.
//
// Steps are the vertices with inputs: sources, loads, imports and exports have none. BuildKit
// reports a cached step once. Its vertex may begin and end again, not cached, when its layers are
// unpacked for a later step, so a step that was cached once counts as cached. A step that never
// began was not needed.
type watch struct {
	exporter digest.Digest // the first exporter's vertex
	layers   chan struct{} // closed when the layers of the result exist

	mu       sync.Mutex
	vertices map[digest.Digest]*vertex
	order    []digest.Digest
	begins   int                           // how often the exporter's vertex began
	made     []string                      // "exporting manifest sha256:…" and the like, of that vertex
	existed  time.Time                     // when layers was closed
	failures []string                      // errors of steps
	warnings []*client.VertexWarning       // in the order in which BuildKit sends them, which is any
	fetches  map[digest.Digest]int64       // the bytes received of each layer whose transfer has not ended
	moved    time.Time                     // when they last got on, by the daemon's clock
	since    int64                         // the bytes received since then
	heard    time.Time                     // when the last status came
	timeout  time.Duration                 // of caches
	settled  func() time.Time              // when the scopes were read, for which an import may wait; the zero time: not yet
	cancel   context.CancelCauseFunc       // ends the solve; nil: no timeout
	timers   map[digest.Digest]*time.Timer // of imports, and of cached steps whose layers are fetched
	ends     []timing.Part                 // of vertices, by the daemon's clock
	behind   time.Duration                 // the least time from an event to its arrival, by both clocks
	events   int                           // whose arrivals were compared
}

type vertex struct {
	name      string
	inputs    []digest.Digest
	started   time.Time // the latest start
	first     time.Time
	spent     time.Duration
	cached    bool
	completed bool
	open      map[string]bool // its transfers and the like that have begun and not ended
	err       string
	log       []byte // the end of its output
	clipped   string // the limit at which BuildKit cut its output: "2MiB", "200KiB/s"; "": it did not
}

// maxLog is how many bytes of each step's log are kept.
const maxLog = 4 << 10

func newWatch(s *session.Session) *watch {
	return &watch{
		// BuildKit v0.34.2, solver/llbsolver/export.go, exporterVertexID.
		exporter: digest.FromString(s.ID() + "-export-0"),
		layers:   make(chan struct{}),
		vertices: map[digest.Digest]*vertex{},
		fetches:  map[digest.Digest]int64{},
		timers:   map[digest.Digest]*time.Timer{},
	}
}

// A cache stalls when its layers bring fewer than slowest bytes a second for the time stall: at
// this rate every step would be faster than its layer.
const (
	stall   = time.Minute
	slowest = 1 << 10
)

// limitCaches cancels the solve with an [cacheplan.ErrImportHangs] when the import of one cache
// takes longer than the timeout after the scopes were read, and with an [cacheplan.ErrStalled] when the layers stall for as
// long, or for a minute.
func (w *watch) limitCaches(timeout time.Duration, settled func() time.Time, cancel context.CancelCauseFunc) {
	w.timeout, w.settled, w.cancel = timeout, settled, cancel
}

// stop ends the timers.
func (w *watch) stop() {
	w.mu.Lock()
	defer w.mu.Unlock()
	for d, t := range w.timers {
		t.Stop()
		delete(w.timers, d)
	}
}

func (w *watch) update(s *client.SolveStatus) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.heard = time.Now()
	for _, v := range s.Vertexes {
		w.arrived(v)
		w.vertex(v)
	}
	for _, status := range s.Statuses {
		w.status(status)
	}
	if w.begins > 1 && w.existed.IsZero() {
		w.existed = time.Now()
		close(w.layers)
	}
	w.warnings = append(w.warnings, s.Warnings...)
	for _, l := range s.Logs {
		if v := w.vertices[l.Vertex]; v != nil {
			v.log = tail(v.log, l.Data)
			v.clipped = cmp.Or(v.clipped, clippedAt(l.Data))
		}
	}
}

// tail is the end of a log and of what follows it, in the log's memory.
func tail(log, more []byte) []byte {
	more = more[max(0, len(more)-maxLog):]
	if drop := len(log) + len(more) - maxLog; drop > 0 {
		log = log[:copy(log, log[drop:])]
	}
	return append(log, more...)
}

func (w *watch) vertex(v *client.Vertex) {
	known := w.vertices[v.Digest]
	if known == nil {
		known = &vertex{name: v.Name, inputs: v.Inputs}
		w.vertices[v.Digest] = known
		w.order = append(w.order, v.Digest)
	}
	if v.Started != nil && !v.Started.Equal(known.started) {
		if known.first.IsZero() {
			known.first = *v.Started
		}
		known.started, known.completed = *v.Started, false
		w.began(v)
		if known.cached && known.err == "" && len(known.inputs) > 0 && w.cancel != nil {
			w.awaitLayers(v.Digest, known)
		}
	}
	known.cached = known.cached || v.Cached
	if v.Completed != nil && !known.completed {
		known.completed, known.err = true, v.Error
		known.spent += v.Completed.Sub(known.started)
		w.ends = append(w.ends, w.part(v.Digest, known, *v.Completed))
		if v.Error != "" && len(known.inputs) > 0 {
			w.failures = append(w.failures, v.Error)
		}
		w.ended(v)
	}
}

// status follows the layers that steps get from caches; layers of base images belong to sources.
// The ID of such a status is the layer, and BuildKit repeats it several times a second during the
// transfer (v0.34.2, util/pull/pullprogress/progress.go).
func (w *watch) status(s *client.VertexStatus) {
	if s.Vertex == w.exporter && s.Completed != nil {
		w.made = append(w.made, s.ID)
	}
	if v := w.vertices[s.Vertex]; v != nil {
		v.progressed(s)
	}
	d, err := digest.Parse(s.ID)
	if v := w.vertices[s.Vertex]; err != nil || v == nil || len(v.inputs) == 0 {
		return
	}
	bytes, known := w.fetches[d]
	if !known || s.Completed != nil {
		// BuildKit fetches few layers at once; the others wait at zero bytes.
		w.moved, w.since = s.Timestamp, 0
	}
	if s.Completed != nil {
		delete(w.fetches, d)
		return
	}
	w.fetches[d] = s.Current
	w.since += max(0, s.Current-bytes)
	limit := min(w.timeout, stall)
	switch {
	case w.since >= int64(limit.Seconds()*slowest):
		w.moved, w.since = s.Timestamp, 0
	case w.cancel != nil && s.Timestamp.Sub(w.moved) >= limit:
		w.cancel(fmt.Errorf("%w: %d bytes of its layers came in %s", cacheplan.ErrStalled, w.since, limit))
	}
}

// progressed follows a transfer or the like of a vertex.
func (v *vertex) progressed(s *client.VertexStatus) {
	if s.Completed != nil {
		delete(v.open, s.ID)
		return
	}
	if v.open == nil {
		v.open = map[string]bool{}
	}
	v.open[s.ID] = true
}

// awaitLayers cancels the solve when nothing is heard while the layers of a cached step are fetched; a step
// whose layers could not be had runs, and may be silent.
// BuildKit shows a transfer only when the store has answered (v0.34.2,
// util/pull/pullprogress/progress.go), so a store that does not answer shows by silence alone.
func (w *watch) awaitLayers(d digest.Digest, v *vertex) {
	started, limit := v.started, min(w.timeout, stall)
	var timer *time.Timer
	timer = time.AfterFunc(limit, func() {
		defer crash.Catch()
		w.mu.Lock()
		defer w.mu.Unlock()
		if v.completed || !v.started.Equal(started) || w.timers[d] != timer {
			return
		}
		if rest := limit - time.Since(w.heard); rest > 0 || len(v.open) > 0 {
			timer.Reset(max(rest, limit/8))
			return
		}
		w.cancel(fmt.Errorf("%w: no layer of %q came in %s", cacheplan.ErrStalled, v.name, limit))
	})
	w.timers[d] = timer
}

// partial are the layers of caches whose transfer has not ended. Call it after the solve.
func (w *watch) partial() []digest.Digest {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Collect(maps.Keys(w.fetches))
}

// failed are the errors of steps so far. BuildKit runs a step itself when it cannot get its layer from
// a cache of some types, so a build with such an error may succeed.
func (w *watch) failed() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Clone(w.failures)
}

// began detects the second start of the exporter: in the first it commits the image, in the second
// it pushes it.
func (w *watch) began(v *client.Vertex) {
	if v.Digest == w.exporter {
		w.begins++
	}
	if w.cancel != nil && strings.HasPrefix(v.Name, importing) {
		w.awaitImport(v.Digest)
	}
}

// awaitImport cancels the solve when an import does not end in time. The time begins when the scopes
// are read, since the gateway answers then.
func (w *watch) awaitImport(d digest.Digest) {
	v := w.vertices[d]
	var timer *time.Timer
	timer = time.AfterFunc(w.timeout, func() {
		defer crash.Catch()
		w.mu.Lock()
		defer w.mu.Unlock()
		if v.completed || w.timers[d] != timer {
			return
		}
		at := w.settled()
		if at.IsZero() {
			at = time.Now()
		}
		if rest := w.timeout - time.Since(at); rest > 0 {
			timer.Reset(rest)
			return
		}
		w.cancel(fmt.Errorf("%w: %s after %s (cache-timeout)", cacheplan.ErrImportHangs, strings.TrimPrefix(v.name, importing), w.timeout))
	})
	w.timers[d] = timer
}

func (w *watch) ended(v *client.Vertex) {
	if t := w.timers[v.Digest]; t != nil {
		t.Stop()
	}
}

// layersAt is when the layers existed, or otherwise.
func (w *watch) layersAt(otherwise time.Time) time.Time {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.existed.IsZero() {
		return otherwise
	}
	return w.existed
}

// content identifies the image that was made, as [run.made] does, before BuildKit answers: the statuses
// of its exporter name what it wrote (v0.34.2, exporter/containerimage/writer.go). Both texts are "" where
// they do not tell, as with several platforms.
func (w *watch) content() (content, manifest string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	manifests, configs := idsAfter("exporting manifest ", w.made), idsAfter("exporting config ", w.made)
	switch {
	case len(manifests) != 1 || len(configs) != 1:
		return "", ""
	case len(idsAfter("exporting manifest list ", w.made)) > 0:
		return manifests[0], manifests[0]
	}
	return configs[0], manifests[0]
}

// idsAfter are the digests in the statuses that have a prefix and then a digest.
func idsAfter(prefix string, statuses []string) (ids []string) {
	for _, s := range statuses {
		if d, ok := strings.CutPrefix(s, prefix); ok && digest.Digest(d).Validate() == nil {
			ids = append(ids, d)
		}
	}
	return ids
}

// Pushed implements [ahead.Steps]: it tells whether the image has been made, and its push has begun.
func (w *watch) Pushed() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.begins > 1
}

// importing is the beginning of the names of vertices that import caches
// (BuildKit v0.34.2, solver/llbsolver/bridge.go, loadResult).
const importing = "importing cache manifest from "

// imports are the ends of the imports. The entries are those that were sent, to which the client
// adds the digest of a cache in a directory. Call it after the solve.
func (w *watch) imports(sent []client.CacheOptionsEntry) []cacheplan.ImportEnd {
	w.mu.Lock()
	defer w.mu.Unlock()
	ends := make([]cacheplan.ImportEnd, len(sent))
	for n, e := range sent {
		if v := w.vertices[digest.FromString(importing+importID(e))]; v != nil {
			ends[n] = cacheplan.ImportEnd{Began: true, Ended: v.completed, Error: v.err}
		}
	}
	return ends
}

// importID is BuildKit's ID of an import: its reference, or a hash of all its attributes (v0.34.2,
// solver/llbsolver/bridge.go, cmKey).
func importID(e client.CacheOptionsEntry) string {
	if e.Type == "registry" {
		return e.Attrs["ref"]
	}
	hash, err := hashstructure.Hash(gw.CacheOptionsEntry{Type: e.Type, Attrs: e.Attrs}, nil)
	if err != nil {
		return "" // never happens: hashing a map of strings succeeds
	}
	return fmt.Sprintf("%s:%d", e.Type, hash)
}
