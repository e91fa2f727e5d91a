// Package settings gathers the texts of inputs from their sources: flags, INPUT_* (GitHub), PLUGIN_* (Woodpecker, Drone),
// BUILDKITE_PLUGIN_CONFIGURATION (JSON) and WARMLAYER_*. What the texts mean is left to package inputs.
//
//	table := []settings.Field{{Name: "tags", Short: "t", Kind: syntax.Words}}
//	set, problems := settings.Read(table, nil, []string{"-t", "ghcr.io/o/app:1"}, os.Environ())
//	items, problem := set.Items("tags") // ghcr.io/o/app:1
package settings

import (
	"errors"
	"maps"
	"slices"
	"strings"

	"github.com/warmlayer/warmlayer/internal/syntax"
)

// Setting is the value of one input in a source: text, or the items of a list if the source
// keeps them apart.
type Setting struct {
	from  string // flag or variable, for messages
	text  string
	items []syntax.Item
}

func (s Setting) same(t Setting) bool {
	return s.text == t.text && slices.Equal(s.items, t.items)
}

// Set has the settings of inputs. An empty value is unset.
type Set struct {
	fields   []Field
	settings map[string]Setting // by input, of the first source that has it
}

// Read gathers the settings of all sources. They are read in the order of the package documentation, and the first one that sets an
// input wins. The argument without a flag is the input context. outputs are names of outputs: a variable WARMLAYER_ with such a
// name is ignored, since it comes from an earlier job, by GitLab's dotenv report.
func Read(fields []Field, outputs, args, environ []string) (Set, syntax.Problems) {
	r := &reader{Set: Set{fields, map[string]Setting{}}, outputs: outputs}
	r.readFlags(args)
	environ = slices.Sorted(slices.Values(environ))
	r.readVariables(environ, actionPrefix)
	r.readVariables(environ, pluginPrefix)
	for _, variable := range slices.Backward(environ) {
		if text, ok := strings.CutPrefix(variable, BuildkiteConfig+"="); ok {
			r.readBuildkite(text)
			break
		}
	}
	r.readVariables(environ, ownPrefix)
	return r.Set, r.problems
}

// Given reports whether an input is set.
func (s Set) Given(name string) bool {
	_, ok := s.settings[name]
	return ok
}

// Text is the text of an input that is no list, as it was given; "" where it is unset.
func (s Set) Text(name string) string { return s.settings[name].text }

// IsArgument reports whether an input was given by the argument without a flag.
func (s Set) IsArgument(name string) bool { return s.settings[name].from == argument }

// Without is the set without some inputs.
func (s Set) Without(names ...string) Set {
	kept := maps.Clone(s.settings)
	for _, name := range names {
		delete(kept, name)
	}
	return Set{s.fields, kept}
}

// With is the set with an input that has these items or, where it is no list, this text. from is where they stand, for messages.
// The name must be in the table.
func (s Set) With(name, from string, items ...string) Set {
	setting := Setting{from: from}
	if s.field(name).Kind.List() {
		for i, text := range items {
			setting.items = append(setting.items, syntax.Item{Line: i + 1, Text: text})
		}
	} else {
		setting.text = strings.Join(items, "\n")
	}
	added := maps.Clone(s.settings)
	added[name] = setting
	return Set{s.fields, added}
}

// Value is the value of an input that is not a list, in the usual spelling of its kind; without one, and with a problem, the default.
// The name must be in the table.
func (s Set) Value(name string) (string, *syntax.Problem) {
	f := s.field(name)
	given, ok := s.settings[name]
	if !ok {
		return f.Default, nil
	}
	text, problem := f.Check(given.text)
	if problem != nil {
		problem.Input = name
		return f.Default, problem
	}
	return text, nil
}

// Items are the items of a list, or those of its default.
func (s Set) Items(name string) ([]syntax.Item, *syntax.Problem) {
	f := s.field(name)
	given, ok := s.settings[name]
	if !ok {
		given.text = f.Default
	}
	if given.items != nil {
		return given.items, nil
	}
	items, err := syntax.Split(f.Kind, given.text)
	var at syntax.UnbalancedError
	if errors.As(err, &at) {
		return items, unbalanced(name, at.Line)
	}
	return items, nil
}

func unbalanced(input string, line int) *syntax.Problem {
	return &syntax.Problem{Input: input, Line: line, What: "quotes are not balanced", Hint: `close them, or write a quote inside quotes as ""`}
}

// field is the input called name, which must be one of the table.
func (s Set) field(name string) Field { return s.fields[s.position(name)] }

// position is the index of an input in the table, or -1.
func (s Set) position(name string) int {
	return slices.IndexFunc(s.fields, func(f Field) bool { return f.Name == name })
}

const (
	actionPrefix = "INPUT_"     // GitHub, Gitea and Forgejo; keeps hyphens
	pluginPrefix = "PLUGIN_"    // Woodpecker and Drone; hyphens and dots become underscores
	ownPrefix    = "WARMLAYER_" // everywhere

	argument = "the argument" // the positional one
)

// BuildkiteConfig is the variable with a Buildkite plugin's configuration.
const BuildkiteConfig = "BUILDKITE_PLUGIN_CONFIGURATION"

// reserved variables begin with one of the prefixes and are no inputs. GitHub uses args and
// entrypoint itself, and passes them to the container too. The others are of warmlayer's own tests.
var reserved = []string{"INPUT_ARGS", "INPUT_ENTRYPOINT", "WARMLAYER_REQUIRE", "WARMLAYER_SEED", "WARMLAYER_SOAK"}

// reader reads the sources.
type reader struct {
	Set
	outputs  []string
	problems syntax.Problems
}

func (r *reader) report(input string, line int, what, hint string) {
	r.problems = append(r.problems, syntax.Problem{Input: input, Line: line, What: what, Hint: hint})
}

// merge adds the settings of a source that comes after those already read.
func (r *reader) merge(source map[string]Setting) {
	for name, s := range source {
		if !r.Given(name) {
			r.settings[name] = s
		}
	}
}

// add puts a setting into a source. Two spellings of one input must have the same value.
func (r *reader) add(source map[string]Setting, name string, s Setting) {
	if first, ok := source[name]; ok && !first.same(s) {
		what := first.from + " and " + s.from + " disagree"
		if first.from == s.from {
			what = s.from + " is given twice and differs"
		}
		r.report(name, 0, what, "set only one of them")
		return
	}
	source[name] = s
}

// unknown reports an input that does not exist. shown is the user's spelling, and prefix is
// put before the suggestion: "--" for a flag.
func (r *reader) unknown(shown, name, prefix string) {
	pr := syntax.Problem{Input: shown, What: "there is no such input", Hint: "warmlayer --help lists the inputs"}
	if near := syntax.Nearest(name, r.names()); near != "" {
		pr.Hint = `did you mean "` + prefix + near + `"?`
	}
	r.problems = append(r.problems, pr)
}

func (r *reader) names() []string {
	all := make([]string, len(r.fields))
	for i, f := range r.fields {
		all[i] = f.Name
	}
	return all
}

// InputName turns CACHE_KEY or cache_key into cache-key.
func InputName(spelling string) string {
	return strings.ReplaceAll(strings.ToLower(spelling), "_", "-")
}
