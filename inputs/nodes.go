package inputs

import (
	"maps"
	"net/url"
	"slices"
	"strings"

	"github.com/distribution/reference"
	"github.com/moby/buildkit/exporter/containerimage/exptypes"

	"github.com/warmlayer/warmlayer/internal/syntax"
)

// Node is one of several builders, and the platforms that it builds for.
type Node struct {
	Line      int    // in the input builder, from 1
	Address   string // embedded, rootless, container, or an address
	TLS       TLS    // as buildx has it; the zero value: that of the inputs
	Platforms []string
}

// connections are the schemes of builder addresses (client/connhelper in BuildKit,
// and what its client dials itself).
var connections = []string{"unix", "tcp", "docker-container", "podman-container", "kube-pod", "ssh"}

// builders reads which builder to use, or which several: one a line, each with what it
// builds, as in tcp://host:1234;platforms=linux/arm64. One of them need not say it where
// platforms does: it gets what the others leave.
func (p *parser) builders() []Node {
	list := p.list("builder")
	var nodes []Node
	for _, it := range list {
		if len(list) == 1 {
			it.Line = 0
		}
		address, attrs, _ := strings.Cut(it.Text, ";")
		found := p.builder(it.Line, address)
		switch {
		case attrs != "" && len(found) > 1:
			p.report("builder", it.Line, "it has several nodes, and each says itself what it builds", "remove ;"+attrs)
		case attrs != "":
			found[0].Platforms = p.nodePlatforms(it.Line, attrs)
		case len(list) == 1 && len(found) == 1:
			found[0].Platforms = nil // nobody else would build another one
		}
		nodes = append(nodes, found...)
	}
	_, wanted := p.settings["platforms"]
	for i, n := range nodes {
		if len(n.Platforms) == 0 && len(nodes) > 1 {
			if !wanted {
				p.report("builder", n.Line, "it is one of several, and does not say what it builds", "add ;platforms=linux/arm64, or --platform to a node of buildx's")
			}
			wanted = false
		}
		for _, other := range nodes[:i] {
			if both := common(n.Platforms, other.Platforms); both != "" {
				p.report("builder", n.Line, "another one builds "+both+" too", "give each platform to one builder")
			}
		}
	}
	return nodes
}

func common(a, b []string) string {
	for _, one := range a {
		if slices.Contains(b, one) {
			return one
		}
	}
	return ""
}

// nodePlatforms reads what follows an address: platforms=linux/amd64,linux/386.
func (p *parser) nodePlatforms(line int, attrs string) []string {
	key, list, _ := strings.Cut(attrs, "=")
	if key != "platforms" || list == "" {
		p.report("builder", line, "after the address comes platforms=, and a list", "write it like tcp://host:1234;platforms=linux/arm64")
		return nil
	}
	var all []string
	for text := range strings.SplitSeq(list, ",") {
		name, ok := platform(strings.ToLower(strings.TrimSpace(text)))
		if !ok {
			p.report("builder", line, syntax.Quoted(text)+" is not a platform", "write it like linux/amd64 or linux/arm/v7")
			continue
		}
		all = append(all, name)
	}
	return all
}

// builderWords are the builders that need neither an address nor a name.
var builderWords = []string{"auto", "embedded", "rootless", "container"}

// builder reads what one line of the input names: one BuildKit, or the nodes of a builder of
// buildx's. Where there is a problem it is a node without an address.
func (p *parser) builder(line int, text string) []Node {
	switch {
	case text == "auto" && p.env["BUILDKIT_HOST"] == "" && p.env["BUILDX_BUILDER"] != "":
		return p.named("BUILDX_BUILDER", 0, p.env["BUILDX_BUILDER"])
	case slices.Contains(builderWords, text):
		return []Node{{Line: line, Address: text}}
	case strings.Contains(text, "://"):
		return []Node{{Line: line, Address: p.address("builder", line, text)}}
	case text == "engine":
		p.report("builder", line, syntax.Quoted(text)+" is not available yet", "use auto, embedded, rootless, container, or the address of a BuildKit")
	case syntax.Nearest(text, builderWords) != "" && !slices.Contains(fileNames(p.buildxStore()), strings.ToLower(text)):
		p.report("builder", line, syntax.Quoted(text)+" is not a builder", syntax.DidYouMean(text, builderWords))
	default:
		return p.named("builder", line, text)
	}
	return []Node{{Line: line}}
}

