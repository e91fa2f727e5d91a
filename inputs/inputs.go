// Package inputs turns flags and environment variables into validated values.
//
// [Fields] is the table of inputs; action.yml, docs/reference/inputs.md and --help come
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
//	// values.Caches one cache of type registry; problems has its attribute mod.
//
// How several caches go together, and what they need of the environment, is checked by
// package cachespec when they are resolved.
package inputs

import (
	"io"
	"strings"
	"time"

	policy "github.com/moby/buildkit/sourcepolicy/pb"
	digest "github.com/opencontainers/go-digest"

	"github.com/warmlayer/warmlayer/internal/builderspec"
	"github.com/warmlayer/warmlayer/internal/cachespec"
	"github.com/warmlayer/warmlayer/internal/settings"
	"github.com/warmlayer/warmlayer/internal/syntax"
)

// Values are the inputs, validated. Parts that had problems are left out.
type Values struct {
	Dir        string // working directory that relative paths start from; "" and "." are the process's own
	Context    Context
	Dockerfile Dockerfile
	Target     string // "": the last stage

	BuildArgs []syntax.Pair // in order; those without a value in the input have the environment's
	Labels    []syntax.Pair
	Tags      []string // full references: docker.io/library/app:latest
	Push      bool     // as given; Outputs are resolved with it
	Outputs   []Output // empty: the result stays in the builder
	CacheOnly bool     // Outputs are empty because the inputs have type=cacheonly, or push=false
	InEngine  []Output // in place of Outputs where the BuildKit inside a container engine builds and no output is asked for; else empty
	Platforms []string // normalised, as in linux/arm64; empty: the builder's
	NoCache   bool
	Pull      bool
	Secrets   []Secret // from all inputs, github-token among them

	// Build arguments that have a meaning for the client. BuildArgs has their texts too.
	Syntax        string // BUILDKIT_SYNTAX: an image, and after a space anything for that frontend; "": none
	MultiPlatform bool   // BUILDKIT_MULTI_PLATFORM: an image of one platform is an index too
	InlineCache   bool   // BUILDKIT_INLINE_CACHE: the image carries its cache

	AddHosts       []syntax.Pair // name and address of hosts, in order
	Allow          []string      // all entitlements of the build: network.host, security.insecure, device=…
	Attests        Attestations  // including the default provenance
	Attested       bool          // some of Attests were asked for
	BuildContexts  []Context
	CgroupParent   string   // "": BuildKit's
	GitHubToken    string   // "": none
	TokenByDefault bool     // GitHubToken is the default of the GitHub Action, and not the workflow's choice
	GitSecret      string   // ID of the secret that holds GitHubToken; "": none does
	Load           bool     // as given; Outputs then have one of type docker without a Dest
	Network        string   // of RUN steps: "", default, none or host
	NoCacheFilters []string // stages whose steps run without the cache
	ShmSize        int64    // bytes of /dev/shm in RUN steps; 0: BuildKit's
	SSH            []SSH
	Ulimits        []string       // as the frontend takes them: "nofile=1024:2048"
	SourcePolicy   *policy.Policy // of EXPERIMENTAL_BUILDKIT_SOURCE_POLICY; nil: none

	Call             string // "": build; check, outline or targets: ask the frontend that instead, and make no outputs
	CallFormat       string // format of the answer: "" (text) or json
	CallIgnoreStatus bool   // findings of check do not fail the step

	Credentials Credentials

	Caches       []cachespec.Cache // to be scoped by branch
	CacheFrom    []cachespec.Cache // which BuildKit reads as they are
	CacheTo      []cachespec.Cache // which BuildKit writes as they are
	CacheKey     string            // "": derive one
	CacheExport  cachespec.Export  // what cache-mode, compression, … say for all Caches
	Fallbacks    []string
	CacheWrite   string // auto, always or never
	CacheKeep    Keep
	CacheMounts  CacheMounts
	CacheBudget  int64 // bytes in GitHub's cache; 0: whatever there is
	CacheStrict  bool
	FailBelow    float64 // ratio of cached steps; 0: none fails
	ProbeTimeout time.Duration
	CacheTimeout time.Duration

	Command string          // build, prune or merge
	Part    bool            // push the image by digest, as one part of an image that the command merge makes: see [Values.Builds]
	Digests []digest.Digest // of the images to merge; nil: those that jobs of this run have pushed as parts
	Prune   Prune
	Targets []Values // of the bake files, sorted by their names; empty: there are none. The values around them are those that all have in common
	Bake    Bake     // of one of Targets; the zero value: the values are of none

	Scope string // the argument of a command that looks after caches; "": none

	Branch, BaseBranch, DefaultBranch string // "": detect it
	PullRequest                       int    // 0: detect it
	Trusted                           *bool  // nil: detect it

	Builders []builderspec.Node // one at least, and with several of them see [Values.Builds]; Platforms are those of all
	Managed  builderspec.Managed
	Progress string // auto, plain, tty or quiet
	Timings  bool   // the report shows where the time went

	Summary            bool   // DOCKER_BUILD_SUMMARY: write GitHub's job summary
	Annotate           bool   // DOCKER_BUILD_CHECKS_ANNOTATIONS: Dockerfile warnings become annotations
	MetadataProvenance string // BUILDX_METADATA_PROVENANCE: min, max or disabled
	MetadataWarnings   bool   // BUILDX_METADATA_WARNINGS; on GitHub true unless set, as in docker/build-push-action
	ReportDir          string // "": the directory that the CI suggests, or none

	deletes bool // outputs may delete files outside the working directory
}

