package inputs

import (
	"fmt"
	"strings"

	"github.com/warmlayer/warmlayer/internal/syntax"
)

// Table is the inputs as a Markdown table, for docs/reference.
func Table() string {
	var b strings.Builder
	b.WriteString("| input | meaning | default |\n| --- | --- | --- |\n")
	for _, f := range Fields {
		fmt.Fprintf(&b, "| `%s` | %s | %s |\n", f.Name, f.sentence(), f.unset())
	}
	return b.String()
}

// OutputsTable is the step's outputs as a Markdown table, for docs/reference.
func OutputsTable() string {
	var b strings.Builder
	b.WriteString("| output | meaning |\n| --- | --- |\n")
	for _, o := range StepOutputs {
		fmt.Fprintf(&b, "| `%s` | %s |\n", o.Name, o.Help)
	}
	return b.String()
}

// ActionYAML is the inputs of action.yml, indented to stand under "inputs:". A default
// there hides what other sources say, since GitHub sets its variable. So only what a
// container cannot have otherwise has one: the job's token.
func ActionYAML() string {
	var b strings.Builder
	for _, f := range Fields {
		fmt.Fprintf(&b, "  %s:\n    description: %s\n    required: false\n", f.Name, yamlText(f.help()))
		if f.Action != "" {
			fmt.Fprintf(&b, "    default: %s\n", f.Action)
		}
	}
	return b.String()
}

// OutputsYAML is the outputs of action.yml, indented to stand under "outputs:".
func OutputsYAML() string {
	var b strings.Builder
	for _, o := range StepOutputs {
		fmt.Fprintf(&b, "  %s:\n    description: %s\n", o.Name, yamlText(o.Help))
	}
	return b.String()
}

// Usage is the flags with their help, for --help.
func Usage() string {
	var b strings.Builder
	for _, f := range Fields {
		fmt.Fprintf(&b, "  --%s%s\n", f.Name, placeholder(f.Kind))
		for _, line := range wrap(strings.ReplaceAll(f.help(), "`", ""), 70) {
			fmt.Fprintf(&b, "        %s\n", line)
		}
	}
	return b.String()
}

// placeholder stands for a flag's value; dots tell that the flag may be repeated.
func placeholder(k syntax.Kind) string {
	switch k {
	case syntax.Bool:
		return "[=false]"
	case syntax.Int:
		return " number"
	case syntax.Duration:
		return " duration"
	case syntax.Size:
		return " size"
	case syntax.Words, syntax.Lines, syntax.Entries:
		return " value ..."
	}
	return " value"
}

// sentence is the help and, unless it names them, the choices.
func (f Field) sentence() string {
	if f.Choices == nil {
		return f.Help
	}
	return f.Help + " One of `" + strings.Join(f.Choices, "`, `") + "`."
}

// help is the sentence and what unset means.
func (f Field) help() string {
	if unset := f.unset(); unset != "" {
		return f.sentence() + " Default: " + unset
	}
	return f.sentence()
}

// unset is what unset means, in Markdown.
func (f Field) unset() string {
	if f.Default != "" {
		return "`" + f.Default + "`"
	}
	return f.Unset
}

func yamlText(s string) string { return "'" + strings.ReplaceAll(s, "'", "''") + "'" }

// wrap breaks text into lines of at most width bytes, but never a word.
func wrap(text string, width int) []string {
	var lines []string
	line := ""
	for word := range strings.FieldsSeq(text) {
		if line != "" && len(line)+1+len(word) > width {
			lines = append(lines, line)
			line = ""
		}
		line = strings.TrimSpace(line + " " + word)
	}
	return append(lines, line)
}
