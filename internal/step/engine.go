package step

import (
	"context"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/moby/buildkit/client"

	"github.com/warmlayer/warmlayer/backends"
	"github.com/warmlayer/warmlayer/inputs"
	"github.com/warmlayer/warmlayer/internal/builder"
	"github.com/warmlayer/warmlayer/internal/builderspec"
	"github.com/warmlayer/warmlayer/internal/cachespec"
	"github.com/warmlayer/warmlayer/internal/syntax"
)

// What the BuildKit inside a container engine can do depends on the engine's store of images (docker
// buildx v0.37.0, driver/docker/driver.go, Features).

const (
	otherBuilder = "set builder: container"
	otherStore   = otherBuilder + ", or turn on the engine's containerd image store"
	otherCache   = "use an inline cache, " + otherStore
)

// inEngine runs one build on the BuildKit inside a container engine, which has answered.
func (r Run) inEngine(ctx context.Context, b Build, machine *machine, on *builder.Builder, began time.Time, cancel func(), display io.Writer) outcome {
	fitted, warnings, problems := r.fit(b, on)
	if len(problems) > 0 {
		_ = machine.release() // the problems are what counts
		return outcome{err: problems, address: on.Address, inEngine: true, warnings: warnings}
	}
	made := r.openAndBuild(ctx, fitted, machine, began, cancel, display)
	made.inEngine, made.warnings = true, append(warnings, made.warnings...)
	return made
}

// fit is the build for an engine: the image stays in the engine where no output is asked for, and what
// only defaults ask for is left out where the engine cannot do it. The problems are about all that was
// asked for and cannot be done. Caches are no problem where auto chose the engine: they are left out.
func (r Run) fit(b Build, on *builder.Builder) (_ Build, warnings []string, problems syntax.Problems) {
	auto := b.Builder.Address.Kind == builderspec.Auto
	if auto {
		warnings = append(warnings, "builder: auto took the BuildKit inside the container engine, which all builds on it share, since no other one starts ("+
			on.Instead+"); set builder: engine to choose it, or another builder")
	}
	if b.Inputs.Managed.Authorities != "" {
		warnings = append(warnings, "ca-certificates does not reach the BuildKit inside a container engine: put them into /etc/docker/certs.d/HOST/ca.crt on the engine's machine")
	}
	b.Builder.Address = builderspec.Address{Kind: builderspec.Engine}
	b.Inputs.Builders = slices.Clone(b.Inputs.Builders)
	b.Inputs.Builders[0].Address = b.Builder.Address
	if b.asks() || r.why {
		return b, warnings, nil // nothing is made, and BuildKit reads no cache
	}
	if len(b.Inputs.InEngine) > 0 {
		b.Inputs.Outputs = b.Inputs.InEngine
	}
	containerd := on.Inside.Containerd
	problems = byDigest(b.Inputs)
	if on.HostGateway == "" && slices.ContainsFunc(b.Inputs.AddHosts, func(h syntax.Pair) bool { return h.Value == inputs.HostGateway }) {
		problems = append(problems, syntax.Problem{Input: "add-hosts", What: "this engine does not say which address host-gateway is", Hint: "set host-gateway-ip in the engine's daemon.json, or write the address"})
	}
	if !containerd {
		problems = append(problems, graphDriver(b.Inputs)...)
		if !b.Inputs.Attested {
			b.Inputs.Attests = nil
		}
	}
	b, left, refused := r.fitCaches(b, containerd, auto)
	if len(left) > 0 {
		warnings = append(warnings, "caches are left out that the BuildKit inside this engine does not have: "+strings.Join(left, ", ")+"; "+cureOf(containerd))
	}
	return b, warnings, append(problems, refused...)
}

// cureOf says how to get a cache that an engine does not have.
func cureOf(containerd bool) string {
	if containerd {
		return otherBuilder
	}
	return otherCache
}

