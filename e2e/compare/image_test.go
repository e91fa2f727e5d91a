package compare

import (
	"encoding/json"
	"maps"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/remote"

	"github.com/warmlayer/warmlayer/internal/testkit"
)

// An artifact is what a name in a registry refers to.
type artifact struct {
	digest       v1.Hash
	images       map[string]v1.Hash       // by platform
	attestations map[string][]attestation // by platform
	annotations  map[string]string        // of the index; nil for an image without one
}

// attestation is an in-toto statement, and the part of it that is the same in every run.
type attestation struct {
	Type      string `json:"predicateType"`
	Predicate struct {
		BuildDefinition struct {
			BuildType  string
			External   map[string]any `json:"externalParameters"`
			Resolved   []any          `json:"resolvedDependencies"`
			Parameters map[string]any `json:"internalParameters"`
		} `json:"buildDefinition"`
		RunDetails struct {
			Builder struct {
				ID string `json:"id"`
			} `json:"builder"`
			Metadata map[string]any `json:"metadata"`
		} `json:"runDetails"`
	} `json:"predicate"`
}

// fetch reads an artifact of a registry; nil when it does not exist.
func fetch(t *testing.T, image string) *artifact {
	t.Helper()
	ref, err := name.ParseReference(image)
	if err != nil {
		t.Fatal(err)
	}
	got, err := remote.Get(ref)
	if err != nil {
		return nil
	}
	a := artifact{digest: got.Digest, images: map[string]v1.Hash{}, attestations: map[string][]attestation{}}
	if !got.MediaType.IsIndex() {
		a.images["the only one"] = got.Digest
		return &a
	}
	index, err := got.ImageIndex()
	if err != nil {
		t.Fatal(err)
	}
	manifest, err := index.IndexManifest()
	if err != nil {
		t.Fatal(err)
	}
	a.annotations = manifest.Annotations
	platforms := map[string]string{}
	for _, m := range manifest.Manifests {
		subject := m.Annotations["vnd.docker.reference.digest"]
		if subject == "" {
			platforms[m.Digest.String()] = m.Platform.String()
			a.images[m.Platform.String()] = m.Digest
			continue
		}
		a.attestations[platforms[subject]] = append(a.attestations[platforms[subject]], statements(t, index, m.Digest)...)
	}
	return &a
}

func statements(t *testing.T, index v1.ImageIndex, digest v1.Hash) []attestation {
	t.Helper()
	image, err := index.Image(digest)
	if err != nil {
		t.Fatal(err)
	}
	layers, err := image.Layers()
	if err != nil {
		t.Fatal(err)
	}
	var all []attestation
	for _, layer := range layers {
		r, err := layer.Uncompressed()
		if err != nil {
			t.Fatal(err)
		}
		var a attestation
		if err := json.NewDecoder(r).Decode(&a); err != nil {
			t.Fatal(err)
		}
		all = append(all, a)
	}
	return all
}

// sameImages requires equal images for each platform, the same annotations and the same metadata.
// Attestations must have the same types: their content differs between runs.
func sameImages(t *testing.T, theirs, ours run) {
	t.Helper()
	a, b := theirs.pushed, ours.pushed
	if a == nil || b == nil {
		t.Fatalf("pushed: %v and %v\n%s\n%s", a, b, theirs.text, ours.text)
	}
	if len(a.images) == 0 || !maps.Equal(a.images, b.images) {
		t.Errorf("images %v, buildx's %v", b.images, a.images)
	}
	if !maps.Equal(a.annotations, b.annotations) {
		t.Errorf("annotations %v, buildx's %v", b.annotations, a.annotations)
	}
	for platform, list := range a.attestations {
		if !slices.Equal(types(list), types(b.attestations[platform])) {
			t.Errorf("%s: attestations %v, buildx's %v", platform, types(b.attestations[platform]), types(list))
		}
	}
	if len(a.attestations) != len(b.attestations) {
		t.Errorf("attestations of %d platforms, buildx's of %d", len(b.attestations), len(a.attestations))
	}
	sameMetadata(t, theirs, ours)
}

func types(list []attestation) []string {
	var all []string
	for _, a := range list {
		all = append(all, a.Type)
	}
	slices.Sort(all)
	return all
}

