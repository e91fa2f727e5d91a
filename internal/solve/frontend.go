package solve

import (
	"bytes"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/distribution/reference"
	"github.com/moby/buildkit/frontend/dockerfile/parser"

	"github.com/warmlayer/warmlayer/inputs"
)

// official are the repositories of BuildKit's own Dockerfile frontend.
var official = []string{"docker.io/docker/dockerfile", "docker.io/docker/dockerfile-upstream"}

// maxDirectives is how much of a Dockerfile is read for its first lines.
const maxDirectives = 64 << 10

// StrangeFrontend names what would interpret the Dockerfile if that is not BuildKit's
// own frontend: "the frontend evil.example/fe", "the frontend of a Dockerfile that is not
// here". It is "" for BuildKit's own. A frontend is an image that the Dockerfile chooses
// with "# syntax=", or the build with BUILDKIT_SYNTAX; BuildKit hands it the attributes
// of cache imports, credentials included (v0.33.1, frontend/gateway).
func StrangeFrontend(in inputs.Values) string {
	syntax := in.Syntax
	if syntax == "" {
		if in.Remote && !filepath.IsAbs(in.File) {
			return "the frontend of a Dockerfile that is not here"
		}
		if syntax, _, _, _ = parser.DetectSyntax(directives(in)); syntax == "" {
			return ""
		}
	}
	name, _, _ := strings.Cut(strings.TrimSpace(syntax), " ")
	named, err := reference.ParseNormalizedNamed(name)
	if err == nil && slices.Contains(official, named.Name()) {
		return ""
	}
	return "the frontend " + name
}

// directives are the first bytes of the Dockerfile; none where it cannot be read,
// which the build will report.
func directives(in inputs.Values) []byte {
	file := in.File
	if file == "" {
		file = filepath.Join(resolve(in.Dir, in.Context), "Dockerfile")
	}
	f, err := os.Open(resolve(in.Dir, file))
	if err != nil {
		return nil
	}
	defer f.Close()
	var first bytes.Buffer
	_, _ = io.Copy(&first, io.LimitReader(f, maxDirectives))
	return first.Bytes()
}
