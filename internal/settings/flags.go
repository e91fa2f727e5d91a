package settings

import (
	"fmt"
	"slices"
	"strings"

	"github.com/warmlayer/warmlayer/internal/syntax"
)

// readFlags reads the command line: flags, and at most one argument, the context.
func (r *reader) readFlags(args []string) {
	source := map[string]Setting{}
	for i := 0; i < len(args); i++ {
		arg := args[i]
		if !strings.HasPrefix(arg, "-") || arg == "-" {
			r.readArgument(source, arg, i+1)
			continue
		}
		spelling, value, hasValue := strings.Cut(arg, "=")
		f, ok := r.flag(spelling, i+1)
		switch {
		case !ok:
			continue
		case !hasValue && f.Kind == syntax.Bool:
			value = "true"
		case !hasValue && (i+1 == len(args) || r.isFlag(args[i+1])):
			r.report(f.Name, 0, spelling+" has no value", "write "+spelling+"=value")
			continue
		case !hasValue:
			i++
			value = args[i]
		}
		r.addFlag(source, f, value)
	}
	r.merge(source)
}

// isFlag tells a flag, such as --name or -t, from a value that begins with a hyphen.
func (r *reader) isFlag(arg string) bool {
	spelling, _, _ := strings.Cut(arg, "=")
	return strings.HasPrefix(arg, "--") || r.shortFlag(spelling) >= 0
}

// shortFlag is the index in the table of the input with a flag such as -t, or -1.
func (r *reader) shortFlag(spelling string) int {
	return slices.IndexFunc(r.fields, func(f Field) bool { return f.Short != "" && spelling == "-"+f.Short })
}

// flag finds the input of a flag by the flag's spelling without the value. n is the number of
// the argument.
func (r *reader) flag(spelling string, n int) (Field, bool) {
	if at := r.shortFlag(spelling); at >= 0 {
		return r.fields[at], true
	}
	name, long := strings.CutPrefix(spelling, "--")
	if !long || !syntax.IsName(name) {
		r.report("", 0, fmt.Sprintf("argument %d is not a flag", n), "flags are spelled as in warmlayer --help")
		return Field{}, false
	}
	if at := r.position(name); at >= 0 {
		return r.fields[at], true
	}
	r.unknown("--"+name, InputName(name), "--")
	return Field{}, false
}

// addFlag sets an input. Every flag of a list adds items to it.
func (r *reader) addFlag(source map[string]Setting, f Field, value string) {
	if strings.TrimSpace(value) == "" {
		return
	}
	if !f.Kind.List() {
		r.add(source, f.Name, Setting{from: "--" + f.Name, text: strings.TrimSpace(value)})
		return
	}
	s := source[f.Name]
	items, err := separate(f, value)
	if err != nil {
		r.problems = append(r.problems, *unbalanced(f.Name, len(s.items)+1))
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
func (r *reader) readArgument(source map[string]Setting, arg string, n int) {
	if first, ok := source["context"]; ok && first.from == argument {
		r.report("", 0, fmt.Sprintf("argument %d is unexpected", n), "the only argument is the context; everything else is a flag")
		return
	}
	r.add(source, "context", Setting{from: argument, text: arg})
}
