package cachegraph

import (
	"slices"
	"strings"
	"testing"
	"time"

	digest "github.com/opencontainers/go-digest"
	ocispecs "github.com/opencontainers/image-spec/specs-go/v1"
)

// stages is a config of two targets on one base: "app" and "docs", and of a step "tool" whose files the app
// copies. Each step has a layer; that of the tool is alone, and the others lie on the base's.
const stages = `{"layers":[{"blob":"BASE","parent":-1},{"blob":"TOOL","parent":-1},{"blob":"APP","parent":0},{"blob":"DOCS","parent":0}],
"records":[
	{"digest":"D0","layers":[{"layer":0,"createdAt":"2026-01-01T00:00:00Z"}]},
	{"digest":"D1","layers":[{"layer":1,"createdAt":"2026-01-01T00:00:00Z"}]},
	{"digest":"D2","inputs":[[{"link":0}],[{"link":1}]],"layers":[{"layer":2,"createdAt":"2026-01-01T00:00:00Z"}]},
	{"digest":"D3","inputs":[[{"link":0}]],"layers":[{"layer":3,"createdAt":"2026-01-01T00:00:00Z"}]}]
,"builds":[{"time":"2026-01-03T00:00:00Z","records":"CQ=="},{"time":"2026-01-02T00:00:00Z","records":"Bw=="}]}`

var stageNames = []string{"BASE", "TOOL", "APP", "DOCS", "D0", "D1", "D2", "D3"}

func stagesCache(t *testing.T, without ...string) Cache {
	t.Helper()
	text, layers := stages, []ocispecs.Descriptor{}
	for i, name := range stageNames {
		d := digest.FromString(name)
		text = strings.ReplaceAll(text, `"`+name+`"`, `"`+d.String()+`"`)
		if i < 4 && !slices.Contains(without, name) {
			layers = append(layers, ocispecs.Descriptor{Digest: d, Size: 1})
		}
	}
	c, err := Parse([]byte(text), layers)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func named(names ...string) (all []digest.Digest) {
	for _, n := range names {
		all = append(all, digest.FromString(n))
	}
	return all
}

// The part of a cache that leads to a result has the steps that the result needs, and no other.
func TestBehind(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name    string
		results [][]digest.Digest
		lost    string
		layers  []digest.Digest // nil: not found
		records int
	}{
		{"a target", [][]digest.Digest{named("BASE", "APP")}, "", named("BASE", "TOOL", "APP"), 3},
		{"another target", [][]digest.Digest{named("BASE", "DOCS")}, "", named("BASE", "DOCS"), 2},
		{"both", [][]digest.Digest{named("BASE", "DOCS"), named("BASE", "APP")}, "", named("BASE", "TOOL", "APP", "DOCS"), 4},
		{"a step before the last", [][]digest.Digest{named("BASE")}, "", named("BASE"), 1},
		{"a layer that another step needs is lost", [][]digest.Digest{named("BASE", "APP")}, "TOOL", named("BASE", "APP"), 3},
		{"its own layer is lost", [][]digest.Digest{named("BASE", "APP")}, "APP", nil, 0},
		{"one of two is unknown", [][]digest.Digest{named("BASE", "APP"), named("BASE", "OTHER")}, "", nil, 0},
		{"its layers in another order", [][]digest.Digest{named("APP", "BASE")}, "", nil, 0},
		{"an image without layers", [][]digest.Digest{nil}, "", nil, 0},
		{"no image", nil, "", nil, 0},
	} {
		part, ok := stagesCache(t, test.lost).Behind(test.results)
		if ok != (test.layers != nil) {
			t.Errorf("%s: found %t", test.name, ok)
			continue
		}
		var got []digest.Digest
		for _, l := range part.Layers {
			got = append(got, l.Digest)
		}
		if !slices.Equal(got, test.layers) || len(part.Config.Records) != test.records {
			t.Errorf("%s: %d records, layers %v", test.name, len(part.Config.Records), got)
		}
		if _, err := Parse(part.JSON, part.Layers); ok && err != nil {
			t.Errorf("%s: %v", test.name, err)
		}
	}
}

// A layer was used by the newest build that needs it, also below the layers of another step.
func TestUsed(t *testing.T) {
	t.Parallel()
	docs, app := time.Date(2026, 1, 3, 0, 0, 0, 0, time.UTC), time.Date(2026, 1, 2, 0, 0, 0, 0, time.UTC)
	used := stagesCache(t).Used()
	for name, want := range map[string]time.Time{"BASE": docs, "DOCS": docs, "TOOL": app, "APP": app} {
		if got := used[digest.FromString(name)]; !got.Equal(want) {
			t.Errorf("%s: %s, want %s", name, got, want)
		}
	}
	if n := len(used); n != 4 {
		t.Errorf("%d layers", n)
	}
}
