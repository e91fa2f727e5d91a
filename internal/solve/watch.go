package solve

import (
	"context"
	"errors"
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

	"github.com/warmlayer/warmlayer/backends"
	"github.com/warmlayer/warmlayer/internal/gateway"
)

// watch follows the status stream of one solve.
//
// Steps are the vertices with inputs: sources, loads, imports and exports have
// none. A hit is reported cached once, and may begin and end again, not cached,
// when its layers are unpacked for a later step; so once cached is always cached.
// A step that never began was not needed.
type watch struct {
	exporter digest.Digest // the first exporter's vertex
	layers   chan struct{} // closed when the layers of the result exist

	mu       sync.Mutex
	vertices map[digest.Digest]*vertex
	order    []digest.Digest
	begins   int                     // how often the exporter's vertex began
	existed  time.Time               // when layers was closed
	warnings []*client.VertexWarning // in the order of their lines; they come in any
	fetches  map[digest.Digest]int64 // bytes of each layer that is under way, or broke off
	moved    time.Time               // when one of them got further, by the daemon's clock
	within   time.Duration
	cancel   context.CancelCauseFunc // nil: nobody minds what takes long
	timers   map[digest.Digest]*time.Timer
}

type vertex struct {
	name      string
	inputs    []digest.Digest
	started   time.Time // the latest start
	first     time.Time
	spent     time.Duration
	cached    bool
	completed bool
	err       string
	log       []byte // the end of what it wrote
}

// maxLog is how many bytes of each step's log are kept.
const maxLog = 4 << 10

func newWatch(s *session.Session) *watch {
	return &watch{
		// BuildKit v0.33.1, solver/llbsolver/export.go, exporterVertexID.
		exporter: digest.FromString(s.ID() + "-export-0"),
		layers:   make(chan struct{}),
		vertices: map[digest.Digest]*vertex{},
		fetches:  map[digest.Digest]int64{},
		timers:   map[digest.Digest]*time.Timer{},
	}
}

// errHangs says that an import never ended. It blocks the scheduler of the whole
// daemon, and does not listen to a cancel. errStalls says that layers never came.
var (
	errHangs  = errors.New("the import hangs")
	errStalls = errors.New("the cache stalls")
)

// stall bounds the time in which not one byte of a layer comes.
const stall = time.Minute

// cachesWithin cancels the solve when the import of one cache takes longer than d, or
// no layer gets further for as long.
func (w *watch) cachesWithin(d time.Duration, cancel context.CancelCauseFunc) {
	w.within, w.cancel = d, cancel
}

// stop ends the timers.
func (w *watch) stop() {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, t := range w.timers {
		t.Stop()
	}
}

func (w *watch) update(s *client.SolveStatus) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, v := range s.Vertexes {
		w.vertex(v)
	}
	for _, status := range s.Statuses {
		w.status(status)
	}
	if len(s.Warnings) > 0 {
		w.warnings = append(w.warnings, s.Warnings...)
		slices.SortStableFunc(w.warnings, byLine)
	}
	for _, l := range s.Logs {
		if v := w.vertices[l.Vertex]; v != nil {
			v.log = append(v.log, l.Data...)
			v.log = v.log[max(0, len(v.log)-maxLog):]
		}
	}
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
	}
	known.cached = known.cached || v.Cached
	if v.Completed != nil && !known.completed {
		known.completed, known.err = true, v.Error
		known.spent += v.Completed.Sub(known.started)
		w.ended(v)
	}
}

// status follows the layers that steps get from caches; those of base images belong
// to sources. BuildKit names such a status by the layer, and repeats it several times
// a second as long as it fetches (v0.33.1, util/pull/pullprogress/progress.go).
func (w *watch) status(s *client.VertexStatus) {
	d, err := digest.Parse(s.ID)
	if v := w.vertices[s.Vertex]; err != nil || v == nil || len(v.inputs) == 0 {
		return
	}
	bytes, known := w.fetches[d]
	switch {
	case s.Completed != nil:
		delete(w.fetches, d)
		w.moved = s.Timestamp
	case !known || s.Current != bytes:
		// Few are fetched at once; the others wait for their turn with no byte.
		w.fetches[d], w.moved = s.Current, s.Timestamp
	case w.cancel != nil && s.Timestamp.Sub(w.moved) >= min(w.within, stall):
		w.cancel(fmt.Errorf("%w: no byte of its layers came for %s", errStalls, min(w.within, stall)))
	}
}

// brokenOff are the layers that have not come whole. It must be called after the solve.
func (w *watch) brokenOff() []digest.Digest {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Collect(maps.Keys(w.fetches))
}

// began notices the second start of the exporter: the first commits the image,
// the second pushes it.
func (w *watch) began(v *client.Vertex) {
	if v.Digest == w.exporter {
		w.begins++
		if w.begins == 2 {
			w.existed = time.Now()
			close(w.layers)
		}
	}
	if w.cancel != nil && strings.HasPrefix(v.Name, importing) {
		ref := strings.TrimPrefix(v.Name, importing)
		w.timers[v.Digest] = time.AfterFunc(w.within, func() {
			w.cancel(fmt.Errorf("%w: %s after %s (cache-timeout)", errHangs, ref, w.within))
		})
	}
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

func (w *watch) pushed() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.begins > 1
}

// importing begins the names of the vertices that import caches
// (BuildKit v0.33.1, solver/llbsolver/bridge.go, loadResult).
const importing = "importing cache manifest from "

// settle says of each source that was imported what came of it, and returns the
// imports that have not ended. The entries are those that were sent, to which the
// client adds the digest of a cache in a directory. It must be called after the solve.
func (w *watch) settle(imports []gateway.Import, sent []client.CacheOptionsEntry) (open []gateway.Import) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for n, i := range imports {
		v := w.vertices[digest.FromString(importing+importID(sent[n]))]
		if v == nil {
			continue
		}
		if !v.completed {
			open = append(open, i)
			continue
		}
		for _, s := range i.Sources {
			s.State, s.Err = imported(v.err)
		}
	}
	return open
}

// imported reads the end of an import. BuildKit's registry answers "not found" for
// what is not there; it is the one error that is no fault.
func imported(failure string) (backends.State, error) {
	switch {
	case failure == "":
		return backends.Loaded, nil
	case strings.HasSuffix(failure, ": not found"):
		return backends.Absent, errors.New(failure)
	}
	return backends.Failed, errors.New(failure)
}

// importID is how BuildKit names an import: by its reference, or by a hash of all
// its attributes (v0.33.1, solver/llbsolver/bridge.go, cmKey).
func importID(e client.CacheOptionsEntry) string {
	if e.Type == "registry" {
		return e.Attrs["ref"]
	}
	hash, err := hashstructure.Hash(gw.CacheOptionsEntry{Type: e.Type, Attrs: e.Attrs}, nil)
	if err != nil {
		return "" // maps of strings always hash
	}
	return fmt.Sprintf("%s:%d", e.Type, hash)
}
