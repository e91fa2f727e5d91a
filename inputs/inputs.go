// Package inputs turns flags and environment variables into validated values.
//
// [Fields] is the table of inputs; action.yml, the README's table and --help come
// from it. [Parse] reads one value for each of them, from the first source that has
// it: flags, INPUT_* (GitHub), PLUGIN_* (Woodpecker, Drone),
// BUILDKITE_PLUGIN_CONFIGURATION (JSON), WARMLAYER_*. An empty value is unset. It
// reports everything wrong at once, starts nothing and writes nothing.
//
//	values, problems := inputs.Parse(
//		[]string{"--tags", "ghcr.io/o/app:1", "--push", "."},
//		[]string{"WARMLAYER_CACHE=type=registry,ref=ghcr.io/o/app,mod=max"},
//		".")
//	// values.Tags is [ghcr.io/o/app:1], values.Outputs an image that is pushed,
//	// values.Caches one cache of type registry. An attribute such as mod is for
//	// package backends to judge.
//
// What a cache accepts that is scoped by branch, and how several of them go together,
// is checked by package backends.
package inputs

import (
	"strings"
	"time"

	policy "github.com/moby/buildkit/sourcepolicy/pb"
)

// Values are the inputs, validated. Parts that had problems are left out.
type Values struct {
	Dir     string // working directory that relative paths start from; "" and "." are the process's own
	Context string // directory, or a Git or HTTP URL
	Remote  bool   // Context is a URL, which BuildKit fetches itself
	File    string // the Dockerfile: a path from Dir; for a URL from the context's root, unless absolute
	Target  string // "": the last stage

	BuildArgs []Pair // in order; those without a value in the input have the environment's
	Labels    []Pair
	Tags      []string // full references: docker.io/library/app:latest
	Push      bool     // as given; Outputs have it worked in
	Outputs   []Output // empty: the result stays in the builder
	CacheOnly bool     // outputs are empty because the user said type=cacheonly
	Platforms []string // normalised, as in linux/arm64; empty: the builder's
	NoCache   bool
	Pull      bool
	Secrets   []Secret // those of secret-envs and secret-files, and github-token's, among them

	AddHosts       []Pair            // name and address of hosts, in order
	Allow          []string          // entitlements: network.host, security.insecure, device=…
	Attests        map[string]string // by type, as the frontend takes them: provenance: "mode=max,builder-id=…"
	BuildContexts  []Pair            // name and place: a directory, a URL, docker-image://… or oci-layout://…
	Call           string            // "": build; check, outline or targets: ask the frontend that instead
	CgroupParent   string            // "": BuildKit's
	Load           bool              // as given; Outputs have it worked in: one of type docker without a Dest
	Network        string            // of RUN steps: "", default, none or host
	NoCacheFilters []string          // stages whose steps are all to run
	ShmSize        int64             // bytes of /dev/shm in RUN steps; 0: BuildKit's
	SSH            []SSH
	Ulimits        []string       // as the frontend takes them: "nofile=1024:2048"
	SourcePolicy   *policy.Policy // of EXPERIMENTAL_BUILDKIT_SOURCE_POLICY; nil: none

	Caches       []Cache           // to be scoped by branch
	CacheFrom    []Cache           // verbatim
	CacheTo      []Cache           // verbatim
	CacheKey     string            // "": derive one
	CacheAttrs   map[string]string // those of mode, compression, … that were set, under BuildKit's names
	Fallbacks    []string
	CacheWrite   string // auto, always or never
	CacheStrict  bool
	ProbeTimeout time.Duration
	CacheTimeout time.Duration

	Branch, BaseBranch, DefaultBranch string // "": detect it
	PullRequest                       int    // 0: detect it
	Trusted                           *bool  // nil: detect it

	Builder  string // auto, embedded, rootless, or an address; "" where there are Nodes
	Nodes    []Node // several builders: see [Values.PerNode]
	Progress string // auto, plain, tty or quiet

	Summary            bool   // DOCKER_BUILD_SUMMARY: write GitHub's job summary
	Annotate           bool   // DOCKER_BUILD_CHECKS_ANNOTATIONS: Dockerfile warnings become annotations
	MetadataProvenance string // BUILDX_METADATA_PROVENANCE: min, max or disabled
	MetadataWarnings   bool   // BUILDX_METADATA_WARNINGS
	ReportDir          string // "": see [Values.ReportDirectory]
}

// Secret is handed to the build under its ID. Printing one shows the ID alone.
type Secret struct{ ID, Value string }

// String is the secret's ID.
func (s Secret) String() string { return s.ID }

