package step

import (
	"cmp"
	"fmt"
	"slices"

	"github.com/containerd/platforms"
	"github.com/docker/cli/cli/config"

	"github.com/warmlayer/warmlayer/backends"
	"github.com/warmlayer/warmlayer/inputs"
	"github.com/warmlayer/warmlayer/internal/builder"
	"github.com/warmlayer/warmlayer/internal/builderspec"
	"github.com/warmlayer/warmlayer/internal/cacheplan"
	"github.com/warmlayer/warmlayer/internal/cachespec"
	"github.com/warmlayer/warmlayer/internal/engineapi"
	"github.com/warmlayer/warmlayer/internal/login"
	"github.com/warmlayer/warmlayer/internal/report"
	"github.com/warmlayer/warmlayer/internal/syntax"
	"github.com/warmlayer/warmlayer/internal/tracing"
	"github.com/warmlayer/warmlayer/scope"
)

// Resolve makes a run from the inputs, the facts and the environment: for each builder the scopes
// that are read and written, and their caches. It returns all problems that it finds; the run is
// valid only without problems. Credentials are registered with the host's redactor.
func Resolve(in inputs.Values, facts scope.Facts, host Host) (Run, syntax.Problems) {
	if in.Command == "prune" && facts.Untrusted == scope.Closed { // a prune builds no code, and this is what it is for
		facts.Trusted, facts.Untrusted = true, ""
	}
	r := Run{Inputs: in, host: host}
	parts := in.Builds()
	plans := make([]scope.Plan, len(parts))
	for i, part := range parts {
		plans[i] = scope.New(facts, scopeOptions(part, len(parts) > 1))
	}
	r.Facts = plans[0].Facts // the same in all plans, whose options differ only in the key
	problems := append(r.logIn(), r.partProblems()...)
	for _, name := range cachespec.SecretVariables() {
		host.Redactor.Add(host.Environ.Get(name))
	}
	for _, secret := range slices.Concat(r.proxyPasswords(), tracing.Credentials(host.Environ.Get)) {
		host.Redactor.Add(secret)
	}
	for i, part := range parts {
		build, found := r.resolve(part, plans[i])
		r.Builds = append(r.Builds, build)
		problems = addOnce(problems, found...)
	}
	return r, problems
}

// resolve makes one build. Unless there are problems, caches that an untrusted build must not have
// are left out.
func (r Run) resolve(in inputs.Values, plan scope.Plan) (Build, syntax.Problems) {
	b := Build{Inputs: in, Plan: plan, Builder: r.builder(in)}.withoutWithheld()
	caches, problems := cachespec.Resolve(b.Inputs.Caches, r.cacheEnvironment(b))
	b.Caches = backends.Open(caches, r.registries)
	for _, c := range caches {
		if c.Instead != "" {
			b.Auto = report.Auto{Cache: c.Config.String(), Why: c.Instead}
		}
	}
	if why := untrusted(r.Facts); why != "" && in.Managed.State.Dir != "" {
		b.Builder.Managed.State = builderspec.State{}
		b.Warnings = append(b.Warnings, "builder-state is not used: all builds share its cache mounts, and this build is untrusted ("+why+")")
	}
	if in.Managed.Authorities != "" && b.Builder.Address.Kind == builderspec.Remote {
		b.Warnings = append(b.Warnings, noAuthorities)
	}
	if b.Builder.Address.Kind == builderspec.Engine && !b.asks() {
		problems = append(problems, engineProblems(b.Inputs, caches)...)
	}
	if len(problems) == 0 {
		b = r.withoutProxies(b.guarded())
	}
	return b, problems
}

// noAuthorities is the warning where ca-certificates is set and the builder runs already.
const noAuthorities = `ca-certificates does not reach a builder that runs already: add ca = ["PATH"] under [registry."HOST"] in its buildkitd.toml`

