package llbgraph

import (
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/moby/buildkit/client/llb"
	digest "github.com/opencontainers/go-digest"
)

// graphOf is the graph of results, and the name of each of its operations.
func graphOf(t *testing.T, results ...llb.State) (Graph, map[digest.Digest]string) {
	t.Helper()
	g, names := empty(), map[digest.Digest]string{}
	for _, r := range results {
		def, err := r.Marshal(t.Context(), llb.LinuxAmd64)
		if err != nil {
			t.Fatal(err)
		}
		if err := g.add(def); err != nil {
			t.Fatal(err)
		}
		for d, m := range def.Metadata {
			names[d] = m.Description["llb.customname"]
		}
	}
	return g, names
}

func named(name string) llb.ConstraintsOpt { return llb.WithCustomName(name) }

// TestLayers: which steps' layers are in an image.
func TestLayers(t *testing.T) {
	t.Parallel()
	base := llb.Image("base", named("base"))
	deps := base.Run(llb.Shlex("install"), named("deps")).Root()
	tool := llb.Image("tool", named("tool")).File(llb.Mkfile("/tool", 0o755, nil), named("tool file"))
	made := deps.Run(llb.Shlex("make"), named("make"), llb.AddMount("/tool", tool, llb.Readonly)).Root()
	for name, test := range map[string]struct {
		result llb.State
		layers string
	}{
		"a copy":             {base.File(llb.Copy(made, "/out", "/app"), named("copy")), "base copy"},
		"two in one step":    {base.File(llb.Mkdir("/a", 0o755).Copy(made, "/out", "/a"), named("copy")), "base copy"},
		"a linked copy":      {llb.Merge([]llb.State{base, llb.Scratch().File(llb.Copy(made, "/out", "/app"), named("copy"))}, named("merge")), "base copy merge"},
		"a difference":       {llb.Diff(base, made, named("difference")), "base deps difference make"},
		"the step itself":    {made, "base deps make"},
		"what a step mounts": {base.Run(llb.Shlex("test"), named("test"), llb.AddMount("/tool", tool, llb.Readonly)).Root(), "base test"},
		"a mount's output": {
			base.Run(llb.Shlex("test"), named("test")).AddMount("/out", tool), "test tool tool file",
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			g, names := graphOf(t, test.result)
			var got []string
			for o := range g.Layers(g.Results...) {
				got = append(got, names[o.Step])
			}
			if slices.Sort(got); strings.Join(got, " ") != test.layers {
				t.Errorf("%v, want %s", got, test.layers)
			}
		})
	}
}

// TestDefinition: the LLB of an output has what it needs, and is the same LLB.
func TestDefinition(t *testing.T) {
	t.Parallel()
	base := llb.Image("base", named("base"))
	deps := base.Run(llb.Shlex("install"), named("deps")).Root()
	one := base.File(llb.Copy(deps, "/a", "/a"), named("one"))
	two := base.File(llb.Copy(deps.Run(llb.Shlex("make"), named("make")).Root(), "/b", "/b"), named("two"))
	g, names := graphOf(t, one, two)
	if len(g.Results) != 2 {
		t.Fatalf("%d results of two platforms", len(g.Results))
	}
	for d, name := range names {
		for _, o := range g.Outputs(d) {
			def, err := g.Definition(o)
			if err != nil {
				t.Fatal(err)
			}
			other := empty()
			if err := other.add(def); err != nil {
				t.Fatal(err)
			}
			if !slices.Equal(other.Results, []Output{o}) {
				t.Errorf("%s: the result is %v, want %v", name, other.Results, o)
			}
			all := map[string]string{"base": "base", "deps": "base deps", "make": "base deps make", "one": "base deps one", "two": "base deps make two"}
			var got []string
			for d := range maps.Keys(other.ops) {
				got = append(got, names[d])
			}
			if slices.Sort(got); strings.Join(got, " ") != all[name] {
				t.Errorf("%s: %v, want %s", name, got, all[name])
			}
		}
	}
}

// TestMeets: of the image's layers below an output, the topmost lead to all others.
func TestMeets(t *testing.T) {
	t.Parallel()
	shared := llb.Image("base", named("base")).Run(llb.Shlex("one"), named("one")).Run(llb.Shlex("two"), named("two")).Root()
	tools := shared.Run(llb.Shlex("install"), named("install")).Run(llb.Shlex("make"), named("make")).Root()
	alone := llb.Scratch().File(llb.Mkfile("/alone", 0o644, nil), named("alone"))
	image := shared.File(llb.Copy(tools, "/a", "/a").Copy(alone, "/b", "/b"), named("copy"))
	g, names := graphOf(t, image)
	images := g.Layers(g.Results...)
	want := map[string]string{"install": "two", "make": "two", "alone": "", "copy": "two", "two": "one"}
	for d, name := range names {
		expected, tested := want[name]
		for _, o := range g.Outputs(d) {
			var got []string
			for _, first := range g.Meets(o, images) {
				got = append(got, names[first.Step])
			}
			if tested && strings.Join(got, " ") != expected {
				t.Errorf("%s: %v, want %q", name, got, expected)
			}
		}
	}
}
