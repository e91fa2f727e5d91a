package solve

import (
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/moby/buildkit/client"
	provenance "github.com/moby/buildkit/solver/llbsolver/provenance/types"
	ocispecs "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/warmlayer/warmlayer/inputs"
	"github.com/warmlayer/warmlayer/internal/syntax"
	"github.com/warmlayer/warmlayer/internal/testkit"
)

// TestMetadata: the keys that docker buildx writes for an image, with their values.
func TestMetadata(t *testing.T) {
	t.Parallel()
	daemon, image := testkit.StartBuildkitd(t), testkit.StartRegistry(t).Host+"/app:v1"
	r := request(t, daemon, app(t, "FROM base as Second\nRUN true\n"))
	r.pushes(image)
	r.Inputs.MetadataProvenance, r.Inputs.MetadataWarnings = "max", true
	result := r.must(t)
	keys := slices.Sorted(maps.Keys(result.Metadata))
	want := []string{
		KeyProvenance, keyRef, KeyWarnings,
		"containerimage.config.digest", "containerimage.descriptor", "containerimage.digest", "image.name",
	}
	if !slices.Equal(keys, want) {
		t.Errorf("keys %v\nwant %v", keys, want)
	}
	if ref := strings.Split(result.Metadata[keyRef], "/"); len(ref) != 3 || ref[0] != "warmlayer" || ref[1] != "remote" || len(ref[2]) != 25 {
		t.Errorf("ref %v", ref)
	}
	if d := value[ocispecs.Descriptor](t, result, "containerimage.descriptor"); d.Digest != result.Digest || result.Digest == "" {
		t.Errorf("descriptor %v, image %s", d, result.Digest)
	}
	if result.ImageID.String() != result.Metadata["containerimage.config.digest"] {
		t.Errorf("image ID %s", result.ImageID)
	}
	if p := value[provenance.ProvenancePredicateSLSA02](t, result, KeyProvenance); p.BuildConfig == nil || p.Metadata == nil {
		t.Errorf("provenance %v", p)
	}
	if w := value[[]client.VertexWarning](t, result, KeyWarnings); len(w) != 2 || !strings.HasPrefix(string(w[0].Short)+string(w[1].Short), "StageNameCasing: ") && !strings.Contains(string(w[1].Short), "StageNameCasing: ") {
		t.Errorf("warnings %v", w)
	}

	r.Inputs.MetadataProvenance, r.Inputs.MetadataWarnings = "min", false
	result = r.must(t)
	if p := value[provenance.ProvenancePredicateSLSA02](t, result, KeyProvenance); p.BuildConfig != nil || p.Metadata != nil || p.BuildType == "" {
		t.Errorf("small provenance %v", p)
	}
	if result.Metadata[KeyWarnings] != "" {
		t.Error("warnings that were not requested")
	}

	r.Inputs.MetadataProvenance = "disabled"
	r.Inputs.Outputs = nil
	result = r.must(t)
	if keys := slices.Collect(maps.Keys(result.Metadata)); !slices.Equal(keys, []string{keyRef}) || result.ImageID != "" {
		t.Errorf("without an image: keys %v, image ID %s", keys, result.ImageID)
	}
}

// TestMetadataOfPlatforms: each platform has a provenance, and the image ID is the digest of the
// index.
func TestMetadataOfPlatforms(t *testing.T) {
	t.Parallel()
	dir := app(t, "")
	testkit.Write(t, filepath.Join(dir, "Dockerfile"), "FROM scratch\nCOPY site /site\n")
	r := request(t, testkit.StartBuildkitd(t), dir)
	r.pushes(testkit.StartRegistry(t).Host + "/app:v1")
	r.Inputs.MetadataProvenance, r.Inputs.Platforms = "min", []string{"linux/amd64", "linux/arm64"}
	result := r.must(t)
	for _, platform := range r.Inputs.Platforms {
		value[provenance.ProvenancePredicateSLSA02](t, result, KeyProvenance+"/"+platform)
	}
	if result.ImageID != result.Digest || result.Digest == "" {
		t.Errorf("image %s, its ID %s", result.Digest, result.ImageID)
	}
}

// scanner is an image that writes an empty SBOM (BuildKit, docs/attestations/sbom-protocol.md).
const scanner = `FROM base
RUN printf '%s\n' '#!/bin/sh' \
  'echo "{\"_type\":\"https://in-toto.io/Statement/v0.1\",\"predicateType\":\"https://spdx.dev/Document\",\"subject\":[],\"predicate\":{\"name\":\"found\"}}" > $BUILDKIT_SCAN_DESTINATION/found.spdx.json' \
  > /scan && chmod +x /scan
ENTRYPOINT ["/scan"]
`

