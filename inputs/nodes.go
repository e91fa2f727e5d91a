package inputs

import (
	"maps"
	"slices"
	"strings"

	"github.com/distribution/reference"
	"github.com/moby/buildkit/exporter/containerimage/exptypes"

	"github.com/warmlayer/warmlayer/internal/builderspec"
	"github.com/warmlayer/warmlayer/internal/syntax"
)

// readBuilders reads the inputs about builders, and the settings of managed ones.
func (p *parser) readBuilders(v *Values) {
	spec, problems := builderspec.Parse(builderspec.Inputs{
		Builder: p.list("builder"),
		CACert:  p.settings.Text("builder-cacert"), Cert: p.settings.Text("builder-cert"), Key: p.settings.Text("builder-key"),
		DriverOpts: p.list("driver-opts"), Flags: p.list("buildkitd-flags"),
		Authorities: p.settings.Text("ca-certificates"),
		ConfigFile:  p.value("buildkitd-config"), Config: p.settings.Text("buildkitd-config-inline"),
		Platforms: p.settings.Given("platforms"),
		State:     builderspec.State{Dir: p.value("builder-state"), Size: p.size("builder-state-size"), Wait: p.duration("builder-state-wait")},
	}, builderspec.Machine{Getenv: func(name string) string { return p.env[name] }, File: p.file})
	v.Builders, v.Managed = spec.Nodes, spec.Managed
	p.problems = append(p.problems, problems...)
}

// file is the path, from the process's working directory, of a file that the user names.
func (p *parser) file(name string) (string, *syntax.Problem) {
	found, problem := p.translate(name)
	return locate(p.dir, found), problem
}

// assign distributes the platforms to the builders, and checks that several builders have images to
// push, since their images are joined into one.
func (p *parser) assign(v *Values) {
	builders, problems := builderspec.Assign(v.Builders, v.Platforms)
	v.Builders, p.problems = builders, append(p.problems, problems...)
	p.parts(v)
	if len(builders) == 1 {
		v.Platforms = builders[0].Platforms
		return
	}
	for _, o := range v.Outputs {
		if !o.Pushes() {
			p.report("outputs", o.Line, "several builders can only push images, and this one is of type "+o.Type, "set push: true, or use one builder")
		}
	}
	if len(v.Outputs) == 0 {
		p.report("builder", 0, "several builders need an image to push", "set push: true and tags")
	}
}

// Builds are the values of each build: of each target of bake files, or of each builder, with this one in Builders. Of several
// builders each builds its platforms, pushes them by digest, and has its own cache key. A part is also pushed by digest, but its cache key does not depend on that.
func (v Values) Builds() []Values {
	if len(v.Targets) > 0 {
		return v.Targets
	}
	if len(v.Builders) == 1 {
		if v.Part {
			v.Outputs = allByDigest(v.Outputs)
		}
		return []Values{v}
	}
	all := make([]Values, len(v.Builders))
	for i, n := range v.Builders {
		one := v
		one.Builders, one.Platforms = []builderspec.Node{n}, n.Platforms
		if v.CacheKey != "" {
			one.CacheKey += "-" + strings.ReplaceAll(strings.Join(n.Platforms, "-"), "/", "-")
		}
		one.Outputs = allByDigest(v.Outputs)
		all[i] = one
	}
	return all
}

// allByDigest are outputs whose images are parts of an index.
func allByDigest(outputs []Output) []Output {
	all := slices.Clone(outputs)
	for i, o := range all {
		all[i].Attrs = byDigest(o.Attrs)
	}
	return all
}

// byDigest are the attributes of an image that is one part of an index.
func byDigest(attrs map[string]string) map[string]string {
	part := maps.Clone(attrs)
	maps.DeleteFunc(part, func(key, _ string) bool { return isOfIndex(key) })
	part["push-by-digest"] = "true"
	var repos []string
	for name := range strings.SplitSeq(attrs["name"], ",") {
		named, err := reference.ParseNormalizedNamed(name)
		if err != nil {
			continue // reported with the tags
		}
		if repo := named.Name(); !slices.Contains(repos, repo) {
			repos = append(repos, repo)
		}
	}
	part["name"] = strings.Join(repos, ",")
	return part
}

// isOfIndex tells whether an attribute annotates the index, which is made when all parts exist.
func isOfIndex(key string) bool {
	a, ok, err := exptypes.ParseAnnotationKey(key)
	return ok && err == nil && (a.Type == exptypes.AnnotationIndex || a.Type == exptypes.AnnotationIndexDescriptor)
}

// IndexAnnotations are the annotations of the index of several builders' images.
func (v Values) IndexAnnotations() map[string]string {
	all := map[string]string{}
	for _, o := range v.Outputs {
		for key, value := range o.Attrs {
			if a, ok, err := exptypes.ParseAnnotationKey(key); ok && err == nil && a.Type == exptypes.AnnotationIndex {
				all[a.Key] = value
			}
		}
	}
	return all
}
