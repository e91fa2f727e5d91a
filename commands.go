package main

import (
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"path"
	"path/filepath"
	"runtime/debug"
	"slices"
	"strings"

	"github.com/containerd/platforms"
	"github.com/docker/cli/cli/config"
	"github.com/moby/buildkit/client"

	"github.com/warmlayer/warmlayer/backends"
	"github.com/warmlayer/warmlayer/inputs"
	"github.com/warmlayer/warmlayer/internal/builder"
	"github.com/warmlayer/warmlayer/internal/login"
	"github.com/warmlayer/warmlayer/internal/solve"
	"github.com/warmlayer/warmlayer/internal/syntax"
	"github.com/warmlayer/warmlayer/scope"
)

// splitCommand takes the command word off; without one the command is build.
func splitCommand(args []string) (string, []string) {
	if len(args) > 0 && slices.Contains(slices.Concat([]string{"build", "plan", "version", "help"}, hidden), args[0]) {
		return args[0], args[1:]
	}
	return "build", args
}

func cutFlag(args []string, flag string) (bool, []string) {
	i := slices.Index(args, flag)
	if i < 0 {
		return false, args
	}
	return true, slices.Concat(args[:i], args[i+1:])
}

// simple serves the commands that need no inputs, and tells whether it was one.
func simple(command string, args []string, stdout, stderr io.Writer) (code int, done bool) {
	switch {
	case command == "help" || slices.Contains(args, "--help") || slices.Contains(args, "-h"):
		fmt.Fprint(stdout, usage, "\n", inputs.Usage())
	case command != "version":
		return exitOK, false
	case len(args) > 0:
		return explain(stderr, syntax.Problems{{What: "argument 1 is unexpected", Hint: "version takes none"}}), true
	default:
		fmt.Fprintln(stdout, version())
	}
	return exitOK, true
}

const usage = `warmlayer builds a container image, and starts warm on every branch.

  warmlayer [build] [flags] [CONTEXT]   build, read and write the caches of this branch
  warmlayer plan [--json] [flags]       say what would be read and written; start nothing
  warmlayer version

Exit codes: 0 ok, 1 the build failed, 2 bad input, 3 a cache failed that must not, 130 cancelled.
`

// release is the version that the image's build sets; "" elsewhere.
var release string

// version is the release's, or the module's as the Go toolchain stamps it.
func version() string {
	if release != "" {
		return release
	}
	if info, ok := debug.ReadBuildInfo(); ok {
		return info.Main.Version
	}
	return "unknown"
}

// scopeOptions are the user's words on what was detected.
func scopeOptions(in inputs.Values) scope.Options {
	o := scope.Options{
		Branch: in.Branch, Base: in.BaseBranch, Default: in.DefaultBranch, PR: in.PullRequest,
		Trusted: in.Trusted, Write: in.CacheWrite, Fallbacks: in.Fallbacks, Key: in.CacheKey,
	}
	if o.Key != "" {
		return o
	}
	file := in.Dockerfile()
	if file != "" {
		file = path.Join(in.Subdir(), file)
	}
	built := in.Platforms
	if len(built) == 0 {
		built = []string{platforms.Format(platforms.DefaultSpec())}
	}
	o.Key = scope.Key(file, in.Subdir(), in.Target, built)
	return o
}

// logIn reads the credentials that docker login left, and puts those of the inputs and of
// the CI beside them.
func (s *step) logIn() syntax.Problems {
	dir := s.env.dockerDir()
	var problems syntax.Problems
	docker, err := config.Load(dir)
	if err != nil {
		problems = append(problems, syntax.Problem{
			What: fmt.Sprintf("read docker config in %s: %v", dir, err), Hint: "mend the file, or set DOCKER_CONFIG to another directory",
		})
	}
	registries, found := login.New(login.Options{
		Inputs: login.Inputs(s.inputs.Credentials), Docker: docker, Getenv: s.env.get, GitHubToken: s.inputs.GitHubToken,
		Doubt: s.doubt(), Redact: s.redactor.Add,
	})
	s.docker, s.registries = docker, registries
	return append(problems, found...)
}

// doubt says why this run is not trusted, "" where it is.
func (s *step) doubt() string {
	if f := s.plan.Facts; !f.Trusted || f.Unlisted {
		return cmp.Or(f.Doubt, "nothing says whose code it builds")
	}
	return ""
}

// cacheOptions are what the caches depend on besides their lines.
func (s *step) cacheOptions() backends.Options {
	for _, name := range backends.SecretVariables {
		s.redactor.Add(s.env.get(name))
	}
	return backends.Options{
		Attrs: s.inputs.CacheAttrs, Images: s.inputs.Pushed(),
		Keychain: s.registries, CacheDir: s.cacheDir(),
		Getenv: s.env.get, Builder: s.builder().Remote(), BuilderTLS: s.inputs.BuilderTLS != inputs.TLS{},
	}
}

