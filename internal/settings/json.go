package settings

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/warmlayer/warmlayer/internal/syntax"
)

// hookKeys are the keys of the plugin's configuration that its hook reads.
var hookKeys = []string{"image", "privileged", "container-network", "pass", "volumes"}

// readBuildkite parses the plugin's configuration, which Buildkite passes as one JSON object:
// {"tags": ["o/app"], "push": true, "cache": [{"type": "inline"}]}.
func (r *reader) readBuildkite(text string) {
	if strings.TrimSpace(text) == "" {
		return
	}
	var object map[string]json.RawMessage
	if err := json.Unmarshal([]byte(text), &object); err != nil {
		r.report(BuildkiteConfig, 0, "this is not a JSON object", "")
		return
	}
	source := map[string]Setting{}
	for _, key := range slices.Sorted(maps.Keys(object)) {
		name := InputName(key)
		if slices.Contains(hookKeys, name) {
			continue
		}
		at := r.position(name)
		if at < 0 {
			if !isEmpty(object[key]) {
				r.unknown(shownKey(key), name, "")
			}
			continue
		}
		s := r.jsonSetting(r.fields[at], fmt.Sprintf("%q", key), object[key])
		if s.text != "" || s.items != nil {
			r.add(source, name, s)
		}
	}
	r.merge(source)
}

// jsonSetting reads one input's value. A list is an array or text; in it, an object
// is one entry of Entries, or the key=value items of Lines.
func (r *reader) jsonSetting(f Field, from string, raw []byte) Setting {
	s := Setting{from: from}
	value, err := decode(raw)
	if err != nil {
		r.report(f.Name, 0, "this is not JSON", "")
		return s
	}
	if text, ok := scalar(value); ok {
		s.text = strings.TrimSpace(text)
		return s
	}
	if f.Kind == syntax.Block {
		s.text = string(raw) // JSON is YAML
		return s
	}
	if !f.Kind.List() {
		r.report(f.Name, 0, "one value is expected, not a list", "")
		return s
	}
	elements, ok := value.([]any)
	if !ok {
		elements = []any{value}
	}
	for i, e := range elements {
		texts, err := element(f, e)
		if err != nil {
			r.report(f.Name, i+1, err.Error(), "")
		}
		for _, text := range texts {
			s.items = append(s.items, syntax.Item{Line: i + 1, Text: text})
		}
	}
	return s
}

// element turns one element of a JSON list into items.
func element(f Field, value any) ([]string, error) {
	if text, ok := scalar(value); ok {
		return separate(f, text)
	}
	object, ok := value.(map[string]any)
	if !ok || f.Kind == syntax.Words {
		return nil, errors.New("a list in a list is not supported")
	}
	var pairs []syntax.Pair
	for _, key := range slices.Sorted(maps.Keys(object)) {
		text, ok := scalar(object[key])
		if !ok {
			return nil, errors.New("its values must be text, numbers, true or false")
		}
		pairs = append(pairs, syntax.Pair{Key: key, Value: text})
	}
	if f.Kind == syntax.Entries {
		return []string{syntax.FormatEntry(pairs)}, nil
	}
	lines := make([]string, len(pairs))
	for i, pair := range pairs {
		lines[i] = pair.Key + "=" + pair.Value
	}
	return lines, nil
}

// decode reads JSON and keeps numbers as they are spelled.
func decode(raw []byte) (any, error) {
	d := json.NewDecoder(bytes.NewReader(raw))
	d.UseNumber()
	var value any
	if err := d.Decode(&value); err != nil {
		return nil, fmt.Errorf("decode JSON: %w", err)
	}
	if d.More() {
		return nil, errors.New("decode JSON: more than one value")
	}
	return value, nil
}

// scalar is the text of a string, number, true, false or null.
func scalar(value any) (string, bool) {
	switch v := value.(type) {
	case nil:
		return "", true
	case string:
		return v, true
	case json.Number:
		return v.String(), true
	case bool:
		return fmt.Sprint(v), true
	}
	return "", false
}

func isEmpty(raw []byte) bool {
	value, err := decode(raw)
	text, ok := scalar(value)
	return err == nil && ok && strings.TrimSpace(text) == ""
}

// shownKey is how a problem names an unknown key of the configuration.
func shownKey(key string) string {
	if syntax.IsName(InputName(key)) {
		return key
	}
	return BuildkiteConfig
}