// Credentials are the texts of registry, username, password and registry-auth, which package
// login reads. Printing them shows the registry alone.
type Credentials struct{ Registry, Username, Password, RegistryAuth string }

// String is the registry.
func (c Credentials) String() string { return c.Registry }

// GoString is as String.
func (c Credentials) GoString() string { return "inputs.Credentials(" + c.Registry + ")" }

// Parse reads the inputs. args are the arguments after the command, environ is like
// os.Environ's result, and dir is the working directory: "." outside tests. If there are
// problems, the values are of use only for finding more of them.
func Parse(args, environ []string, dir string) (Values, syntax.Problems) {
	return ParseJob(args, environ, dir, Job{})
}

// Job is what surrounds the process: the job of a CI, and a container. The zero value is for a
// process in neither.
type Job struct {
	Mounts     Mounts // values that name files by the machine's paths become the container's paths
	Repository Repository
	Command    string     // ls, prune or merge, where the program is called with it; "": the input command says what to do
	Bake       BakeReader // reads bake files; nil: they are refused
	Stdin      io.Reader  // read to its end where the input file asks for it; nil: there is none
}

// ParseJob is Parse in a job.
func ParseJob(args, environ []string, dir string, job Job) (Values, syntax.Problems) {
	p := &parser{dir: dir, mounts: job.Mounts, repository: job.Repository, stdin: job.Stdin, subcommand: job.Command, env: map[string]string{}}
	for _, variable := range environ {
		key, value, _ := strings.Cut(variable, "=")
		p.env[key] = value
	}
	p.settings, p.problems = settings.Read(Fields, outputNames(), args, environ)
	asked := p.scopeArgument()
	values := p.all(job.Bake)
	values.Scope = asked
	Sort(p.problems)
	return values, p.problems
}

type parser struct {
	dir        string
	mounts     Mounts
	repository Repository
	stdin      io.Reader
	subcommand string
	env        map[string]string
	settings   settings.Set
	problems   syntax.Problems
	bakes      bool // the values are those that the targets of bake files have in common
}

func (p *parser) report(input string, line int, what, hint string) {
	p.problems = append(p.problems, syntax.Problem{Input: input, Line: line, What: what, Hint: hint})
}

