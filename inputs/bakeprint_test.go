package inputs_test

import (
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/distribution/reference"
	"github.com/docker/go-units"
	"github.com/moby/buildkit/exporter/containerimage/exptypes"

	"github.com/warmlayer/warmlayer/inputs"
	"github.com/warmlayer/warmlayer/internal/syntax"
)

// build is what a target asks of BuildKit, as far as bake files say it.
type build struct {
	Context, Dockerfile, Text, Target, Network, Call string
	Contexts, Links, Args, Labels, Hosts, Secrets    []string
	Tags, Platforms, Ulimits, Allow, Filter, SSH     []string
	Pull, NoCache                                    bool
	ShmSize                                          int64
	From, To, Outputs, Attests, Annotations          []string
}

// seen is what warmlayer makes of a target.
func seen(v inputs.Values) build {
	b := build{
		Context: v.Context.Source, Dockerfile: v.Dockerfile.InContext, Target: v.Target, Network: v.Network, Call: v.Call,
		Links: pairs(v.Bake.Links), Args: pairs(v.BuildArgs), Labels: pairs(v.Labels), Hosts: pairs(v.AddHosts),
		Tags: v.Tags, Platforms: v.Platforms, Ulimits: v.Ulimits, Allow: v.Allow, Filter: v.NoCacheFilters,
		Pull: v.Pull, NoCache: v.NoCache, ShmSize: v.ShmSize,
	}
	if v.Context.Dir != "" {
		b.Context, b.Dockerfile = v.Context.Dir, v.Dockerfile.Path
	}
	if v.Dockerfile.Path == "" {
		b.Text = string(v.Dockerfile.Text)
	}
	for _, c := range v.BuildContexts {
		source := c.Source
		if c.Kind == inputs.Directory {
			source = c.Dir
		}
		b.Contexts = append(b.Contexts, c.Name+"="+source)
	}
	for _, s := range v.Secrets {
		b.Secrets = append(b.Secrets, s.ID+"="+s.Value)
	}
	for _, s := range v.SSH {
		b.SSH = append(b.SSH, s.ID+"="+strings.Join(s.Paths, ","))
	}
	for _, c := range v.CacheFrom {
		b.From = append(b.From, attributes(c.Type, c.Attrs))
	}
	for _, c := range v.CacheTo {
		b.To = append(b.To, attributes(c.Type, c.Attrs))
	}
	for _, a := range v.Attests {
		if text := a.String(); text != "mode=min,inline-only=true" { // the default
			b.Attests = append(b.Attests, strings.TrimSuffix(a.Type+","+text, ","))
		}
	}
	for _, o := range v.Outputs {
		attrs := maps.Clone(o.Attrs)
		for key, value := range o.Attrs {
			if _, is, _ := exptypes.ParseAnnotationKey(key); is {
				b.Annotations = append(b.Annotations, key+"="+value)
				delete(attrs, key)
			}
		}
		if o.Dest != "" {
			attrs["dest"] = o.Dest
		}
		delete(attrs, "name") // from the tags
		b.Outputs = append(b.Outputs, attributes(o.Type, attrs))
	}
	slices.Sort(b.Annotations)
	return b
}

