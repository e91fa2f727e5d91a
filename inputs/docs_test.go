package inputs

import (
	"flag"
	"os"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"

	"github.com/warmlayer/warmlayer/internal/syntax"
)

var update = flag.Bool("update", false, "write the golden files")

func TestUsage(t *testing.T) {
	t.Parallel()
	const golden = "testdata/usage.txt"
	if *update {
		if err := os.WriteFile(golden, []byte(Usage()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if Usage() != string(want) {
		t.Errorf("--help differs from %s; run go test ./inputs -update and look at the difference", golden)
	}
}

// What GitHub reads from action.yml is the table. Only the token has a default there:
// any other would hide what other sources say.
func TestActionYAML(t *testing.T) {
	t.Parallel()
	content, err := os.ReadFile("../action.yml")
	if err != nil {
		t.Fatal(err)
	}
	var action struct {
		Name, Description, Author string
		Inputs                    map[string]map[string]any
		Outputs                   map[string]map[string]any
		Runs                      struct{ Using, Image string }
	}
	if err := yaml.Unmarshal(content, &action); err != nil {
		t.Fatal(err)
	}
	if len(action.Inputs) != len(Fields) || len(action.Outputs) != len(StepOutputs) || action.Runs.Using != "docker" {
		t.Errorf("%d inputs, %d outputs, using %q", len(action.Inputs), len(action.Outputs), action.Runs.Using)
	}
	for _, f := range Fields {
		in := action.Inputs[f.Name]
		description, _ := in["description"].(string)
		if !strings.HasPrefix(description, f.Help) {
			t.Errorf("%s is described as %q", f.Name, description)
		}
		var want any
		if f.Name == "github-token" {
			want = "${{ github.token }}"
		}
		if in["default"] != want {
			t.Errorf("%s has the default %v, want %v", f.Name, in["default"], want)
		}
	}
}

// Every default and every row of the table is well-formed.
func TestFields(t *testing.T) {
	t.Parallel()
	seen := map[string]bool{}
	for _, f := range Fields {
		if seen[f.Name] || !syntax.IsName(f.Name) || inputName(f.Name) != f.Name {
			t.Errorf("%q is not a name, or there twice", f.Name)
		}
		seen[f.Name] = true
		if !strings.HasSuffix(f.Help, ".") || strings.Contains(f.Help, "|") || strings.Contains(f.Help, "\n") {
			t.Errorf("the help of %s is not one sentence of a table: %s", f.Name, f.Help)
		}
		if f.Default == "" || f.Kind.List() {
			continue
		}
		if _, problem := f.check(f.Default); problem != nil {
			t.Errorf("the default of %s: %s", f.Name, problem)
		}
	}
}
