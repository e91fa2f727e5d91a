package main

import (
	"fmt"
	"slices"
	"strings"

	"github.com/warmlayer/warmlayer/inputs"
	"github.com/warmlayer/warmlayer/internal/syntax"
)

// notInGitLab are the inputs that GitLab's component does not take: its inputs can be read
// by all who may see a pipeline, so no secrets; the variant decides about the builder, and
// the artifacts are where the report is.
var notInGitLab = []string{
	"secrets", "github-token", "password", "registry-auth", "builder-key",
	"builder", "report-dir",
}

// gitLabInputs is the inputs of the GitLab component, indented to stand under "inputs:".
// Where unset differs from every value, or the default is not a plain one, the input is text
// and empty by default, which is unset to [inputs.Parse].
// (docs.gitlab.com, "CI/CD inputs".)
func gitLabInputs() string {
	var b strings.Builder
	for _, f := range inputs.Fields {
		if slices.Contains(notInGitLab, f.Name) {
			continue
		}
		fmt.Fprintf(&b, "    %s:\n      description: %s\n", f.Name, yamlText(f.Description()))
		options := f.Choices
		switch {
		case f.Kind == syntax.Bool && f.Default != "":
			fmt.Fprintf(&b, "      type: boolean\n      default: %s\n", f.Default)
			continue
		case f.Kind == syntax.Bool:
			options = []string{"true", "false"}
		case f.Kind == syntax.Int:
			b.WriteString("      regex: '^[0-9]*$'\n")
		}
		if options != nil {
			fmt.Fprintf(&b, "      options: ['', '%s']\n", strings.Join(options, "', '"))
		}
		b.WriteString("      default: ''\n")
	}
	return b.String()
}

// gitLabVariables is what the component's job hands to the program, indented to stand under
// the job's "variables:".
func gitLabVariables() string {
	var b strings.Builder
	for _, f := range inputs.Fields {
		if !slices.Contains(notInGitLab, f.Name) {
			fmt.Fprintf(&b, "    %s: '$[[ inputs.%s ]]'\n", f.Variable(), f.Name)
		}
	}
	return b.String()
}
