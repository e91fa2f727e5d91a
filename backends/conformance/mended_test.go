package conformance

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/service/s3"

	"github.com/warmlayer/warmlayer/internal/testkit"
)

// A blob of the right size with wrong bytes is found by the builder that extracts it. A remote builder's
// own export keeps blobs that are there, so the blob is removed before it, and the next build is warm.
func TestWrongBytesAreMended(t *testing.T) {
	t.Parallel()
	places := map[string]func(*testing.T) (line string, damage func() int){
		"s3": func(t *testing.T) (string, func() int) {
			server := testkit.StartS3(t)
			return server.Line(""), func() (n int) {
				for _, object := range server.Objects(t, "blobs/") {
					key, _, _ := strings.Cut(object, " ")
					head, err := server.Client.HeadObject(t.Context(), &s3.HeadObjectInput{Bucket: &server.Bucket, Key: &key})
					if err != nil {
						t.Fatal(err)
					}
					server.Write(t, key, strings.Repeat("x", int(*head.ContentLength)))
					n++
				}
				return n
			}
		},
		"local": func(t *testing.T) (string, func() int) {
			dir := t.TempDir()
			return "type=local,dest=" + dir, func() (n int) {
				files, _ := filepath.Glob(filepath.Join(dir, "blobs", "sha256", "*")) // the pattern is valid
				for _, file := range files {
					content, err := os.ReadFile(file)
					if err != nil {
						t.Fatal(err)
					}
					if content[0] != '{' { // a layer
						testkit.Write(t, file, strings.Repeat("x", len(content)))
						n++
					}
				}
				return n
			}
		},
	}
	for name, start := range places {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			line, damage := start(t)
			app := twoStages(t)
			build := func() testkit.Report {
				return testkit.Invocation{Dir: app, Branch: "main", Args: []string{
					"--cache", line, "--builder", testkit.StartBuildkitd(t), "--outputs", "type=oci,dest=" + filepath.Join(t.TempDir(), "out.tar"),
				}}.Build(t)
			}
			build()
			damaged := damage()
			testkit.Write(t, filepath.Join(app, "site", "index.txt"), "Changed\n")
			var outcomes []string
			warm, warned := false, false
			for range damaged + 2 { // a build finds one of them, if it extracts any
				r := build()
				outcomes = append(outcomes, r.Source("b-main"))
				for _, s := range r.Sources {
					warned = warned || s.Error != ""
				}
				if warm = r.Source("b-main") == "loaded" && r.Cached() == len(r.Steps); warm {
					break
				}
			}
			t.Logf("%d damaged blobs, sources %v", damaged, outcomes)
			if !warm || !warned {
				t.Errorf("sources %v, the last build warm: %t, a warning: %t", outcomes, warm, warned)
			}
		})
	}
}
