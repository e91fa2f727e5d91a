package inputs

import (
	"maps"
	"net/url"
	"slices"
	"strings"

	"github.com/distribution/reference"
	"github.com/moby/buildkit/exporter/containerimage/exptypes"
)

// Node is one of several builders, and the platforms that it builds for.
type Node struct {
	Line      int    // in the input builder, from 1
	Address   string // embedded, rootless, container, or an address
	Platforms []string
}

// connections are the schemes of builder addresses (client/connhelper in BuildKit,
// and what its client dials itself).
var connections = []string{"unix", "tcp", "docker-container", "podman-container", "kube-pod", "ssh"}

// builders reads which builder to use, or which several: one a line, each with what it
// builds, as in tcp://host:1234;platforms=linux/arm64.
func (p *parser) builders() (address string, nodes []Node) {
	list := p.list("builder")
	for _, it := range list {
		if len(list) == 1 {
			it.line = 0
		}
		address, attrs, _ := strings.Cut(it.text, ";")
		node := Node{Line: it.line, Address: p.address(it.line, address)}
		if attrs != "" {
			node.Platforms = p.nodePlatforms(it.line, attrs)
		}
		nodes = append(nodes, node)
	}
	if len(nodes) == 1 && len(nodes[0].Platforms) == 0 {
		return nodes[0].Address, nil
	}
	for i, n := range nodes {
		if len(n.Platforms) == 0 && len(nodes) > 1 {
			p.report("builder", n.Line, "it is one of several, and does not say what it builds", "add ;platforms=linux/arm64")
		}
		for _, other := range nodes[:i] {
			if both := common(n.Platforms, other.Platforms); both != "" {
				p.report("builder", n.Line, "another one builds "+both+" too", "give each platform to one builder")
			}
		}
	}
	return "", nodes
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
			p.report("builder", line, quoted(text)+" is not a platform", "write it like linux/amd64 or linux/arm/v7")
			continue
		}
		all = append(all, name)
	}
	return all
}

// address checks one builder. It is "" where there is a problem.
func (p *parser) address(line int, text string) string {
	words := []string{"auto", "embedded", "rootless", "container"}
	if slices.Contains(words, text) {
		return text
	}
	scheme, rest, isAddress := strings.Cut(text, "://")
	switch {
	case isAddress && !slices.Contains(connections, scheme):
		p.report("builder", line, quoted(scheme)+" is not a kind of address", didYouMean(scheme, connections))
	case isAddress && strings.Trim(rest, "/") == "":
		p.report("builder", line, "the address names nothing", "write it like unix:///run/buildkit/buildkitd.sock or docker-container://name")
	case isAddress:
		if _, err := url.Parse(text); err != nil {
			p.report("builder", line, "the address is not a URL", "")
		}
		return text
	case text == "engine":
		p.report("builder", line, quoted(text)+" is not available yet", "use auto, embedded, rootless, container, or the address of a BuildKit")
	case Nearest(text, words) != "":
		p.report("builder", line, quoted(text)+" is not a builder", didYouMean(text, words))
	default:
		p.report("builder", line, "builders of buildx cannot be used by name yet", "leave the input out, or give an address such as docker-container://NAME")
	}
	return ""
}

// readBuilders reads who builds, and how.
func (p *parser) readBuilders(v *Values) {
	v.Builder, v.Nodes = p.builders()
	v.BuilderTLS = p.builderTLS()
	v.DaemonFlags = p.daemonFlags()
	v.DaemonConfig = p.daemonConfig()
	v.DaemonFiles = p.daemonFiles
	v.DaemonEnv = p.driverOpts(v)
}

// spread gives the wanted platforms to the nodes that build them, and checks that all
// else can be had from several builders, whose images are joined into one.
func (p *parser) spread(v *Values) {
	nodes := v.Nodes
	v.Nodes = nil
	var used []Node
	for _, n := range nodes {
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
			v.Builder, v.Platforms = n.Address, n.Platforms
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
		one.Builder, one.Platforms, one.Nodes = n.Address, n.Platforms, nil
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
