package checks

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/warmlayer/warmlayer/internal/cachespec"
)

// Every type of cache has what CONTRIBUTING.md promises: a file with its config, a file with its
// backend, and a harness for each way to write it.
func TestCacheHasItsFiles(t *testing.T) {
	t.Parallel()
	const root = "." // where the checks run
	var harnesses []string
	files, err := filepath.Glob(filepath.Join(root, "backends", "conformance", "*_test.go"))
	if err != nil {
		t.Fatal(err)
	}
	harness := regexp.MustCompile(`(?m)^func Test(\w+)\(t \*testing\.T\) \{\n\tt\.Parallel\(\)\n\tconform\(`)
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, found := range harness.FindAllStringSubmatch(string(text), -1) {
			harnesses = append(harnesses, strings.ToLower(found[1]))
		}
	}
	for _, name := range cachespec.Types(cachespec.To) {
		for _, room := range []string{"internal/cachespec", "backends"} {
			if _, err := os.Stat(filepath.Join(root, filepath.FromSlash(room), name+".go")); err != nil {
				t.Error(err)
			}
		}
		for _, way := range []string{name, name + "remote"} {
			if !slices.Contains(harnesses, way) {
				t.Errorf("no harness Test%s in backends/conformance", way)
			}
		}
	}
}