// GoString is the secret's ID.
func (s Secret) GoString() string { return "inputs.Secret(" + s.ID + ")" }

// SSH is an agent, or keys that one is made of, for RUN --mount=type=ssh.
type SSH struct {
	ID    string   // "default" unless named
	Paths []string // of one agent's socket, or of keys; none: the agent of SSH_AUTH_SOCK
}

// Parse reads the inputs. args are the command line's without the program and the
// command, environ is as os.Environ gives it, and dir is the working directory: "."
// outside tests. Where there are problems, values serve only to find more.
func Parse(args, environ []string, dir string) (Values, Problems) {
	p := &parser{dir: dir, env: map[string]string{}, settings: map[string]setting{}}
	for _, variable := range environ {
		key, value, _ := strings.Cut(variable, "=")
		p.env[key] = value
	}
	p.read(args, environ)
	values := p.values()
	p.problems.Sort()
	return values, p.problems
}

type parser struct {
	dir      string
	env      map[string]string
	settings map[string]setting // by input, of the first source that has it
	problems Problems
}

func (p *parser) report(input string, line int, what, hint string) {
	p.problems = append(p.problems, Problem{input, line, what, hint})
}

func (p *parser) values() Values {
	context, file, remote := p.context()
	push := p.bool("push")
	tags := p.tags()
	platforms := p.platforms()
	outputs := p.outputs(push, tags, platforms)
	_, outputsGiven := p.settings["outputs"]
	images := pushedNames(outputs)
	builder, nodes := p.builders()
	v := Values{
		Dir:     p.dir,
		Context: context,
		Remote:  remote,
		File:    file,
		Target:  p.value("target"),

		BuildArgs: p.buildArgs(),
		Labels:    p.labels(),
		Tags:      tagged(tags),
		Push:      push,
		Outputs:   outputs,
		CacheOnly: outputsGiven && len(outputs) == 0,
		Platforms: platforms,
		NoCache:   p.bool("no-cache"),
		Pull:      p.bool("pull"),
		Secrets:   p.secrets(),

		Caches:       p.caches(),
		CacheFrom:    p.verbatim("cache-from", images),
		CacheTo:      p.verbatim("cache-to", images),
		CacheKey:     p.value("cache-key"),
		CacheAttrs:   p.cacheAttrs(),
		Fallbacks:    texts(p.list("cache-fallbacks")),
		CacheWrite:   p.value("cache-write"),
		CacheStrict:  p.bool("cache-strict"),
		ProbeTimeout: p.duration("probe-timeout"),
		CacheTimeout: p.duration("cache-timeout"),

		Branch:        p.value("branch"),
		BaseBranch:    p.value("base-branch"),
		DefaultBranch: p.value("default-branch"),
		PullRequest:   p.int("pull-request"),
		Trusted:       p.optionalBool("trusted"),

		Builder:   builder,
		Progress:  p.value("progress"),
		ReportDir: p.value("report-dir"),
	}
	p.spread(nodes, &v)
	return v
}

func texts(items []item) []string {
	var all []string
	for _, it := range items {
		all = append(all, it.text)
	}
	return all
}

// buildArgs reads NAME=value, and NAME alone from the environment as docker build
// does; but a NAME that is not set there is a problem.
func (p *parser) buildArgs() []Pair {
	var pairs []Pair
	for _, it := range p.list("build-args") {
		name, value, ok := strings.Cut(it.text, "=")
		if !ok {
			value, ok = p.env[name]
		}
		if !ok || name == "" {
			p.report("build-args", it.line, "expected NAME=value, or the NAME of a variable that is set", "")
			continue
		}
		pairs = append(pairs, Pair{name, value})
	}
	return pairs
}

func (p *parser) labels() []Pair {
	var pairs []Pair
	for _, it := range p.list("labels") {
		key, value, ok := strings.Cut(it.text, "=")
		if !ok || key == "" {
			p.report("labels", it.line, "expected key=value", `for an empty value write "key="`)
			continue
		}
		pairs = append(pairs, Pair{key, value})
	}
	return pairs
}

// secrets reads id=value. Nothing of a line that is not understood is shown: it may
// be the second line of a key that was not quoted.
func (p *parser) secrets() []Secret {
	var secrets []Secret
	for _, it := range p.list("secrets") {
		id, value, ok := strings.Cut(it.text, "=")
		if !ok || id == "" || value == "" || strings.ContainsAny(id, " \t\n") {
			p.report("secrets", it.line, "expected id=value", `put quotes around a secret of several lines: "id=value"`)
			continue
		}
		secrets = append(secrets, Secret{id, value})
	}
	return secrets
}
