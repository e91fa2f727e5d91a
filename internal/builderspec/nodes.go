package builderspec

import (
	"slices"
	"strings"

	"github.com/warmlayer/warmlayer/internal/syntax"
)

// readNodes reads which builder to use, or which several: one a line, each with what it builds,
// as in tcp://host:1234;platforms=linux/arm64. Where the input platforms is set one of them may
// leave this out: it builds those that the others leave.
func (r *reader) readNodes() []Node {
	lines := r.in.Builder
	var nodes []Node
	for _, it := range lines {
		if len(lines) == 1 {
			it.Line = 0
		}
		address, attrs, _ := strings.Cut(it.Text, ";")
		found := r.builder(it.Line, address)
		switch {
		case attrs != "" && len(found) > 1:
			r.report("builder", it.Line, "this builder has several nodes, and each names its own platforms", "remove ;"+attrs)
		case attrs != "":
			found[0].Platforms = r.nodePlatforms(it.Line, attrs)
		case len(lines) == 1 && len(found) == 1:
			found[0].Platforms = nil // it is the only one, and builds all
		}
		nodes = append(nodes, found...)
	}
	for _, n := range nodes {
		if len(nodes) > 1 && n.Address.Kind == Engine {
			r.report("builder", n.Line, "the engine's BuildKit cannot be one of several builders: it does not push by digest", "use container, or other builders")
		}
	}
	if len(nodes) == 0 { // a list that cannot be read, which is reported
		return []Node{{broken: true}}
	}
	r.checkPlatforms(nodes)
	return nodes
}

// checkPlatforms reports platforms that several builders name, and several builders that name none.
func (r *reader) checkPlatforms(nodes []Node) {
	mayLeaveOut := r.in.Platforms
	for i, n := range nodes {
		if len(n.Platforms) == 0 && len(nodes) > 1 {
			if !mayLeaveOut {
				r.report("builder", n.Line, "there are several builders, and this one names no platforms", "add ;platforms=linux/arm64, or --platform to a node of buildx's")
			}
			mayLeaveOut = false
		}
		for _, other := range nodes[:i] {
			if both := common(n.Platforms, other.Platforms); both != "" {
				r.report("builder", n.Line, "another builder builds "+both+" too", "give each platform to one builder")
			}
		}
	}
}

// common is the first of a that is in b too, or "".
func common(a, b []string) string {
	for _, one := range a {
		if slices.Contains(b, one) {
			return one
		}
	}
	return ""
}

// nodePlatforms reads what follows an address: platforms=linux/amd64,linux/386.
func (r *reader) nodePlatforms(line int, attrs string) []string {
	key, list, _ := strings.Cut(attrs, "=")
	if key != "platforms" || list == "" {
		r.report("builder", line, "only ;platforms= and a list may follow the address", "write it like tcp://host:1234;platforms=linux/arm64")
		return nil
	}
	var all []string
	for text := range strings.SplitSeq(list, ",") {
		name, ok := syntax.Platform(strings.ToLower(strings.TrimSpace(text)))
		if !ok {
			r.report("builder", line, syntax.Quoted(text)+" is not a platform", "write it like linux/amd64 or linux/arm/v7")
			continue
		}
		all = append(all, name)
	}
	return all
}

// builder reads what one line names: a builder, or the nodes of one that buildx has made.
// Where there is a problem it is one broken node.
func (r *reader) builder(line int, text string) []Node {
	switch {
	case text == "auto" && r.machine.Getenv("BUILDKIT_HOST") != "":
		n := r.node("BUILDKIT_HOST", 0, r.machine.Getenv("BUILDKIT_HOST"))
		n.Line, n.Address.Origin = line, "BUILDKIT_HOST"
		return []Node{n}
	case text == "auto" && r.machine.Getenv("BUILDX_BUILDER") != "":
		return r.named("BUILDX_BUILDER", 0, r.machine.Getenv("BUILDX_BUILDER"))
	case slices.Contains(kinds, text), strings.Contains(text, "://"):
		return []Node{r.node("builder", line, text)}
	case syntax.Nearest(text, kinds) != "" && !slices.Contains(fileNames(r.buildxStore()), strings.ToLower(text)):
		r.report("builder", line, syntax.Quoted(text)+" is not a builder", syntax.DidYouMean(text, kinds))
	default:
		return r.named("builder", line, text)
	}
	return []Node{{Line: line, broken: true}}
}

// node is the builder at an address, which stands in an input or a variable.
func (r *reader) node(input string, line int, text string) Node {
	address, problem := ParseAddress(text)
	if problem != nil {
		r.report(input, line, problem.What, problem.Hint)
	}
	return Node{Line: line, Address: address, broken: problem != nil}
}

// Assign gives the wanted platforms to the builders that build them, and those that no builder
// names to the builder that names none. Builders that get none are left out, but one stays.
// Without wanted platforms each builder keeps its own. It reports platforms that no builder builds.
func Assign(nodes []Node, wanted []string) ([]Node, syntax.Problems) {
	rest := slices.DeleteFunc(slices.Clone(wanted), func(one string) bool { return builds(nodes, one) })
	var used []Node
	for _, n := range nodes {
		if len(n.Platforms) == 0 {
			n.Platforms = rest
		}
		n.Platforms = slices.DeleteFunc(slices.Clone(n.Platforms), func(one string) bool {
			return len(wanted) > 0 && !slices.Contains(wanted, one)
		})
		if len(n.Platforms) > 0 || len(nodes) == 1 {
			used = append(used, n)
		}
	}
	var problems syntax.Problems
	for _, one := range wanted {
		if !builds(used, one) {
			problems = append(problems, syntax.Problem{Input: "builder", What: "no builder builds " + one, Hint: "add it to the platforms of one"})
		}
	}
	if len(used) == 0 {
		return nodes[:1], problems
	}
	return used, problems
}

// builds tells whether one of the builders names the platform.
func builds(nodes []Node, platform string) bool {
	return slices.ContainsFunc(nodes, func(n Node) bool { return slices.Contains(n.Platforms, platform) })
}
