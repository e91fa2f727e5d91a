package testkit

import (
	"os"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"
)

// KeysAt are the keys of a mapping in the first document of a YAML file.
func KeysAt(t testing.TB, file string, path ...string) map[string]any {
	t.Helper()
	content, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var at map[string]any
	if err := yaml.NewDecoder(strings.NewReader(string(content))).Decode(&at); err != nil {
		t.Fatalf("%s: %v", file, err)
	}
	for _, key := range path {
		at, _ = at[key].(map[string]any)
	}
	if len(at) == 0 {
		t.Fatalf("%s has nothing at %q", file, path)
	}
	return at
}