// differing are the keys of metadata that differ between runs: an image with attestations has a new
// digest each time.
var differing = []string{"buildx.build.ref"}

// sameMetadata requires the same keys, and the same values where the image is the same.
func sameMetadata(t *testing.T, theirs, ours run) {
	t.Helper()
	a, b := slices.Sorted(maps.Keys(theirs.metadata)), slices.Sorted(maps.Keys(ours.metadata))
	if !slices.Equal(a, b) {
		t.Errorf("metadata %v, buildx's %v", b, a)
		return
	}
	for _, key := range a {
		x, y := encoded(t, theirs.metadata[key]), encoded(t, ours.metadata[key])
		if key == "buildx.build.warnings" {
			x, y = inOrder(t, theirs.metadata[key]), inOrder(t, ours.metadata[key])
		}
		attested := theirs.pushed != nil && len(theirs.pushed.attestations) > 0 && strings.HasPrefix(key, "containerimage.")
		x, y = sourceOf.ReplaceAllString(x, ""), sourceOf.ReplaceAllString(y, "")
		if x != y && !slices.Contains(differing, key) && !attested && !strings.HasPrefix(key, "buildx.build.provenance") {
			t.Errorf("metadata %s: %s, buildx's %s", key, y, x)
		}
	}
}

func encoded(t *testing.T, v any) string {
	t.Helper()
	raw, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(raw)
}

// inOrder encodes a list in a fixed order: buildx lists warnings in the order of their arrival.
func inOrder(t *testing.T, list any) string {
	t.Helper()
	var all []string
	for _, v := range list.([]any) {
		all = append(all, encoded(t, v))
	}
	slices.Sort(all)
	return strings.Join(all, "\n")
}

// sameFiles requires the same files in OUT, a directory or an archive.
func sameFiles(t *testing.T, theirs, ours run) {
	t.Helper()
	a, b := testkit.Files(t, theirs.out), testkit.Files(t, ours.out)
	if a != b || !strings.Contains(a, "\n") {
		t.Errorf("files:\n%s\nbuildx's:\n%s", b, a)
	}
	sameMetadata(t, theirs, ours)
}

// sameAnswer requires the same text on standard output, apart from the session's name.
func sameAnswer(t *testing.T, theirs, ours run) {
	t.Helper()
	a, b := sourceOf.ReplaceAllString(theirs.stdout, ""), sourceOf.ReplaceAllString(ours.stdout, "")
	if a != b || a == "" {
		t.Errorf("answer:\n%s\nbuildx's:\n%s\n%s", b, a, ours.text)
	}
}

// sourceOf matches what may differ in answers, warnings and descriptors: how the session sent the
// Dockerfile, its path, which buildx shows in full, and the time of an export.
var sourceOf = regexp.MustCompile(`(?s)"definition": ?\{.*?\}\s*\}\s*\}\s*\}|"org.opencontainers.image.created":"[^"]*"|"vertex":"sha256:[0-9a-f]*"|/\S*/app/`)

// sameFailure requires that both refuse or fail.
func sameFailure(t *testing.T, theirs, ours run) {
	t.Helper()
	if theirs.code == 0 || ours.code == 0 {
		t.Errorf("exit codes %d and %d", theirs.code, ours.code)
	}
}

// sameProvenance requires the same images, and provenance with the same fields.
func sameProvenance(t *testing.T, theirs, ours run) {
	t.Helper()
	sameImages(t, theirs, ours)
	for platform, list := range theirs.pushed.attestations {
		for i, a := range list {
			b := ours.pushed.attestations[platform][i]
			if x, y := shape(a), shape(b); x != y {
				t.Errorf("%s: provenance %s, buildx's %s", platform, y, x)
			}
		}
	}
}

// shape is the part of a provenance that is the same in the next build.
func shape(a attestation) string {
	d := a.Predicate.BuildDefinition
	keys := func(m map[string]any) string { return strings.Join(slices.Sorted(maps.Keys(m)), " ") }
	return strings.Join([]string{
		a.Type, d.BuildType, keys(d.External), keys(d.Parameters), keys(a.Predicate.RunDetails.Metadata), a.Predicate.RunDetails.Builder.ID,
	}, "; ")
}
