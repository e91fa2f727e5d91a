package settings

import (
	"slices"
	"strings"

	"github.com/warmlayer/warmlayer/internal/syntax"
)

// readVariables reads the variables that begin with prefix. Empty ones are unset.
func (r *reader) readVariables(environ []string, prefix string) {
	source := map[string]Setting{}
	for _, variable := range environ {
		key, value, _ := strings.Cut(variable, "=")
		rest, ok := strings.CutPrefix(key, prefix)
		value = strings.TrimSpace(value)
		if !ok || value == "" || slices.Contains(reserved, key) {
			continue
		}
		name := InputName(rest)
		at := r.position(name)
		if at < 0 && prefix == ownPrefix && slices.Contains(r.outputs, name) {
			continue
		}
		if at < 0 {
			r.unknown(key, name, "")
			continue
		}
		s := Setting{from: key, text: value}
		if prefix == pluginPrefix {
			s = r.pluginSetting(r.fields[at], s)
		}
		if s.text != "" || s.items != nil { // an empty list is unset
			r.add(source, name, s)
		}
	}
	r.merge(source)
}

// pluginSetting undoes what Woodpecker and Drone do to a list. A list of scalars arrives joined
// by commas without escaping, any other list as JSON. Newlines and semicolons separate items
// too. A comma separates entries only before "type=", and words everywhere.
func (r *reader) pluginSetting(f Field, s Setting) Setting {
	switch {
	case !f.Kind.List():
		return s
	case s.text[0] == '[' || s.text[0] == '{':
		return r.jsonSetting(f, s.from, []byte(s.text))
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
