package main

import (
	"fmt"
	"strings"

	"github.com/warmlayer/warmlayer/inputs"
)

// actionYAML is the inputs of action.yml, indented to stand under "inputs:". A default
// there hides what other sources say, since GitHub sets its variable. So only what a
// container cannot have otherwise has one: the job's token.
func actionYAML() string {
	var b strings.Builder
	for _, f := range inputs.Fields {
		fmt.Fprintf(&b, "  %s:\n    description: %s\n    required: false\n", f.Name, yamlText(f.Description()))
		if f.Action != "" {
			fmt.Fprintf(&b, "    default: %s\n", yamlText(f.Action))
		}
	}
	return b.String()
}

// outputsYAML is the outputs of action.yml, indented to stand under "outputs:".
func outputsYAML() string {
	var b strings.Builder
	for _, o := range inputs.StepOutputs {
		fmt.Fprintf(&b, "  %s:\n    description: %s\n", o.Name, yamlText(o.Help))
	}
	return b.String()
}

func yamlText(s string) string { return "'" + strings.ReplaceAll(s, "'", "''") + "'" }
