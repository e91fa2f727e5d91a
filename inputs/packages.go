package inputs

import (
	"fmt"
	"slices"
	"strings"

	"github.com/warmlayer/warmlayer/internal/syntax"
)

// notInGitLab are the inputs that GitLab's component does not take: its inputs can be read
// by all who may see a pipeline, so no secrets; the variant decides about the builder, and
// the artifacts are where the report is.
var notInGitLab = []string{
	"secrets", "github-token", "password", "registry-auth", "builder-key",
	"builder", "report-dir",
}

// GitLabInputs is the inputs of the GitLab component, indented to stand under "inputs:".
// Where unset differs from every value, or the default is not a plain one, the input is text
// and empty by default, which is unset to [Parse].
// (docs.gitlab.com, "CI/CD inputs".)
func GitLabInputs() string {
	var b strings.Builder
	for _, f := range Fields {
		if slices.Contains(notInGitLab, f.Name) {
			continue
		}
		fmt.Fprintf(&b, "    %s:\n      description: %s\n", f.Name, yamlText(f.help()))
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

// GitLabVariables is what the component's job hands to the program, indented to stand under
// the job's "variables:".
func GitLabVariables() string {
	var b strings.Builder
	for _, f := range Fields {
		if !slices.Contains(notInGitLab, f.Name) {
			fmt.Fprintf(&b, "    %s: '$[[ inputs.%s ]]'\n", variable(ownPrefix, f.Name), f.Name)
		}
	}
	return b.String()
}

// variable is the one of a shell that sets an input: WARMLAYER_CACHE_KEY.
func variable(prefix, name string) string {
	return prefix + strings.ToUpper(strings.ReplaceAll(name, "-", "_"))
}

// BuildkiteYAML is the properties of the Buildkite plugin's configuration, a JSON Schema,
// indented to stand under "properties:". A list is text or an array; in one of Entries an
// element may be an object of attributes, and one of Lines may itself be an object.
func BuildkiteYAML() string {
	var b strings.Builder
	for _, f := range Fields {
		fmt.Fprintf(&b, "    %s:\n      description: %s\n", f.Name, yamlText(f.help()))
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