func (s *step) builder() builder.Options {
	security, _ := s.inputs.BuilderTLS.Config() // inputs has checked it
	o := builder.Options{
		Address: s.inputs.Builder, Environ: s.env, TLS: security,
		Flags: s.inputs.DaemonFlags, Config: s.inputs.DaemonConfig, Platforms: s.inputs.Platforms,
	}
	for _, e := range s.inputs.DaemonEnv {
		o.Env = append(o.Env, e.Key+"="+e.Value)
	}
	o.Entitlements = solve.Entitlements(s.inputs)
	o.Engine = s.engine()
	o.ConfigFiles = s.inputs.DaemonFiles
	o.Container = builder.Container{Image: s.inputs.Container.Image, Network: s.inputs.Container.Network, Resources: s.inputs.Container.Resources}
	if s.self.Alone {
		o.Container.Job, o.Container.Runner = s.env.job()
	}
	return o
}

// cacheDir is this project's place in the user's cache: two projects on one
// machine both have a branch main.
func (s *step) cacheDir() string {
	root := s.env.get("XDG_CACHE_HOME")
	if root == "" && s.env.get("HOME") != "" {
		root = filepath.Join(s.env.get("HOME"), ".cache")
	}
	project := s.plan.Facts.Repo
	if abs, err := filepath.Abs("."); project == "" && err == nil {
		project = abs
	}
	if root == "" || project == "" {
		return ""
	}
	return filepath.Join(root, "warmlayer", scope.Slug(project))
}

// printPlan says what would be read and written.
func (s *step) printPlan(w io.WriteCloser, asJSON bool) int {
	defer w.Close()
	if !asJSON {
		fmt.Fprint(w, s.planText())
		return exitOK
	}
	imports, exports := s.entries()
	out := json.NewEncoder(w)
	out.SetEscapeHTML(false)
	out.SetIndent("", "  ")
	err := out.Encode(struct {
		scope.Plan
		Imports []entry `json:"imports"`
		Exports []entry `json:"exports"`
	}{s.plan, imports, exports})
	if err != nil {
		fmt.Fprintln(s.stderr, err)
		return exitBuild
	}
	return exitOK
}

type entry struct {
	Type  string            `json:"type"`
	Attrs map[string]string `json:"attrs"`
}

// entries are BuildKit's native ones, whatever the builder.
func (s *step) entries() (imports, exports []entry) {
	imports, exports = []entry{}, []entry{}
	list := func(to *[]entry, from []client.CacheOptionsEntry) {
		for _, e := range from {
			*to = append(*to, entry{e.Type, e.Attrs})
		}
	}
	for _, part := range s.parts() {
		for _, c := range part.caches {
			list(&imports, c.Imports(part.plan))
			list(&exports, c.Exports(part.plan))
		}
	}
	for _, c := range s.inputs.CacheFrom {
		imports = append(imports, entry{c.Type, c.Attrs})
	}
	for _, c := range s.inputs.CacheTo {
		exports = append(exports, entry{c.Type, c.Attrs})
	}
	return imports, exports
}

// refusal says why a scope is not written to a cache, "" when it is or was not to be.
func (s *step) refusal(c backends.Backend) string {
	if limited, ok := c.(backends.Limited); ok && s.plan.Write != "" {
		if why := limited.Refuses(s.plan); why != "" {
			return " (not written: " + why + ")"
		}
	}
	return ""
}

func (s *step) planText() string {
	var b strings.Builder
	write := string(s.plan.Write)
	if write == "" {
		write = "nothing"
	}
	fmt.Fprintf(&b, "writes  %s (%s)\n", write, s.plan.Why)
	for _, source := range s.plan.Read {
		fmt.Fprintf(&b, "reads   %s (%s)\n", source.Name, source.Why)
	}
	for _, c := range s.caches {
		fmt.Fprintf(&b, "cache   %s%s\n", c, s.refusal(c))
	}
	verbatim := func(label string, caches []inputs.Cache) {
		for _, c := range caches {
			fmt.Fprintf(&b, "%-7s %s\n", label, backends.Label(client.CacheOptionsEntry{Type: c.Type, Attrs: c.Attrs}))
		}
	}
	verbatim("from", s.inputs.CacheFrom)
	verbatim("to", s.inputs.CacheTo)
	for _, warning := range s.plan.Warnings {
		fmt.Fprintf(&b, "warning: %s\n", warning)
	}
	return b.String()
}
