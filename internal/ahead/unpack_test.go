package ahead

import (
	"context"
	"errors"
	"slices"
	"sync"
	"testing"
	"testing/synctest"

	"github.com/moby/buildkit/client"
	"github.com/moby/buildkit/client/llb"
	gw "github.com/moby/buildkit/frontend/gateway/client"
	"github.com/moby/buildkit/solver/pb"
	digest "github.com/opencontainers/go-digest"
	fstypes "github.com/tonistiigi/fsutil/types"

	"github.com/warmlayer/warmlayer/internal/llbgraph"
)

// planned is the answer of a frontend.
type planned struct {
	gw.Reference
	def *llb.Definition
}

func (p planned) ToState() (llb.State, error) {
	op, err := llb.NewDefinitionOp(p.def.ToPB())
	return llb.NewState(op), err
}

// world is a builder, and what it says of the steps. Steps are called by their names.
type world struct {
	cached, running, unpacking []string
	found                      []string // cached, once it was asked for

	mu       sync.Mutex
	names    map[digest.Digest]string
	unpacked []string // in alphabetical order
	asked    int
}

func (w *world) Name(d digest.Digest) string    { return w.names[d] }
func (w *world) Executed(digest.Digest) bool    { return false }
func (w *world) Pushed() bool                   { return false }
func (w *world) Running(d digest.Digest) bool   { return slices.Contains(w.running, w.names[d]) }
func (w *world) Unpacking(d digest.Digest) bool { return slices.Contains(w.unpacking, w.names[d]) }
func (w *world) Time(string) func()             { return func() {} }
func (w *world) Export(context.Context, *llb.Definition, map[string]string) error {
	return errors.New("no image is asked for")
}

func (w *world) Cached(d digest.Digest) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Contains(w.cached, w.names[d])
}

func (w *world) Ask(ctx context.Context, ask func(context.Context, gw.Client)) error {
	ask(ctx, asker{world: w})
	return nil
}

// asker is the gateway's client of a world.
type asker struct {
	gw.Client
	gw.Reference
	world *world
	step  string
}

// Solve answers for cached steps, and never for others.
func (a asker) Solve(ctx context.Context, r gw.SolveRequest) (*gw.Result, error) {
	last := new(pb.Op)
	if err := last.Unmarshal(r.Definition.Def[len(r.Definition.Def)-1]); err != nil {
		return nil, err
	}
	a.step = a.world.names[digest.Digest(last.Inputs[0].Digest)]
	a.world.mu.Lock()
	a.world.asked++
	if slices.Contains(a.world.found, a.step) {
		a.world.cached = append(a.world.cached, a.step)
	}
	cached := slices.Contains(a.world.cached, a.step)
	a.world.mu.Unlock()
	if r.Evaluate && !cached {
		<-ctx.Done()
		return nil, ctx.Err()
	}
	result := gw.NewResult()
	result.SetRef(a)
	return result, nil
}

func (a asker) StatFile(context.Context, gw.StatRequest) (*fstypes.Stat, error) {
	a.world.mu.Lock()
	defer a.world.mu.Unlock()
	at, _ := slices.BinarySearch(a.world.unpacked, a.step)
	a.world.unpacked = slices.Insert(a.world.unpacked, at, a.step)
	return new(fstypes.Stat), nil
}

func (a asker) ToState() (llb.State, error) { return llb.State{}, nil }

func step(name string) llb.ConstraintsOpt { return llb.WithCustomName(name) }

// TestUnpack: what is unpacked while the steps of a build run.
func TestUnpack(t *testing.T) {
	t.Parallel()
	code := llb.Local("context", step("code"))
	base := llb.Image("base", step("base"))
	deps := base.Run(llb.Shlex("deps"), step("deps")).Root()
	source := deps.File(llb.Copy(code, "/", "/"), step("copy code"))
	made := source.Run(llb.Shlex("make"), step("make")).Root()
	other := llb.Image("runtime", step("runtime"))
	stands := other.Run(llb.Shlex("stand"), step("stand")).Root().File(llb.Copy(deps, "/deps", "/"), step("copy deps"))
	app := stands.File(llb.Copy(made, "/out", "/"), step("copy out"))
	for name, test := range map[string]struct {
		result   llb.State
		world    *world
		unpacked []string
	}{
		"a step runs":              {app, &world{running: []string{"copy code"}}, []string{"copy deps"}},
		"layers are unpacked":      {app, &world{unpacking: []string{"deps"}, cached: []string{"copy deps"}}, []string{"copy deps"}},
		"two steps are not cached": {app, &world{unpacking: []string{"deps"}}, nil},
		"one says it when asked":   {app, &world{unpacking: []string{"deps"}, found: []string{"copy deps"}}, []string{"copy deps"}},
		"the later step is cached": {app, &world{running: []string{"copy code"}, cached: []string{"copy out"}}, nil},
		"a step that runs later":   {app, &world{running: []string{"make"}}, []string{"copy deps"}},
		"an image":                 {other.File(llb.Copy(made, "/out", "/"), step("copy")), &world{running: []string{"make"}}, []string{"runtime"}},
		"the last step":            {app, &world{running: []string{"copy out"}}, nil},
		"one stage":                {made, &world{running: []string{"copy code"}}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				w := test.world
				a := begin(t, w, test.result, Options{Unpack: true})
				for range 2 { // the second time, nothing is new
					w.update(a)
					synctest.Wait()
				}
				a.End()
				if !slices.Equal(w.unpacked, test.unpacked) {
					t.Errorf("%v, want %v", w.unpacked, test.unpacked)
				}
			})
		})
	}
}

// TestUnpackNot: caches that lack layers are not asked for them, as a step would run that need not.
func TestUnpackNot(t *testing.T) {
	t.Parallel()
	w := &world{running: []string{"make"}}
	base := llb.Image("base", step("base"))
	a := begin(t, w, llb.Image("runtime", step("runtime")).File(llb.Copy(base.Run(llb.Shlex("make"), step("make")).Root(), "/", "/")), Options{})
	w.update(a)
	a.End()
	if w.asked > 0 {
		t.Errorf("asked for %d", w.asked)
	}
}

// update says something of every step.
func (w *world) update(a *Ahead) {
	var s client.SolveStatus
	for d := range w.names {
		s.Vertexes = append(s.Vertexes, &client.Vertex{Digest: d})
		s.Statuses = append(s.Statuses, &client.VertexStatus{Vertex: d})
	}
	a.Update(&s)
}

func begin(t *testing.T, w *world, state llb.State, o Options) *Ahead {
	t.Helper()
	def, err := state.Marshal(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	w.names = map[digest.Digest]string{}
	for d, m := range def.Metadata {
		w.names[d] = m.Description["llb.customname"]
	}
	result := gw.NewResult()
	result.SetRef(planned{def: def})
	a := Begin(t.Context(), w, w, o)
	graph, err := llbgraph.Read(t.Context(), result)
	if err != nil {
		t.Fatal(err)
	}
	a.Planned(graph)
	return a
}
