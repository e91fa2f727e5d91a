package bakefile

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/warmlayer/warmlayer/internal/syntax"
)

// Target is one build of a bake file.
type Target struct {
	Name        string
	Description string // "": none

	// Inputs are what the target says, by the name of warmlayer's input: the items of a list, or one text. Unset
	// ones are missing.
	Inputs map[string][]string
	// Dockerfile is the text of a Dockerfile in the bake file, for the input file "-"; "": there is none.
	Dockerfile string
	// Links are the named contexts that are other targets: the context's name, and the target's.
	Links []syntax.Pair
}

// attributes is a target as docker buildx bake --print shows it (v0.37.0, bake/bake.go), and the path of its Dockerfile.
type attributes struct {
	File string

	Description      string
	Annotations      []string
	Attest           []map[string]any
	Context          string
	Contexts         map[string]string
	DockerfileInline string `json:"dockerfile-inline"`
	Args             map[string]*string
	Labels           map[string]*string
	Tags             []string
	CacheFrom        []map[string]string `json:"cache-from"`
	CacheTo          []map[string]string `json:"cache-to"`
	Target           string
	Secret           []map[string]string
	SSH              []struct {
		ID    string
		Paths []string
	}
	Platforms     []string
	Output        []map[string]string
	Pull          *bool
	NoCache       *bool `json:"no-cache"`
	Network       string
	NoCacheFilter []string `json:"no-cache-filter"`
	ShmSize       string   `json:"shm-size"`
	Ulimits       []string
	Resources     any
	Call          string
	Entitlements  []string
	ExtraHosts    map[string]*string `json:"extra-hosts"`
	Policy        any
}

// targetPrefix begins the source of a context that is another target.
const targetPrefix = "target:"

// target turns attributes into inputs.
func (a attributes) target(name string) (Target, error) {
	t := Target{Name: name, Description: a.Description, Dockerfile: a.DockerfileInline, Inputs: map[string][]string{}}
	switch {
	case a.Resources != nil:
		return t, errors.New("resources are not supported: leave them out, or limit the builder with driver-opts")
	case a.Policy != nil:
		return t, errors.New("a policy is not supported: leave it out, or set EXPERIMENTAL_BUILDKIT_SOURCE_POLICY")
	}
	t.set("context", a.Context)
	t.set("file", a.File)
	if a.DockerfileInline != "" {
		t.Inputs["file"] = []string{"-"}
	}
	t.set("target", a.Target)
	t.set("network", a.Network)
	t.set("shm-size", a.ShmSize)
	t.set("call", a.Call)
	t.flag("pull", a.Pull)
	t.flag("no-cache", a.NoCache)
	t.add("build-args", pairs(a.Args)...)
	t.add("labels", pairs(a.Labels)...)
	t.add("add-hosts", pairs(a.ExtraHosts)...)
	t.add("tags", a.Tags...)
	t.add("platforms", a.Platforms...)
	t.add("no-cache-filters", a.NoCacheFilter...)
	t.add("ulimit", a.Ulimits...)
	t.add("allow", a.Entitlements...)
	t.add("annotations", a.Annotations...)
	t.add("cache-from", entries(a.CacheFrom)...)
	t.add("cache-to", entries(a.CacheTo)...)
	t.add("outputs", entries(a.Output)...)
	for _, secret := range a.Secret {
		secret["type"] = cmp.Or(secret["type"], "secret") // an entry with an id alone would be a file
	}
	t.add("secret-files", entries(a.Secret)...)
	t.addAttests(a.Attest)
	t.addContexts(a.Contexts)
	for _, s := range a.SSH {
		line := s.ID
		if len(s.Paths) > 0 {
			line += "=" + strings.Join(s.Paths, ",")
		}
		t.add("ssh", line)
	}
	return t, nil
}

func (t Target) set(input, text string) {
	if text != "" {
		t.Inputs[input] = []string{text}
	}
}

func (t Target) flag(input string, value *bool) {
	if value != nil {
		t.Inputs[input] = []string{strconv.FormatBool(*value)}
	}
}

func (t Target) add(input string, items ...string) {
	if len(items) > 0 {
		t.Inputs[input] = append(t.Inputs[input], items...)
	}
}

// addAttests adds attestations. Their attributes are texts, except disabled.
func (t Target) addAttests(attests []map[string]any) {
	for _, one := range attests {
		texts := map[string]string{}
		for key, value := range one {
			texts[key] = fmt.Sprint(value)
		}
		t.add("attests", entries([]map[string]string{texts})...)
	}
}

// addContexts adds named contexts, and those that are other targets to Links.
func (t *Target) addContexts(contexts map[string]string) {
	for _, name := range slices.Sorted(maps.Keys(contexts)) {
		source := contexts[name]
		if other, ok := strings.CutPrefix(source, targetPrefix); ok {
			t.Links = append(t.Links, syntax.Pair{Key: name, Value: other})
			continue
		}
		t.add("build-contexts", name+"="+source)
	}
}

// pairs are KEY=VALUE, sorted. One without a value is unset.
func pairs(values map[string]*string) []string {
	var all []string
	for _, key := range slices.Sorted(maps.Keys(values)) {
		if value := values[key]; value != nil {
			all = append(all, key+"="+*value)
		}
	}
	return all
}

// entries are attributes as BuildKit's CSV has them.
func entries(list []map[string]string) []string {
	var all []string
	for _, attrs := range list {
		var one []syntax.Pair
		for _, key := range slices.Sorted(maps.Keys(attrs)) {
			one = append(one, syntax.Pair{Key: key, Value: attrs[key]})
		}
		all = append(all, syntax.FormatEntry(one))
	}
	return all
}
