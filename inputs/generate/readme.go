package main

import (
	"fmt"
	"strings"

	"github.com/warmlayer/warmlayer/inputs"
)

// table is the inputs as a Markdown table, for docs/reference.
func table() string {
	var b strings.Builder
	b.WriteString("| input | meaning | default |\n| --- | --- | --- |\n")
	for _, f := range inputs.Fields {
		name := "`" + f.Name + "`"
		if f.Short != "" {
			name += ", `-" + f.Short + "`"
		}
		fmt.Fprintf(&b, "| %s | %s | %s |\n", name, f.Sentence(), f.WhenUnset())
	}
	return b.String()
}

// outputsTable is the step's outputs as a Markdown table, for docs/reference.
func outputsTable() string {
	var b strings.Builder
	b.WriteString("| output | meaning |\n| --- | --- |\n")
	for _, o := range inputs.StepOutputs {
		fmt.Fprintf(&b, "| `%s` | %s |\n", o.Name, o.Help)
	}
	return b.String()
}
