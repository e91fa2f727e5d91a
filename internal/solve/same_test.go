package solve_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/warmlayer/warmlayer/internal/testkit"
)

// withSecrets needs two secrets, and stores none of them.
const withSecrets = `FROM scratch AS base
ADD rootfs.tar /
FROM base AS first
RUN --mount=type=secret,id=token cat /run/secrets/token | wc -c > /length
FROM base
COPY --from=first /length /length
RUN --mount=type=secret,id=other test "$(cat /run/secrets/other)" = "of, two" && echo yes > /right
`

// TestSameAsBuildctl: one daemon makes the same image for warmlayer, with a cache, and for
// BuildKit's own client.
func TestSameAsBuildctl(t *testing.T) {
	t.Parallel()
	epoch := func(args ...string) []string { return append(args, "--opt", "build-arg:SOURCE_DATE_EPOCH=1") }
	tests := []struct {
		name   string
		file   string   // the Dockerfile; "": that of the app
		ours   []string // in addition to --tags and --push
		theirs []string
		output string // attributes of the image
	}{
		{name: "plain"},
		{name: "target", ours: []string{"--target", "pages"}, theirs: []string{"--opt", "target=pages"}},
		{
			name: "build arguments", file: "FROM scratch\nARG A B=b\nADD rootfs.tar /\nRUN echo $A $B > /args\nLABEL args=\"$A $B\"\n",
			ours:   []string{"--build-args", "A=x, y=z", "--build-args", "B=two\nlines"},
			theirs: []string{"--opt", "build-arg:A=x, y=z", "--opt", "build-arg:B=two\nlines"},
		},
		{
			name: "labels", ours: []string{"--labels", "a=b c", "--labels", `org.example.text="quoted"`},
			theirs: []string{"--opt", "label:a=b c", "--opt", `label:org.example.text="quoted"`},
		},
		{name: "platform", ours: []string{"--platforms", "linux/amd64"}, theirs: []string{"--opt", "platform=linux/amd64"}},
		{name: "secrets", file: withSecrets, ours: []string{"--secrets", "token=abc", "--secrets", "other=of, two"}, theirs: []string{"--secret", "id=token,src=SECRETS/token", "--secret", "id=other,src=SECRETS/other"}},
		{
			name: "no cache", output: ",rewrite-timestamp=true",
			ours: []string{"--no-cache", "--build-args", "SOURCE_DATE_EPOCH=1"}, theirs: epoch("--no-cache"),
		},
		{name: "Docker media types", output: ",oci-mediatypes=false"},
		{name: "zstd", output: ",compression=zstd,force-compression=true"},
		{name: "uncompressed", output: ",compression=uncompressed"},
		{name: "annotations", output: ",annotation.a=b,annotation-manifest.c=d"},
		{
			name: "reproducible", output: ",rewrite-timestamp=true",
			ours: []string{"--build-args", "SOURCE_DATE_EPOCH=1"}, theirs: epoch(),
		},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			registry, daemon, app := testkit.StartRegistry(t).Host, testkit.StartBuildkitd(t), testkit.App(t)
			if test.file != "" {
				testkit.Write(t, filepath.Join(app, "Dockerfile"), test.file)
			}
			secrets := t.TempDir()
			testkit.Write(t, filepath.Join(secrets, "token"), "abc")
			testkit.Write(t, filepath.Join(secrets, "other"), "of, two")
			for i := range test.theirs {
				test.theirs[i] = strings.ReplaceAll(test.theirs[i], "SECRETS", secrets)
			}
			ours := build(app, slices.Concat(test.ours, []string{
				"--builder", daemon, "--cache", "type=registry,ref=" + registry + "/cache",
				"--outputs", "type=image,push=true,name=" + registry + "/ours:v1" + test.output,
			})...).Build(t)
			theirs := buildctl(t, daemon, app, append(test.theirs, "--output", "type=image,push=true,name="+registry+"/theirs:v1"+test.output)...)
			if ours.Outcome(t) != "written" || ours.Digest == "" || ours.Digest != theirs {
				t.Errorf("export %s, image %s, buildctl's image %s", ours.Outcome(t), ours.Digest, theirs)
			}
		})
	}
}

// buildctl builds with BuildKit's own client, and returns the digest of the image.
func buildctl(t *testing.T, daemon, app string, args ...string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "metadata.json")
	testkit.Buildctl(t, daemon, app, append(args, "--metadata-file", file)...)
	content, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var metadata map[string]any
	if err := json.Unmarshal(content, &metadata); err != nil {
		t.Fatal(err)
	}
	digest, _ := metadata["containerimage.digest"].(string)
	return digest
}

// TestSameFiles: outputs that are files have the same content as buildctl's.
func TestSameFiles(t *testing.T) {
	t.Parallel()
	daemon, app := testkit.StartBuildkitd(t), testkit.App(t)
	// Archives contain the time of their creation.
	ours := []string{"--builder", daemon, "--cache", "type=local,dest=" + filepath.Join(testkit.Temp(t), "cache"), "--build-args", "SOURCE_DATE_EPOCH=1"}
	theirs := []string{"--opt", "build-arg:SOURCE_DATE_EPOCH=1"}
	for _, kind := range []string{"local", "tar", "oci", "docker"} {
		t.Run(kind, func(t *testing.T) {
			dir := testkit.Temp(t)
			a, b := filepath.Join(dir, "ours"), filepath.Join(dir, "theirs")
			build(app, append(ours, "--outputs", "type="+kind+",dest="+a)...).Build(t)
			testkit.Buildctl(t, daemon, app, append(theirs, "--output", "type="+kind+",dest="+b)...)
			sameFiles(t, a, b)
		})
	}
	t.Run("tar to standard output", func(t *testing.T) {
		dir := testkit.Temp(t)
		a, b := filepath.Join(dir, "ours"), filepath.Join(dir, "theirs")
		cmd, _ := build(app, append(ours, "--outputs", "type=tar,dest=-")...).Command(t)
		out, err := os.Create(a)
		if err != nil {
			t.Fatal(err)
		}
		defer out.Close()
		cmd.Stdout = out
		if err := cmd.Run(); err != nil {
			t.Fatal(err)
		}
		testkit.Buildctl(t, daemon, app, append(theirs, "--output", "type=tar,dest="+b)...)
		sameFiles(t, a, b)
	})
}

func sameFiles(t *testing.T, ours, theirs string) {
	t.Helper()
	if a, b := testkit.Files(t, ours), testkit.Files(t, theirs); a != b || !strings.Contains(a, "\n") {
		t.Errorf("ours:\n%s\ntheirs:\n%s", a, b)
	}
}