// TestAttestations: attestations and annotations are in the pushed index, the cache is exported
// too, and a build without a change exports nothing.
func TestAttestations(t *testing.T) {
	t.Parallel()
	daemon, registry := testkit.StartBuildkitd(t), testkit.StartRegistry(t).Host
	scan := request(t, daemon, app(t, scanner))
	scan.pushes(registry + "/scanner:v1")
	scan.must(t)

	dir := app(t, "FROM base\nCOPY site /site\nRUN ls /site > /list\n")
	run := func() Result {
		r := request(t, daemon, dir)
		r.pushes(registry+"/app:v1", "annotation.a", "one", "annotation-index.b", "two", "annotation-manifest-descriptor.c", "three")
		r.Inputs.Attests = inputs.Attestations{
			{Type: "provenance", Attrs: []syntax.Pair{{Key: "mode", Value: "max"}}},
			{Type: "sbom", Attrs: []syntax.Pair{{Key: "generator", Value: registry + "/scanner:v1"}}},
		}
		r.caches(t, registry+"/app")
		return r.must(t)
	}
	first := run()
	if got := first.outcome(t); got != Written {
		t.Errorf("the first build's export: %s", got)
	}
	m := index(t, registry+"/app:v1")
	if len(m.Manifests) != 2 || m.Annotations["b"] != "two" || m.Manifests[0].Annotations["c"] != "three" {
		t.Fatalf("index %+v", m)
	}
	var kinds []string
	for _, l := range testkit.PushedManifest(t, registry+"/app@"+m.Manifests[1].Digest.String()).Layers {
		kinds = append(kinds, l.Annotations["in-toto.io/predicate-type"])
	}
	slices.Sort(kinds)
	if got := strings.Join(kinds, " "); !strings.HasPrefix(got, "https://slsa.dev/provenance/") || !strings.HasSuffix(got, " https://spdx.dev/Document") {
		t.Errorf("the attestations are %s", got)
	}
	second := run()
	if second.Digest == first.Digest {
		t.Error("both indexes are equal, so their times do not differ as the test requires")
	}
	if got := second.outcome(t); got != Unchanged {
		t.Errorf("the second build's export: %s", got)
	}
	testkit.Write(t, filepath.Join(dir, "site", "about.txt"), "changed")
	if got := run().outcome(t); got != Written {
		t.Errorf("a changed build's export: %s", got)
	}
}

// TestExportHasTheOptions: the cache of a build with many options is exported, and is found by the
// same build on an empty daemon.
func TestExportHasTheOptions(t *testing.T) {
	t.Parallel()
	registry := testkit.StartRegistry(t).Host
	more := t.TempDir()
	testkit.Write(t, filepath.Join(more, "file"), "more")
	dir := app(t, `FROM base AS last
COPY --from=more /file /
RUN --mount=type=secret,id=token test "$(cat /run/secrets/token)" = abc && cat /etc/hosts > /hosts
`)
	run := func(filters ...string) Result {
		r := request(t, testkit.StartBuildkitd(t), dir)
		r.pushes(registry + "/app:v1")
		r.Inputs.AddHosts = []syntax.Pair{{Key: "db", Value: "10.0.0.1"}}
		r.Inputs.BuildContexts = []inputs.Context{{Name: "more", Dir: more}}
		r.Inputs.Secrets = []inputs.Secret{{ID: "token", Value: "abc"}}
		r.Inputs.Ulimits, r.Inputs.ShmSize, r.Inputs.Network = []string{"nofile=99"}, 1<<20, "none"
		r.Inputs.NoCacheFilters = filters
		r.Proxies = map[string]string{"HTTP_PROXY": "http://proxy:1"}
		r.caches(t, registry+"/app")
		return r.must(t)
	}
	if got := run().outcome(t); got != Written {
		t.Fatalf("export: %s", got)
	}
	warm := run()
	for _, s := range warm.Steps {
		if !s.Cached {
			t.Errorf("not cached: %s", s.Name)
		}
	}
	if got := warm.outcome(t); got != Unchanged {
		t.Errorf("export without a change: %s", got)
	}
	// Steps that had to run again are exported without running once more.
	if got := run("last").outcome(t); got != Written {
		t.Errorf("export with no-cache-filters: %s", got)
	}
}
