package main

import (
	"os"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"

	"github.com/warmlayer/warmlayer/inputs"
)

// action.yml has the inputs of the table. Only the token has a default there: any other default
// would override the values of other sources.
func TestActionYAML(t *testing.T) {
	t.Parallel()
	content, err := os.ReadFile("../../action.yml")
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
	if len(action.Inputs) != len(inputs.Fields) || len(action.Outputs) != len(inputs.StepOutputs) || action.Runs.Using != "docker" {
		t.Errorf("%d inputs, %d outputs, using %q", len(action.Inputs), len(action.Outputs), action.Runs.Using)
	}
	for _, f := range inputs.Fields {
		in := action.Inputs[f.Name]
		description, _ := in["description"].(string)
		if !strings.HasPrefix(description, f.Help) {
			t.Errorf("%s is described as %q", f.Name, description)
		}
		var want any
		if f.Name == "github-token" {
			want = "default:${{ github.token }}"
		}
		if in["default"] != want {
			t.Errorf("%s has the default %v, want %v", f.Name, in["default"], want)
		}
	}
}
