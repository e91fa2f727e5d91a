package checks

import (
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"
)

// The files for CIs in the examples are valid, and use inputs that exist.
func TestFilesOfExamples(t *testing.T) {
	t.Parallel()
	k := knownNames(t)
	apps, err := filepath.Glob("examples/*/.github")
	if err != nil || len(apps) == 0 {
		t.Fatalf("%d examples; %v", len(apps), err)
	}
	for _, pattern := range []string{"examples/*/.github/workflows/image.yml", "examples/*/.github/workflows/prune.yml", "examples/*/.gitlab-ci.yml", "examples/*/.buildkite/pipeline.yml"} {
		files, err := filepath.Glob(pattern)
		if err != nil || len(files) != len(apps) {
			t.Errorf("%d files are %s; %v", len(files), pattern, err)
		}
		for _, file := range files {
			content, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			var document any
			d := yaml.NewDecoder(strings.NewReader(string(content)))
			if err := d.Decode(&document); err != nil {
				t.Errorf("%s: %v", file, err)
			}
			if found := k.check(t, document); found != 1 || !errors.Is(d.Decode(&document), io.EOF) {
				t.Errorf("%s uses the program %d times", file, found)
			}
		}
	}
}