// scopeOptions are the inputs that override what was detected, for one builder or one of several.
func scopeOptions(in inputs.Values, several bool) scope.Options {
	o := scope.Options{
		Branch: in.Branch, Base: in.BaseBranch, Default: in.DefaultBranch, PR: in.PullRequest,
		Trusted: in.Trusted, Write: in.CacheWrite, Fallbacks: in.Fallbacks, Key: in.CacheKey,
	}
	target := in.Bake.Target
	switch {
	case target != "" && o.Key != "":
		o.Key += "-" + target
	case target != "":
		o.Key = scope.BakeKey(target, in.Bake.Subdir)
	}
	if o.Key != "" {
		return o
	}
	var apart []string
	if several && !slices.Equal(built(in), []string{"linux/amd64"}) {
		apart = built(in)
	}
	o.Key = scope.Key(in.Dockerfile.Key, in.Context.Subdir, apart)
	return o
}

// built are the platforms of a build.
func built(in inputs.Values) []string {
	if len(in.Platforms) > 0 {
		return in.Platforms
	}
	return []string{platforms.Format(platforms.DefaultSpec())}
}

// variant is the build's among those of its scope.
func variant(in inputs.Values) string {
	args := map[string]string{}
	for _, a := range in.BuildArgs {
		args[a.Key] = a.Value
	}
	return scope.Variant(in.Target, args, built(in))
}

// keep is what a scope keeps of former builds.
func keep(k inputs.Keep) cacheplan.Limits {
	return cacheplan.Limits{Age: k.Age, Variants: k.Variants, Bytes: k.Bytes, Percent: k.Percent}
}

// logIn loads the Docker config, and collects the credentials in it, in the inputs and of the CI.
func (r *Run) logIn() syntax.Problems {
	dir := r.host.Environ.dockerDir()
	var problems syntax.Problems
	docker, err := config.Load(dir)
	if err != nil {
		problems = append(problems, syntax.Problem{
			What: fmt.Sprintf("read docker config in %s: %v", dir, err), Hint: "fix the file, or set DOCKER_CONFIG to another directory",
		})
	}
	registries, found := login.New(login.Options{
		Inputs: login.Inputs(r.Inputs.Credentials), Docker: docker, Getenv: r.host.Environ.Get, CI: r.host.CI.Credentials(r.Inputs.GitHubToken),
		Untrusted: untrusted(r.Facts), Redact: r.host.Redactor.Add,
	})
	r.docker, r.registries = docker, registries
	return append(problems, found...)
}

// untrusted says why a build is untrusted, "" for a trusted one.
func untrusted(f scope.Facts) string {
	if f.Trusted {
		return ""
	}
	return cmp.Or(f.Untrusted, "whose code it builds is unknown")
}

// cacheEnvironment are the settings that all caches of a build share.
func (r Run) cacheEnvironment(b Build) cachespec.Environment {
	node := b.Inputs.Builders[0]
	return cachespec.Environment{
		Export: b.Inputs.CacheExport, Images: b.Inputs.Pushed(), CacheDir: r.host.Environ.cacheDir(r.Facts.Repo, b.Inputs.Context.Checkout()), Getenv: r.host.Environ.Get,
		Remote: !node.Address.Managed(), Plaintext: node.Plaintext() || node.Address.Kind == builderspec.Engine && r.engine().Plaintext(),
	}
}

// builder are the settings of the builder for one build.
func (r Run) builder(in inputs.Values) builder.Options {
	node := in.Builders[0]
	o := builder.Options{
		Address: node.Address, TLS: node.TLS, Managed: in.Managed, Environ: r.host.Environ,
		Platforms: in.Platforms, Entitlements: in.Allow, Engine: r.engine(),
		Program: r.host.Program, Metadata: r.Facts.Trusted, Shared: r.Facts.Trusted,
	}
	if r.host.Self.Ephemeral {
		o.Job.ID, o.Job.Runner = r.host.CI.Job(r.host.Self.Source)
	}
	return o
}

// engine is the container engine that the docker program would use.
func (r Run) engine() engineapi.Place { return r.host.Environ.Engine(r.docker.CurrentContext) }