// expected is what a printed target means: paths are absolute, names of images whole, and what HCL would replace is not escaped.
func (c bakeCase) expected(t *testing.T, p printed) build {
	t.Helper()
	b := build{
		Context: p.Context, Dockerfile: p.Dockerfile, Target: p.Target, Network: p.Network, Call: p.Call, Text: unescape(p.Inline),
		Args: sorted(p.Args), Labels: sorted(p.Labels), Hosts: sorted(p.Hosts),
		Platforms: p.Platforms, Allow: p.Entitlements, Filter: p.Filter, Pull: p.Pull, NoCache: p.NoCache,
	}
	if !strings.Contains(p.Context, "://") {
		b.Context, b.Dockerfile = filepath.Join(c.dir, p.Context), filepath.Join(c.dir, p.Context, p.Dockerfile)
	}
	if p.Inline != "" {
		b.Dockerfile = ""
	}
	for _, tag := range p.Tags {
		named, err := reference.ParseNormalizedNamed(tag)
		if err != nil {
			t.Fatal(err)
		}
		b.Tags = append(b.Tags, reference.TagNameOnly(named).String())
	}
	for _, u := range p.Ulimits {
		limit, err := units.ParseUlimit(u)
		if err != nil {
			t.Fatal(err)
		}
		b.Ulimits = append(b.Ulimits, limit.String())
	}
	if p.ShmSize != "" {
		var err error
		if b.ShmSize, err = units.RAMInBytes(p.ShmSize); err != nil {
			t.Fatal(err)
		}
	}
	c.expectContexts(&b, p)
	c.expectSecrets(t, &b, p)
	for _, one := range p.From {
		b.From = append(b.From, attributes(one["type"], one))
	}
	for _, one := range p.To {
		b.To = append(b.To, attributes(one["type"], one))
	}
	for _, one := range p.Attest {
		if one["disabled"] == nil {
			attrs := map[string]string{}
			for key, value := range one {
				attrs[key] = value.(string)
			}
			b.Attests = append(b.Attests, attributes(attrs["type"], attrs))
		}
	}
	expectOutputs(t, &b, p)
	return b
}

func (c bakeCase) expectContexts(b *build, p printed) {
	for _, name := range slices.Sorted(maps.Keys(p.Contexts)) {
		source := p.Contexts[name]
		other, linked := strings.CutPrefix(source, "target:")
		switch {
		case linked:
			b.Links = append(b.Links, name+"="+other)
			continue
		case !strings.Contains(source, ":"):
			source = filepath.Join(c.dir, source)
		}
		b.Contexts = append(b.Contexts, name+"="+source)
	}
}

// expectSecrets reads secrets as docker buildx does: an id alone is a variable, or else a file.
func (c bakeCase) expectSecrets(t *testing.T, b *build, p printed) {
	t.Helper()
	for _, s := range p.Secret {
		name := s["env"]
		if name == "" && s["src"] == "" {
			name = s["id"]
		}
		value := ""
		for _, variable := range c.environ {
			if v, ok := strings.CutPrefix(variable, name+"="); ok && name != "" {
				value = v
			}
		}
		if s["src"] != "" {
			content, err := os.ReadFile(filepath.Join(c.dir, s["src"]))
			if err != nil {
				t.Fatal(err)
			}
			value = string(content)
		}
		b.Secrets = append(b.Secrets, s["id"]+"="+value)
	}
	for _, s := range p.SSH {
		b.SSH = append(b.SSH, s.ID+"="+strings.Join(s.Paths, ","))
	}
}

func expectOutputs(t *testing.T, b *build, p printed) {
	t.Helper()
	for _, o := range p.Output {
		attrs, kind := maps.Clone(o), o["type"]
		delete(attrs, "name")
		switch kind {
		case "cacheonly":
			continue
		case "registry":
			kind, attrs["push"] = "image", "true"
		}
		b.Outputs = append(b.Outputs, attributes(kind, attrs))
		for _, text := range p.Annotations {
			key, value, _ := strings.Cut(text, "=")
			levels, name, leveled := strings.Cut(key, ":")
			if !leveled {
				levels, name = "", key
			}
			for level := range strings.SplitSeq(levels, ",") {
				b.Annotations = append(b.Annotations, exptypes.AnnotationKey{Type: level, Key: name}.String()+"="+value)
			}
		}
	}
	slices.Sort(b.Annotations)
}

// attributes are a type and attributes in one text.
func attributes(kind string, attrs map[string]string) string {
	texts := []string{kind}
	for _, key := range slices.Sorted(maps.Keys(attrs)) {
		if key != "type" {
			texts = append(texts, key+"="+attrs[key])
		}
	}
	return strings.Join(texts, ",")
}

func sorted(values map[string]string) []string {
	var all []string
	for _, key := range slices.Sorted(maps.Keys(values)) {
		all = append(all, key+"="+unescape(values[key]))
	}
	return all
}

func pairs(list []syntax.Pair) []string {
	var all []string
	for _, p := range list {
		all = append(all, p.Key+"="+p.Value)
	}
	return all
}

func unescape(text string) string {
	return strings.NewReplacer("$${", "${", "%%{", "%{").Replace(text)
}