func (p *parser) values() Values {
	v := Values{
		Dir:     p.dir,
		Target:  p.value("target"),
		Labels:  p.labels(),
		NoCache: p.bool("no-cache"),
		Pull:    p.bool("pull"),

		Credentials: Credentials{
			Registry: p.value("registry"), Username: p.value("username"),
			Password: p.settings.Text("password"), RegistryAuth: p.settings.Text("registry-auth"),
		},

		Command: p.command(),
		Part:    p.bool("part"),
		Digests: p.digests(),
		Prune:   p.prune(),

		Branch:        p.value("branch"),
		BaseBranch:    p.value("base-branch"),
		DefaultBranch: p.value("default-branch"),
		PullRequest:   p.int("pull-request"),
		Trusted:       p.optionalBool("trusted"),

		Progress: p.value("progress"),
		Timings:  p.bool("timings"),

		Summary:            p.envBool("DOCKER_BUILD_SUMMARY", true),
		Annotate:           p.envBool("DOCKER_BUILD_CHECKS_ANNOTATIONS", true),
		MetadataProvenance: p.metadataProvenance(),
		MetadataWarnings:   p.envBool("BUILDX_METADATA_WARNINGS", p.repository.Actions),
	}
	v.ReportDir, _ = p.contained("report-dir", 0, p.value("report-dir"))
	p.readBuilders(&v)
	p.readSources(&v)
	p.readRun(&v)
	p.readResult(&v)
	p.readCaches(&v)
	p.assign(&v)
	return v
}

// readSources reads the contexts, the Dockerfile, and what goes into the build besides them.
func (p *parser) readSources(v *Values) {
	var known bool
	if v.Context, known = p.context(); known && !p.upkeep() && !p.bakes {
		v.Dockerfile = p.dockerfile(v.Context)
	}
	v.BuildContexts = p.buildContexts()
	v.BuildArgs = p.buildArgs()
	v.Syntax = v.buildArg(syntaxArg)
	v.MultiPlatform, v.InlineCache = syntax.IsTrue(v.buildArg(multiPlatformArg)), syntax.IsTrue(v.buildArg(inlineCacheArg))
	v.SSH = p.ssh(v.Context)
	v.SourcePolicy = p.sourcePolicy()
	v.GitHubToken, v.TokenByDefault = strings.CutPrefix(p.value("github-token"), tokenDefault)
	v.Secrets = p.secrets()
	if v.GitSecret = p.gitSecret(*v); v.GitSecret != "" {
		v.Secrets = append(v.Secrets, Secret{v.GitSecret, v.GitHubToken})
	}
}

// readRun reads how RUN steps run.
func (p *parser) readRun(v *Values) {
	v.AddHosts = p.addHosts(v.Builders[0].Address.Kind == builderspec.Engine)
	v.CgroupParent = p.value("cgroup-parent")
	v.Network = p.value("network")
	v.Allow, v.deletes = p.allow(v.Network)
	v.NoCacheFilters = p.noCacheFilters()
	v.ShmSize = p.size("shm-size")
	v.Ulimits = p.ulimits()
}

// readResult reads the inputs about the outputs of the build. With call there are none, so
// these inputs are ignored.
func (p *parser) readResult(v *Values) {
	tags := p.tags()
	v.Tags = tagged(tags)
	v.Platforms = p.platforms()
	for _, n := range v.Builders {
		if !p.settings.Given("platforms") {
			v.Platforms = append(v.Platforms, n.Platforms...)
		}
	}
	v.Push, v.Load = p.bool("push"), p.bool("load")
	v.Outputs = p.outputs(*v, tags)
	if len(v.Outputs) == 0 && !p.settings.Given("outputs") {
		v.InEngine = p.finished([]Output{{Type: "image", Attrs: map[string]string{}}}, tags)
	}
	v.Attests, v.Attested = p.attests(v.Outputs)
	p.annotate(*v)
	p.archives(*v, v.Attested)
	p.deletions(*v)
	v.Call, v.CallFormat, v.CallIgnoreStatus = p.call()
	v.CacheOnly = (p.settings.Given("outputs") || p.settings.Given("push")) && len(v.Outputs) == 0
	if v.Command == commandMerge {
		v.Call = ""
		p.needPush()
	}
	if v.Call != "" {
		v.Outputs, v.InEngine = nil, nil
	}
}

// contexts are the build's own context and the named ones.
func (v Values) contexts() []Context { return append([]Context{v.Context}, v.BuildContexts...) }

func texts(items []syntax.Item) []string {
	var all []string
	for _, it := range items {
		all = append(all, it.Text)
	}
	return all
}