// address checks the address of a BuildKit. It is "" where there is a problem.
func (p *parser) address(input string, line int, text string) string {
	scheme, rest, _ := strings.Cut(text, "://")
	_, err := url.Parse(text)
	switch {
	case !slices.Contains(connections, scheme):
		p.report(input, line, syntax.Quoted(scheme)+" is not a kind of address", syntax.DidYouMean(scheme, connections))
	case strings.Trim(rest, "/") == "":
		p.report(input, line, "the address names nothing", "write it like unix:///run/buildkit/buildkitd.sock or docker-container://name")
	case err != nil:
		p.report(input, line, "the address is not a URL", "")
	default:
		return text
	}
	return ""
}

// readBuilders reads who builds, and how.
func (p *parser) readBuilders(v *Values) {
	p.nodes = p.builders()
	v.BuilderTLS = p.builderTLS()
	if len(p.nodes) == 1 && len(p.nodes[0].Platforms) == 0 {
		v.on(p.nodes[0])
	} else {
		v.Nodes = p.nodes
	}
	v.DaemonFlags = p.daemonFlags()
	v.DaemonConfig = p.daemonConfig()
	v.DaemonFiles = p.daemonFiles
	v.DaemonEnv = p.driverOpts(v)
}

// on makes one node the builder.
func (v *Values) on(n Node) {
	v.Builder = n.Address
	if n.TLS != (TLS{}) {
		v.BuilderTLS = n.TLS
	}
}

// spread gives the wanted platforms to the nodes that build them, and checks that all
// else can be had from several builders, whose images are joined into one.
func (p *parser) spread(v *Values) {
	nodes := v.Nodes
	v.Nodes = nil
	var used []Node
	rest := slices.DeleteFunc(slices.Clone(v.Platforms), func(one string) bool {
		return slices.ContainsFunc(nodes, func(n Node) bool { return slices.Contains(n.Platforms, one) })
	})
	for _, n := range nodes {
		if len(n.Platforms) == 0 {
			n.Platforms = rest
		}
		n.Platforms = slices.DeleteFunc(slices.Clone(n.Platforms), func(one string) bool {
			return len(v.Platforms) > 0 && !slices.Contains(v.Platforms, one)
		})
		if len(n.Platforms) > 0 {
			used = append(used, n)
		}
	}
	for _, one := range v.Platforms {
		if len(nodes) > 0 && !slices.ContainsFunc(used, func(n Node) bool { return slices.Contains(n.Platforms, one) }) {
			p.report("builder", 0, "none of the builders builds "+one, "add it to the platforms of one")
		}
	}
	if len(used) < 2 {
		for _, n := range used {
			v.on(n)
			v.Platforms = n.Platforms
		}
		return
	}
	v.Nodes = used
	for _, o := range v.Outputs {
		if !o.Pushes() {
			p.report("outputs", o.Line, "several builders can only push images, and this is one of type "+o.Type, "set push: true, or use one builder")
		}
	}
	if len(v.Outputs) == 0 {
		p.report("builder", 0, "several builders need an image to push", "set push: true and tags")
	}
}

// PerNode is the build that each of several nodes does: its platforms, pushed by
// digest, under a cache key of its own.
func (v Values) PerNode() []Values {
	all := make([]Values, len(v.Nodes))
	for i, n := range v.Nodes {
		one := v
		one.on(n)
		one.Platforms, one.Nodes = n.Platforms, nil
		if v.CacheKey != "" {
			one.CacheKey += "-" + strings.ReplaceAll(strings.Join(n.Platforms, "-"), "/", "-")
		}
		one.Outputs = make([]Output, len(v.Outputs))
		for k, o := range v.Outputs {
			o.Attrs = byDigest(o.Attrs)
			one.Outputs[k] = o
		}
		all[i] = one
	}
	return all
}

// byDigest are an image's attributes for one part of an index.
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

// isOfIndex tells an annotation of the index, which is made when all parts are there.
func isOfIndex(key string) bool {
	a, ok, err := exptypes.ParseAnnotationKey(key)
	return ok && err == nil && (a.Type == exptypes.AnnotationIndex || a.Type == exptypes.AnnotationIndexDescriptor)
}

// IndexAnnotations are those of the index that the images of several nodes make.
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
