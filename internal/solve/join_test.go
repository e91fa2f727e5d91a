package solve_test

import (
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/authn"
	digest "github.com/opencontainers/go-digest"

	"github.com/warmlayer/warmlayer/internal/join"
	"github.com/warmlayer/warmlayer/internal/testkit"
)

const portable = "FROM scratch\nARG TARGETPLATFORM\nCOPY render.sh /\nLABEL platform=$TARGETPLATFORM\n"

// The joined images of two builders are the image that one builder makes for both platforms. Its
// repository may have a name of one letter.
func TestJoin(t *testing.T) {
	t.Parallel()
	registry, app := testkit.StartRegistry(t).Host, testkit.App(t)
	testkit.Write(t, filepath.Join(app, "Dockerfile"), portable)
	fixed := func(platform, output string) []string {
		return []string{
			"--opt", "build-arg:SOURCE_DATE_EPOCH=1", "--opt", "platform=" + platform,
			"--output", "type=image,push=true,rewrite-timestamp=true,name=" + registry + "/a" + output,
		}
	}
	whole := digest.Digest(buildctl(t, testkit.StartBuildkitd(t), app, fixed("linux/amd64,linux/arm64", ":one")...))
	j := join.Join{Names: []string{registry + "/a:v1", registry + "/a:latest"}, Keychain: authn.DefaultKeychain}
	for _, platform := range []string{"linux/amd64", "linux/arm64"} {
		part := buildctl(t, testkit.StartBuildkitd(t), app, fixed(platform, ",push-by-digest=true")...)
		j.Parts = append(j.Parts, digest.Digest(part))
	}
	desc, err := j.Push(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if desc.Digest != whole {
		t.Errorf("the joined image is %s, that of one builder %s", desc.Digest, whole)
	}
	j.Parts = append(j.Parts, digest.FromString("absent"))
	if _, err := j.Push(t.Context()); err == nil || !strings.Contains(err.Error(), digest.FromString("absent").String()) {
		t.Errorf("a missing part: %v", err)
	}
}