// fitCaches leaves out the caches that the engine cannot use: all of them where auto chose the engine, and
// otherwise the one that the cache auto has become. Others are problems.
func (r Run) fitCaches(b Build, containerd, auto bool) (_ Build, left []string, problems syntax.Problems) {
	usable := func(line cachespec.Cache, found syntax.Problems) bool {
		switch {
		case len(found) == 0 && line.InEngine(containerd):
			return true
		case auto, line.Type == "auto":
			left = append(left, line.String())
		case len(found) > 0:
			problems = append(problems, found...)
		default:
			problems = append(problems, unusable(line, containerd))
		}
		return false
	}
	var scoped []cachespec.Cache
	for _, line := range b.Inputs.Caches {
		resolved, found := cachespec.Resolve([]cachespec.Cache{line}, r.cacheEnvironment(b))
		switch {
		case len(resolved) > 0:
			line = resolved[0]
		case len(found) == 0:
			continue // none
		}
		if usable(line, found) {
			scoped = append(scoped, line)
		}
	}
	b.Caches = backends.Open(scoped, r.registries)
	for _, lines := range []*[]cachespec.Cache{&b.Inputs.CacheFrom, &b.Inputs.CacheTo} {
		*lines = slices.DeleteFunc(slices.Clone(*lines), func(line cachespec.Cache) bool { return !usable(line, nil) })
	}
	return b, left, problems
}

// unusable is the problem with a cache of a type that the BuildKit inside an engine does not have.
func unusable(line cachespec.Cache, containerd bool) syntax.Problem {
	p := syntax.Problem{Input: line.Input.String(), Line: line.Line, What: "the BuildKit inside a container engine has no caches of type " + line.Config.Type(), Hint: cureOf(containerd)}
	if !containerd && line.InEngine(true) {
		p.What = "the BuildKit inside this engine has only inline caches, and this one is of type " + line.Config.Type()
	}
	return p
}

// engineProblems are those of a build on the BuildKit inside any engine, before one has answered.
func engineProblems(in inputs.Values, resolved []cachespec.Cache) syntax.Problems {
	problems := byDigest(in)
	for _, line := range slices.Concat(resolved, in.CacheFrom, in.CacheTo) {
		if line.Config != nil && !line.InEngine(true) {
			problems = append(problems, unusable(line, true))
		}
	}
	return problems
}

// byDigest are the images that are to be pushed by digest (docker buildx, build/opt.go).
func byDigest(in inputs.Values) (problems syntax.Problems) {
	for _, o := range in.Outputs {
		if !syntax.IsTrue(o.Attrs["push-by-digest"]) {
			continue
		}
		p := syntax.Problem{Input: "outputs", Line: o.Line, What: "the BuildKit inside a container engine does not push by digest", Hint: otherBuilder}
		if in.Part {
			p.Input, p.Line = "part", 0
		}
		problems = append(problems, p)
	}
	return problems
}

// engineAttributes are those of an image that have a meaning, or are none of the user's, where the images
// of an engine are in a graph driver's store.
var engineAttributes = []string{"name", "push", "push-by-digest", "oci-artifact"}

// graphDriver are the problems of a build whose engine has its images in a graph driver's store.
func graphDriver(in inputs.Values) (problems syntax.Problems) {
	add := func(input string, line int, what string) {
		problems = append(problems, syntax.Problem{Input: input, Line: line, What: what, Hint: otherStore})
	}
	if len(in.Platforms) > 1 {
		add("platforms", 0, "the BuildKit inside this engine makes images of one platform")
	}
	if in.Attested {
		add("attests", 0, "images in this engine have no attestations")
	}
	for _, o := range in.Outputs {
		switch {
		case o.Type == client.ExporterOCI, o.Type == client.ExporterDocker && (o.Dest != "" || o.Attrs["context"] != ""):
			add("outputs", o.Line, "the BuildKit inside this engine makes no archives of images (type "+o.Type+")")
		case o.Type == client.ExporterImage, o.Type == client.ExporterDocker:
			for _, name := range slices.Sorted(maps.Keys(o.Attrs)) {
				if !slices.Contains(engineAttributes, name) {
					add("outputs", o.Line, fmt.Sprintf("%s has no effect on images in this engine", syntax.AttributeName(name)))
				}
			}
		}
	}
	return problems
}
