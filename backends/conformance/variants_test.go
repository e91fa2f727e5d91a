package conformance

import (
	"path/filepath"
	"testing"

	"github.com/warmlayer/warmlayer/internal/testkit"
)

// variants: the builds of one scope do not replace each other, whether they differ in their build
// arguments (moby/buildkit#2299), their target (moby/buildkit#3925) or, as after a revert, their
// files. Everything that was built once is cached the second time.
func (s suite) variants(t *testing.T) {
	app := testkit.App(t)
	testkit.Write(t, filepath.Join(app, "Dockerfile"), `FROM scratch AS deps
ADD rootfs.tar /
ARG V=0
RUN echo "dependencies $V" > /deps
FROM deps AS build
COPY site site
RUN cat site/*.txt > /index.html
`)
	c := s.h.open(t)
	original, changed := "Original\n", "Changed\n"
	site := filepath.Join(app, "site", "index.txt")
	testkit.Write(t, site, original)
	matrix := [][]string{{"--build-args", "V=1"}, {"--build-args", "V=2"}, {"--target", "deps"}, {"--target", "build"}}
	for _, args := range matrix {
		if r := s.run(t, c, app, "main", args...).Build(t); r.Outcome(t) != "written" {
			t.Errorf("%q: export %v", args, r.Exports)
		}
	}
	testkit.Write(t, site, changed)
	if r := s.run(t, c, app, "main", matrix[0]...).Build(t); r.Cached() == 0 || r.Cached() == len(r.Steps) {
		t.Errorf("a changed build: %d of %d steps cached", r.Cached(), len(r.Steps))
	}
	testkit.Write(t, site, original)
	for _, args := range matrix {
		allCached(t, s.run(t, c, app, "main", args...).Build(t))
	}
}
