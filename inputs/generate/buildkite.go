package main

import (
	"fmt"
	"strings"

	"github.com/warmlayer/warmlayer/inputs"
	"github.com/warmlayer/warmlayer/internal/syntax"
)

// buildkiteYAML is the properties of the Buildkite plugin's configuration, a JSON Schema,
// indented to stand under "properties:". A list is text or an array; in one of Entries an
// element may be an object of attributes, and one of Lines may itself be an object.
func buildkiteYAML() string {
	var b strings.Builder
	for _, f := range inputs.Fields {
		fmt.Fprintf(&b, "    %s:\n      description: %s\n", f.Name, yamlText(f.Description()))
		if f.Choices != nil {
			fmt.Fprintf(&b, "      type: string\n      enum: [%s]\n", strings.Join(f.Choices, ", "))
			continue
		}
		for _, line := range schema(f.Kind) {
			b.WriteString("      " + line + "\n")
		}
	}
	return b.String()
}

// schema is the type of an input of this kind, as lines of YAML.
func schema(k syntax.Kind) []string {
	const scalars = "[string, number, boolean]"
	attributes := "{type: object, additionalProperties: {type: " + scalars + "}}"
	switch k {
	case syntax.Bool:
		return []string{"type: boolean"}
	case syntax.Int:
		return []string{"type: integer", "minimum: 0"}
	case syntax.Size:
		return []string{"type: [string, integer]"}
	case syntax.Words:
		return []string{"type: [string, array]", "items: {type: " + scalars + "}"}
	case syntax.Lines:
		return []string{"anyOf:", "  - {type: string}", "  - " + attributes, "  - {type: array, items: {anyOf: [{type: " + scalars + "}, " + attributes + "]}}"}
	case syntax.Entries:
		return []string{"anyOf:", "  - {type: string}", "  - " + attributes, "  - {type: array, items: {anyOf: [{type: string}, " + attributes + "]}}"}
	}
	return []string{"type: string"}
}
