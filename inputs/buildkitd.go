package inputs

import (
	"errors"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"

	"github.com/moby/buildkit/cmd/buildkitd/config"
	"github.com/pelletier/go-toml/v2"

	"github.com/warmlayer/warmlayer/internal/syntax"
)

// daemonConfig reads buildkitd-config or buildkitd-config-inline: a buildkitd.toml (v0.33.1,
// cmd/buildkitd/config). Paths of certificates in it start from the working directory,
// as buildx has them (v0.37.0, util/confutil); they are made absolute, since a daemon has
// another one. What decides where a daemon of ours lives and listens is overridden
// by its flags.
func (p *parser) daemonConfig() string {
	file, inline := p.ours("buildkitd-config"), p.ours("buildkitd-config-inline")
	input, text := "buildkitd-config-inline", p.settings["buildkitd-config-inline"].text
	switch {
	case file && inline:
		p.report("buildkitd-config", 0, "it stands beside buildkitd-config-inline", "leave one of them out")
		return ""
	case file:
		input = "buildkitd-config"
		name, ok := p.here(input, 0, p.value(input))
		if !ok {
			return ""
		}
		content, err := os.ReadFile(locate(p.dir, name))
		if err != nil {
			p.report(input, 0, fileProblem(err), "paths start from the working directory")
			return ""
		}
		text = string(content)
	case !inline:
		return ""
	}
	var c config.Config
	if !p.checkTOML(input, text, &c) {
		return ""
	}
	return p.absoluteTOML(input, text)
}

// fileProblem says why a file cannot be read, without its name.
func fileProblem(err error) string {
	var at *os.PathError
	if errors.As(err, &at) {
		return "the file cannot be read: " + at.Err.Error()
	}
	return "the file cannot be read"
}

// checkTOML decodes into c, and reports what is no TOML, and keys that buildkitd does
// not know, which it passes over in silence.
func (p *parser) checkTOML(input, text string, c *config.Config) bool {
	decoder := toml.NewDecoder(strings.NewReader(text))
	decoder.DisallowUnknownFields()
	err := decoder.Decode(c)
	var unknown *toml.StrictMissingError
	var broken *toml.DecodeError
	switch {
	case err == nil:
		return true
	case errors.As(err, &unknown):
		for _, e := range unknown.Errors {
			line, _ := e.Position()
			key := e.Key()
			p.report(input, line, syntax.Quoted(strings.Join(key, "."))+" is unknown to buildkitd", syntax.NearestHint(key[len(key)-1], configKeys()))
		}
	case errors.As(err, &broken):
		line, _ := broken.Position()
		p.report(input, line, "this is not what buildkitd reads: "+broken.Error(), "")
	default:
		p.report(input, 0, "this is not TOML", "")
	}
	return false
}

// configKeys are the last parts of the keys that buildkitd knows.
func configKeys() []string {
	var keys []string
	var walk func(reflect.Type)
	walk = func(t reflect.Type) {
		for t.Kind() == reflect.Pointer || t.Kind() == reflect.Map || t.Kind() == reflect.Slice {
			t = t.Elem()
		}
		if t.Kind() != reflect.Struct {
			return
		}
		for f := range t.Fields() {
			if key, _, _ := strings.Cut(f.Tag.Get("toml"), ","); key != "" && !slices.Contains(keys, key) {
				keys = append(keys, key)
			}
			walk(f.Type)
		}
	}
	walk(reflect.TypeFor[config.Config]())
	return keys
}

// absoluteTOML checks that the certificates of registries are there, and names them by
// absolute paths.
func (p *parser) absoluteTOML(input, text string) string {
	var tree map[string]any
	if err := toml.Unmarshal([]byte(text), &tree); err != nil {
		panic(err) // it was read before
	}
	registries, _ := tree["registry"].(map[string]any)
	changed := false
	for _, host := range slices.Sorted(maps.Keys(registries)) {
		registry, _ := registries[host].(map[string]any)
		changed = p.absolute(input, host, registry, "ca", "tlsconfigdir") || changed
		pairs, _ := registry["keypair"].([]any)
		for _, pair := range pairs {
			if pair, ok := pair.(map[string]any); ok {
				changed = p.absolute(input, host, pair, "key", "cert") || changed
			}
		}
	}
	if !changed {
		return text
	}
	absolute, err := toml.Marshal(tree)
	if err != nil {
		panic(err) // it was TOML before
	}
	return string(absolute)
}

// absolute makes the paths at some keys of a table absolute, and tells whether there
// were any.
func (p *parser) absolute(input, host string, table map[string]any, keys ...string) bool {
	found := false
	path := func(key, name string) string {
		found = true
		name, _ = p.mounts.Here(name)
		abs, err := filepath.Abs(locate(p.dir, name))
		if err == nil {
			_, err = os.Stat(abs)
		}
		if err != nil {
			p.report(input, 0, "registry "+syntax.Quoted(host)+": "+key+": "+fileProblem(err), "paths start from the working directory")
		}
		p.daemonFiles = append(p.daemonFiles, abs)
		return abs
	}
	for _, key := range keys {
		switch value := table[key].(type) {
		case string:
			table[key] = path(key, value)
		case []any:
			for i, element := range value {
				if name, ok := element.(string); ok {
					value[i] = path(key, name)
				}
			}
		}
	}
	return found
}
