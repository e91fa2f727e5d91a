package solve_test

import (
	"path/filepath"
	"slices"
	"strings"
	"testing"

	digest "github.com/opencontainers/go-digest"

	"github.com/warmlayer/warmlayer/internal/testkit"
)

// withTools has a stage of which the image has the layers, one of which it has not, and one that
// stands on both.
const withTools = `FROM scratch AS base
ADD rootfs.tar /
RUN echo shared > /shared
FROM base AS tools
RUN echo tools > /tools
RUN echo more > /more
FROM base
RUN echo first > /first
COPY --from=tools /more /more
RUN echo last > /last
`

// TestCompressAhead: layers are compressed when their step has run and before the last one has, those of the
// image as the image's and the others as the cache's.
func TestCompressAhead(t *testing.T) {
	t.Parallel()
	for _, kind := range []string{"managed", "remote"} {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			registry, app := testkit.StartRegistry(t).Host, testkit.App(t)
			testkit.Write(t, filepath.Join(app, "Dockerfile"), withTools)
			image := registry + "/app:v1"
			cache := testkit.Cache{Line: "type=registry,ref=" + registry + "/app", Image: registry + "/app"}
			args := []string{"--cache", cache.Line, "--timings", "--tags", image, "--push"}
			if kind == "remote" {
				args = append(args, "--builder", testkit.StartBuildkitd(t))
			}
			cold := build(app, args...).Build(t)

			begun := map[string]float64{}
			for _, part := range cold.Timings {
				if _, known := begun[part.Name]; !known {
					begun[part.Name] = part.Start
				}
			}
			if start, ok := begun["compress [base 1/2] ADD rootfs.tar /"]; !ok || start > begun["exporting to image"] {
				t.Errorf("the first layer is compressed: %t, at %.2f s; all: %v", ok, start, begun)
			}
			if _, ok := begun["compress [tools 1/2] RUN echo tools > /tools"]; !ok {
				t.Errorf("the first layer that is the cache's is not compressed; all: %v", begun)
			}

			inImage := map[digest.Digest]bool{}
			for _, l := range testkit.PushedManifest(t, image).Layers {
				inImage[digest.Digest(l.Digest.String())] = true
				if !strings.HasSuffix(string(l.MediaType), "gzip") {
					t.Errorf("the image has a layer of type %s", l.MediaType)
				}
			}
			others := 0
			for _, l := range manifest(t, cache, "b-main").Layers {
				if inImage[l.Digest] {
					continue
				}
				if others++; !strings.HasSuffix(l.MediaType, "zstd") {
					t.Errorf("the cache has a layer of type %s, which is not the image's", l.MediaType)
				}
			}
			if others != 2 {
				t.Errorf("the cache has %d layers that are not the image's, want the 2 of tools", others)
			}
			allCached(t, build(app, args...).Build(t))
		})
	}
}

// standing has a stage that stands on a cached step, and needs another stage that runs.
const standing = `FROM scratch AS base
ADD rootfs.tar /
FROM base AS made
COPY code /code
RUN head -c 200000000 /dev/zero | md5sum > /made && cat /code >> /made
FROM base
RUN echo stand > /stand
COPY --from=made /made /made
`

// TestUnpackAhead: the layers that the last step stands on are unpacked while another stage runs.
func TestUnpackAhead(t *testing.T) {
	t.Parallel()
	for _, kind := range []string{"managed", "remote"} {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			registry, app := testkit.StartRegistry(t).Host, testkit.App(t)
			testkit.Write(t, filepath.Join(app, "Dockerfile"), standing)
			code := filepath.Join(app, "code")
			testkit.Write(t, code, "1")
			args := func() []string {
				all := []string{"--cache", "type=registry,ref=" + registry + "/app", "--timings", "--tags", registry + "/app:v1", "--push"}
				if kind == "remote" {
					all = append(all, "--builder", testkit.StartBuildkitd(t))
				}
				return all
			}
			build(app, args()...).Build(t)
			testkit.Write(t, code, "2")
			changed := build(app, args()...).Build(t)
			at, ends := slices.IndexFunc(changed.Timings, func(p testkit.Timing) bool {
				return strings.HasPrefix(p.Name, "unpack [stage-2 ")
			}), 0.0
			for _, p := range changed.Timings {
				if strings.Contains(p.Name, "RUN head") {
					ends = p.Start + p.Seconds
				}
			}
			if at < 0 || changed.Timings[at].Start > ends {
				t.Errorf("the layer is not unpacked before the step has run, at %.2f s: %v", ends, changed.Timings)
			}
			hits := 0
			for _, s := range changed.Steps {
				if s.Cached {
					hits++
				}
			}
			if hits != 2 {
				t.Errorf("%d steps are cached, want the 2 that do not need the code: %v", hits, changed.Steps)
			}
		})
	}
}
