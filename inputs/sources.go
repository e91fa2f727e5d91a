package inputs

import (
	"fmt"
	"slices"
	"strings"

	"github.com/warmlayer/warmlayer/internal/syntax"
)

// setting is the value of one input in a source: text, or the items of a list if the source
// keeps them apart.
type setting struct {
	from  string // flag or variable, for messages
	text  string
	items []syntax.Item
}

func (s setting) same(t setting) bool {
	return s.text == t.text && slices.Equal(s.items, t.items)
}

const (
	actionPrefix    = "INPUT_"     // GitHub, Gitea and Forgejo; keeps hyphens
	pluginPrefix    = "PLUGIN_"    // Woodpecker and Drone; hyphens and dots become underscores
	ownPrefix       = "WARMLAYER_" // everywhere
	buildkiteConfig = "BUILDKITE_PLUGIN_CONFIGURATION"

	argument = "the argument" // the positional one
)

// reserved variables begin with one of the prefixes and are no inputs. GitHub uses args and
// entrypoint itself, and passes them to the container too. The others are of warmlayer's own tests.
var reserved = []string{"INPUT_ARGS", "INPUT_ENTRYPOINT", "WARMLAYER_REQUIRE", "WARMLAYER_SEED", "WARMLAYER_SOAK"}

// read gathers the settings of all sources. The first source that has an input wins.
func (p *parser) read(args, environ []string) {
	p.readFlags(args)
	environ = slices.Sorted(slices.Values(environ))
	p.readVariables(environ, actionPrefix)
	p.readVariables(environ, pluginPrefix)
	p.readBuildkite(p.env[buildkiteConfig])
	p.readVariables(environ, ownPrefix)
}

// merge adds the settings of a source that comes after those already read.
func (p *parser) merge(source map[string]setting) {
	for name, s := range source {
		if _, ok := p.settings[name]; !ok {
			p.settings[name] = s
		}
	}
}

// add puts a setting into a source. Two spellings of one input must have the same value.
func (p *parser) add(source map[string]setting, name string, s setting) {
	if first, ok := source[name]; ok && !first.same(s) {
		what := first.from + " and " + s.from + " disagree"
		if first.from == s.from {
			what = s.from + " is given twice and differs"
		}
		p.report(name, 0, what, "set only one of them")
		return
	}
	source[name] = s
}

// unknown reports an input that does not exist. shown is the user's spelling, and prefix is
// put before the suggestion: "--" for a flag.
func (p *parser) unknown(shown, name, prefix string) {
	pr := syntax.Problem{Input: shown, What: "there is no such input", Hint: "warmlayer --help lists the inputs"}
	if near := syntax.Nearest(name, names()); near != "" {
		pr.Hint = `did you mean "` + prefix + near + `"?`
	}
	p.problems = append(p.problems, pr)
}

// inputName is the spelling that Fields has for a spelling of an input.
func inputName(spelling string) string {
	return strings.ReplaceAll(strings.ToLower(spelling), "_", "-")
}

// readVariables reads the variables that begin with prefix. Empty ones are unset.
func (p *parser) readVariables(environ []string, prefix string) {
	source := map[string]setting{}
	for _, variable := range environ {
		key, value, _ := strings.Cut(variable, "=")
		rest, ok := strings.CutPrefix(key, prefix)
		value = strings.TrimSpace(value)
		if !ok || value == "" || slices.Contains(reserved, key) {
			continue
		}
		name := inputName(rest)
		at := position(name)
		if at < 0 && prefix == ownPrefix && isOutput(name) {
			continue // an output of an earlier job, from GitLab's dotenv report
		}
		if at < 0 {
			p.unknown(key, name, "")
			continue
		}
		s := setting{from: key, text: value}
		if prefix == pluginPrefix {
			s = p.pluginSetting(Fields[at], s)
		}
		if s.text != "" || s.items != nil { // an empty list is unset
			p.add(source, name, s)
		}
	}
	p.merge(source)
}

