package builderspec

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

// readConfig reads buildkitd-config or buildkitd-config-inline: a buildkitd.toml (v0.34.2,
// cmd/buildkitd/config). Paths of certificates in it start from the working directory, as
// buildx has them (v0.37.0, util/confutil). They are made absolute, since buildkitd runs in
// another directory, and returned too. The flags of a managed builder override what the
// configuration says about its directory and its socket.
func (r *reader) readConfig() (text string, files []string) {
	file, inline := r.forManaged("buildkitd-config", r.in.ConfigFile != ""), r.forManaged("buildkitd-config-inline", r.in.Config != "")
	input, text := "buildkitd-config-inline", r.in.Config
	switch {
	case file && inline:
		r.report("buildkitd-config", 0, "buildkitd-config-inline is set too", "set only one of them")
		return "", nil
	case file:
		input = "buildkitd-config"
		path, problem := r.machine.File(r.in.ConfigFile)
		if problem != nil {
			r.report(input, 0, problem.What, problem.Hint)
			return "", nil
		}
		content, err := os.ReadFile(path)
		if err != nil {
			r.report(input, 0, fileProblem(err), hintPath)
			return "", nil
		}
		text = string(content)
	case !inline:
		return "", nil
	}
	if !r.checkTOML(input, text) {
		return "", nil
	}
	return r.absoluteTOML(input, text)
}

const hintPath = "paths start from the working directory"

// fileProblem says why a file cannot be read, without its name.
func fileProblem(err error) string {
	var at *os.PathError
	if errors.As(err, &at) {
		return "the file cannot be read: " + at.Err.Error()
	}
	return "the file cannot be read"
}

// checkTOML reports what is not TOML, and keys that are unknown to buildkitd, which ignores them.
func (r *reader) checkTOML(input, text string) bool {
	decoder := toml.NewDecoder(strings.NewReader(text))
	decoder.DisallowUnknownFields()
	err := decoder.Decode(&config.Config{})
	var unknown *toml.StrictMissingError
	var broken *toml.DecodeError
	switch {
	case err == nil:
		return true
	case errors.As(err, &unknown):
		for _, e := range unknown.Errors {
			line, _ := e.Position()
			key := e.Key()
			r.report(input, line, syntax.Quoted(strings.Join(key, "."))+" is unknown to buildkitd", syntax.NearestHint(key[len(key)-1], configKeys()))
		}
	case errors.As(err, &broken):
		line, _ := broken.Position()
		r.report(input, line, "buildkitd cannot read this: "+broken.Error(), "")
	default:
		r.report(input, 0, "this is not TOML", "")
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

// absoluteTOML checks that the certificates of registries exist, and names them by absolute
// paths, which it returns too.
func (r *reader) absoluteTOML(input, text string) (absolute string, files []string) {
	var tree map[string]any
	if err := toml.Unmarshal([]byte(text), &tree); err != nil {
		panic(err) // checkTOML has read it
	}
	registries, _ := tree["registry"].(map[string]any)
	for _, host := range slices.Sorted(maps.Keys(registries)) {
		registry, _ := registries[host].(map[string]any)
		files = append(files, r.absolute(input, host, registry, "ca", "tlsconfigdir")...)
		pairs, _ := registry["keypair"].([]any)
		for _, pair := range pairs {
			if pair, ok := pair.(map[string]any); ok {
				files = append(files, r.absolute(input, host, pair, "key", "cert")...)
			}
		}
	}
	if len(files) == 0 {
		return text, nil
	}
	marshalled, err := toml.Marshal(tree)
	if err != nil {
		panic(err) // it was read from TOML
	}
	return string(marshalled), files
}

// absolute makes the paths at some keys of a registry's table absolute, and returns them.
func (r *reader) absolute(input, host string, table map[string]any, keys ...string) (files []string) {
	path := func(key, name string) string {
		file, _ := r.machine.File(name)
		abs, err := filepath.Abs(file)
		if err == nil {
			_, err = os.Stat(abs)
		}
		if err != nil {
			r.report(input, 0, "registry "+syntax.Quoted(host)+": "+key+": "+fileProblem(err), hintPath)
		}
		files = append(files, abs)
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
	return files
}
