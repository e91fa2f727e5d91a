package settings

import (
	"strings"

	"github.com/warmlayer/warmlayer/internal/syntax"
)

// Field describes one input. Its flags are --Name and -Short; its variables are INPUT_,
// PLUGIN_ and WARMLAYER_ followed by the name in upper case.
type Field struct {
	Name    string
	Short   string // one letter, as docker build has it; "": none
	Kind    syntax.Kind
	Default string   // the value when unset; "" when there is none
	Unset   string   // what unset means, in Markdown, where Default cannot say it
	Choices []string // the only values allowed; nil: any
	Help    string   // one or two sentences of Markdown for action.yml, docs/reference/inputs.md and --help
	Secret  bool     // items may hold every character except a newline
	Action  string   // default in action.yml: text with an expression of GitHub's
}

// Check validates the text of a value that is no list and returns its usual spelling.
func (f Field) Check(text string) (string, *syntax.Problem) {
	return syntax.Check(f.Kind, f.Choices, text)
}

// Sentence is the help and the choices, in Markdown.
func (f Field) Sentence() string {
	if f.Choices == nil {
		return f.Help
	}
	return f.Help + " One of `" + strings.Join(f.Choices, "`, `") + "`."
}

// Description is the sentence and what unset means, in Markdown.
func (f Field) Description() string {
	if unset := f.WhenUnset(); unset != "" {
		return f.Sentence() + " Default: " + unset
	}
	return f.Sentence()
}

// WhenUnset is what unset means, in Markdown; "": nothing to tell.
func (f Field) WhenUnset() string {
	if f.Default != "" {
		return "`" + f.Default + "`"
	}
	return f.Unset
}

// Variable is the input's variable outside of CIs: WARMLAYER_CACHE_KEY.
func (f Field) Variable() string {
	return ownPrefix + strings.ToUpper(strings.ReplaceAll(f.Name, "-", "_"))
}