// pluginSetting undoes what Woodpecker and Drone do to a list. A list of scalars arrives joined
// by commas without escaping, any other list as JSON. Newlines and semicolons separate items
// too. A comma separates entries only before "type=", and words everywhere.
func (p *parser) pluginSetting(f Field, s setting) setting {
	switch {
	case !f.Kind.List():
		return s
	case s.text[0] == '[' || s.text[0] == '{':
		return p.jsonSetting(f, s.from, []byte(s.text))
	case strings.Contains(s.text, "\n") || f.Secret:
		return s
	}
	text := strings.ReplaceAll(s.text, ";", "\n")
	if f.Kind == syntax.Entries {
		text = strings.ReplaceAll(text, ",type=", "\ntype=")
	}
	s.text = text
	return s
}

// readFlags reads the command line: flags, and at most one argument, the context.
func (p *parser) readFlags(args []string) {
	source := map[string]setting{}
	for i := 0; i < len(args); i++ {
		arg := args[i]
		if !strings.HasPrefix(arg, "-") || arg == "-" {
			p.readArgument(source, arg, i+1)
			continue
		}
		spelling, value, hasValue := strings.Cut(arg, "=")
		f, ok := p.flag(spelling, i+1)
		switch {
		case !ok:
			continue
		case !hasValue && f.Kind == syntax.Bool:
			value = "true"
		case !hasValue && (i+1 == len(args) || isFlag(args[i+1])):
			p.report(f.Name, 0, spelling+" has no value", "write "+spelling+"=value")
			continue
		case !hasValue:
			i++
			value = args[i]
		}
		p.addFlag(source, f, value)
	}
	p.merge(source)
}

// isFlag tells a flag, such as --name or -t, from a value that begins with a hyphen.
func isFlag(arg string) bool {
	spelling, _, _ := strings.Cut(arg, "=")
	return strings.HasPrefix(arg, "--") || shortFlag(spelling) >= 0
}

// shortFlag is the index in Fields of the input with a flag such as -t, or -1.
func shortFlag(spelling string) int {
	return slices.IndexFunc(Fields, func(f Field) bool { return f.Short != "" && spelling == "-"+f.Short })
}

// flag finds the input of a flag by the flag's spelling without the value. n is the number of
// the argument.
func (p *parser) flag(spelling string, n int) (Field, bool) {
	if at := shortFlag(spelling); at >= 0 {
		return Fields[at], true
	}
	name, long := strings.CutPrefix(spelling, "--")
	if !long || !syntax.IsName(name) {
		p.report("", 0, fmt.Sprintf("argument %d is not a flag", n), "flags are spelled as in warmlayer --help")
		return Field{}, false
	}
	if at := position(name); at >= 0 {
		return Fields[at], true
	}
	p.unknown("--"+name, inputName(name), "--")
	return Field{}, false
}

// addFlag sets an input. Every flag of a list adds items to it.
func (p *parser) addFlag(source map[string]setting, f Field, value string) {
	if strings.TrimSpace(value) == "" {
		return
	}
	if !f.Kind.List() {
		p.add(source, f.Name, setting{from: "--" + f.Name, text: strings.TrimSpace(value)})
		return
	}
	s := source[f.Name]
	items, err := separate(f, value)
	if err != nil {
		p.reportUnbalanced(f.Name, len(s.items)+1)
		return
	}
	for _, text := range items {
		s.items = append(s.items, syntax.Item{Line: len(s.items) + 1, Text: text})
	}
	source[f.Name] = s
}

// separate splits one element of a list whose elements arrive separately. An element of Lines
// is one item, with its newlines and quotes.
func separate(f Field, value string) ([]string, error) {
	if f.Kind == syntax.Lines {
		return []string{value}, nil
	}
	items, err := syntax.Split(f.Kind, value)
	texts := make([]string, len(items))
	for i, it := range items {
		texts[i] = it.Text
	}
	return texts, err
}

// readArgument reads argument number n, which is no flag: the context.
func (p *parser) readArgument(source map[string]setting, arg string, n int) {
	if first, ok := source["context"]; ok && first.from == argument {
		p.report("", 0, fmt.Sprintf("argument %d is unexpected", n), "the only argument is the context; everything else is a flag")
		return
	}
	p.add(source, "context", setting{from: argument, text: arg})
}
