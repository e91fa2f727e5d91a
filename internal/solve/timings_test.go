package solve

import (
	"testing"
	"time"

	"github.com/moby/buildkit/client"
	digest "github.com/opencontainers/go-digest"

	"github.com/warmlayer/warmlayer/internal/timing"
)

// The parts of a build are its vertices: the exporter's second one is the push. A remote builder whose
// clock is an hour off has them at the times at which they were heard of.
func TestParts(t *testing.T) {
	t.Parallel()
	w := testWatch(t)
	clock := time.Now().Add(-time.Hour)
	load, run := digest.FromString("load"), digest.FromString("run")
	vertex := func(d digest.Digest, name string, from, to time.Duration, inputs ...digest.Digest) {
		began, ended := clock.Add(from), clock.Add(to)
		w.update(&client.SolveStatus{Vertexes: []*client.Vertex{{Digest: d, Name: name, Inputs: inputs, Started: &began, Completed: &ended}}})
	}
	before := time.Now()
	vertex(load, "[internal] load build context", 0, time.Second)
	vertex(run, "[2/2] RUN make", time.Second, 3*time.Second, load)
	vertex(w.exporter, "exporting to image", 3*time.Second, 4*time.Second)
	vertex(w.exporter, "exporting to image", 4*time.Second, 6*time.Second)

	own, remote := w.parts(true), w.parts(false)
	for i, want := range []struct {
		name string
		kind timing.Kind
		took time.Duration
	}{{"[internal] load build context", timing.Phase, time.Second}, {"[2/2] RUN make", timing.Step, 2 * time.Second}, {"exporting to image", timing.Phase, time.Second}, {"push", timing.Phase, 2 * time.Second}} {
		p := own[i]
		if p.Name != want.name || p.Kind != want.kind || p.End.Sub(p.Start) != want.took || remote[i].End.Sub(remote[i].Start) != want.took {
			t.Errorf("%+v, want %+v", p, want)
		}
	}
	if len(own[1].After) != 1 || own[1].After[0] != own[0].ID || !own[0].Start.Equal(clock) {
		t.Errorf("%+v", own[:2])
	}
	if last := remote[3].End; last.Before(before) || last.After(time.Now()) {
		t.Errorf("the push ended at %s, and was heard of between %s and now", last, before)
	}
}
