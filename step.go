package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/docker/cli/cli/config"
	"github.com/docker/cli/cli/config/configfile"
	"github.com/moby/buildkit/util/grpcerrors"
	"golang.org/x/sync/errgroup"
	"google.golang.org/grpc/codes"

	"github.com/warmlayer/warmlayer/backends"
	"github.com/warmlayer/warmlayer/inputs"
	"github.com/warmlayer/warmlayer/internal/builder"
	"github.com/warmlayer/warmlayer/internal/gateway"
	"github.com/warmlayer/warmlayer/internal/login"
	"github.com/warmlayer/warmlayer/internal/report"
	"github.com/warmlayer/warmlayer/internal/solve"
	"github.com/warmlayer/warmlayer/internal/syntax"
	"github.com/warmlayer/warmlayer/scope"
)

// step is one run of the program, with its inputs understood.
type step struct {
	inputs     inputs.Values
	env        environment
	self       builder.Self // the container that this is; the zero value where that is unknown
	plan       scope.Plan
	caches     []backends.Backend
	docker     *configfile.ConfigFile
	registries *login.Registries
	redactor   *report.Redactor
	stdout     *os.File
	stderr     *os.File

	nodes    []*step        // one for each of several builders; nil for one
	progress io.WriteCloser // where one of these shows its build; nil: stderr
}

// derive finds what follows from the inputs and from what is known of the run: who
// reads and writes, and in which caches. The problems are all that is wrong with these.
func (s *step) derive(facts scope.Facts) []syntax.Problem {
	var problems []syntax.Problem
	s.plan = scope.New(facts, scopeOptions(s.inputs))
	if s.registries == nil {
		problems = s.logIn()
	}
	if len(s.inputs.Nodes) > 0 {
		return append(problems, s.split(facts)...)
	}
	caches, found := backends.New(s.inputs.Caches, s.cacheOptions())
	s.caches = caches
	if problems = append(problems, found...); len(problems) == 0 {
		s.guard()
	}
	return problems
}

// build is the straight line from a builder to the report.
func (s *step) build(ctx context.Context) int {
	began := time.Now()
	onBuilder := s.solve
	if len(s.nodes) > 0 {
		onBuilder = s.solveNodes
	}
	unmasked := s.mask(ctx)
	section := report.Section{CI: s.plan.Facts.CI, Title: "Build", Began: began}
	fmt.Fprint(s.stderr, section.Begin())
	result, address, err := s.privately(func() (solve.Result, string, error) { return onBuilder(ctx) })
	fmt.Fprint(s.stderr, section.End(time.Now(), err != nil))
	r := report.Report{
		Version: version(), Plan: s.plan, Builder: address, Result: result, Err: err,
		Warnings: slices.Concat(s.warnings(), unmasked), Seconds: time.Since(began).Seconds(),
	}
	out := s.redactor.Writer(s.stderr)
	err = errors.Join(s.answer(result.Answer), s.annotate(r), r.Console(out), out.Close())
	code := s.exitCode(ctx, r)
	if err := errors.Join(err, r.Publish(s.places(), s.redactor.String)); err != nil {
		fmt.Fprintln(s.stderr, s.redactor.String("report: "+err.Error()))
		code = max(code, exitBuild)
	}
	s.showOnBuildkite(ctx, r)
	return code
}

// answer writes what the frontend said of the Dockerfile, for people or programs.
func (s *step) answer(text string) error {
	out := s.redactor.Log(s.plan.Facts.CI, s.stdout)
	_, err := io.WriteString(out, text)
	return errors.Join(err, out.Close())
}

// warnings are about what was asked for.
func (s *step) warnings() []string {
	all := slices.Concat(s.plan.Warnings, s.registries.Warnings())
	for _, part := range s.parts() {
		for _, w := range part.plan.Warnings {
			if !slices.Contains(all, w) {
				all = append(all, w)
			}
		}
	}
	if len(s.inputs.Outputs) > 0 || s.inputs.CacheOnly || s.asks() {
		return all
	}
	return append(all, "no outputs: the result stays in the builder; set push or outputs, or outputs: type=cacheonly")
}

// privately makes BuildKit's auth provider keep its token seeds, of which it writes one
// for each registry that it has credentials for (v0.33.1, session/auth/authprovider), out of
// the user's Docker config.
func (s *step) privately(run func() (solve.Result, string, error)) (solve.Result, string, error) {
	dir, err := os.MkdirTemp(s.env.get("TMPDIR"), "warmlayer-tokens-")
	if err != nil {
		return solve.Result{}, "", fmt.Errorf("make a private directory: %w", err)
	}
	config.SetDir(dir)
	result, address, err := run()
	return result, address, errors.Join(err, os.RemoveAll(dir))
}

// solve brings up the builder while the scopes are read, connects the two, and builds.
func (s *step) solve(ctx context.Context) (solve.Result, string, error) {
	began := time.Now()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var b *builder.Builder
	var sources []backends.Source
	var started, read time.Duration
	var eg errgroup.Group
	eg.Go(func() (err error) {
		if b, err = builder.Open(ctx, s.builder()); err != nil {
			cancel()
		}
		started = time.Since(began)
		return err
	})
	eg.Go(func() error {
		if !s.asks() {
			sources = backends.Read(ctx, keepers(s.caches), s.plan, s.inputs.ProbeTimeout)
		}
		read = time.Since(began)
		return nil
	})
	if err := eg.Wait(); err != nil {
		return solve.Result{}, "", err
	}
	result, err := s.solveWith(ctx, b, sources)
	result.Phases = slices.Concat([]solve.Phase{
		{Name: "start builder", Seconds: started.Seconds()},
		{Name: "read caches", Seconds: read.Seconds()},
	}, result.Phases)
	if grpcerrors.Code(err) == codes.Unavailable && b.Ours {
		err = fmt.Errorf("%w\nthe builder's last words:\n%s", err, b.Log())
	}
	return result, b.Address, errors.Join(err, b.Close())
}

// solveWith builds on a builder that is up. A daemon of ours gets a gateway.
func (s *step) solveWith(ctx context.Context, b *builder.Builder, sources []backends.Source) (result solve.Result, err error) {
	if err := s.checkPlatforms(b); err != nil {
		return result, err
	}
	request := solve.Request{
		Inputs: s.inputs, Builder: b, Exclude: s.exclude(),
		Auth:     s.registries.AuthConfig,
		Progress: s.display(), Stdout: s.stdout,
		Engine: s.engine(), Proxies: s.proxies(),
	}
	var g *gateway.Gateway
	if b.Ours {
		var listener net.Listener
		if listener, err = b.Listen(ctx); err != nil {
			return result, err
		}
		g = gateway.Serve(listener)
		defer func() { err = errors.Join(err, g.Close()) }()
		_, password := g.Credentials()
		s.redactor.Add(password)
		request.Auth, request.Lost = g.Auth(request.Auth), g.Lost
	}
	request.Caches = gateway.Connect(s.caches, sources, s.plan, s.record(), g)
	from, to, inline := backends.Verbatim(s.inputs.CacheFrom, s.inputs.CacheTo, s.cacheOptions())
	request.Sources = append(sources, from...)
	request.Caches.Destinations = append(request.Caches.Destinations, to...)
	request.Caches.Inline = request.Caches.Inline || inline
	return solve.Run(ctx, request)
}

// display is where progress is shown: a terminal, or a log that may be obeyed.
func (s *step) display() io.Writer {
	switch {
	case s.progress != nil:
		return s.progress
	case report.Obeys(s.plan.Facts.CI):
		return s.redactor.Log(s.plan.Facts.CI, s.stderr)
	}
	return s.redactor.Terminal(s.stderr)
}

// keepers are the caches whose scopes can be read.
func keepers(caches []backends.Backend) []backends.Keeper {
	var out []backends.Keeper
	for _, c := range caches {
		if k, ok := c.(backends.Keeper); ok {
			out = append(out, k)
		}
	}
	return out
}

// engine is where the docker program finds the container engine.
func (s *step) engine() builder.Engine { return s.env.engine(s.docker.CurrentContext) }

// proxies are those that the Docker config has for the engine, or for any.
func (s *step) proxies() map[string]string {
	proxies := map[string]string{}
	for name, value := range s.docker.ParseProxyConfig(s.engine().Address(), nil) {
		proxies[name] = *value
	}
	return proxies
}

// exclude are the directories that would change a context by being in it.
func (s *step) exclude() []string {
	var dirs []string
	for _, c := range s.caches {
		if l, ok := c.(*backends.Local); ok {
			dirs = append(dirs, l.Dirs()...)
		}
	}
	if dir := s.reportDir(); dir != "" {
		if abs, err := filepath.Abs(dir); err == nil {
			dirs = append(dirs, abs)
		}
	}
	return dirs
}

func (s *step) record() backends.Record {
	f := s.plan.Facts
	return backends.Record{
		Branch: f.Branch, PR: f.PR, Key: s.plan.Key, Commit: f.Commit, Repo: f.Repo, URL: f.URL, Version: version(),
	}
}

func (s *step) reportDir() string {
	return s.inputs.ReportDirectory(s.ci(), s.env.get("RUNNER_TEMP"))
}

// ci is "" at a terminal, where nobody asked for files.
func (s *step) ci() string {
	if ci := s.plan.Facts.CI; ci != "git" {
		return ci
	}
	return ""
}

// asks tells whether the frontend is asked about the Dockerfile, and nothing is built.
func (s *step) asks() bool { return s.inputs.Call != "" }

// exitCode: a cancelled build, a failed one, a cache that was not allowed to fail.
func (s *step) exitCode(ctx context.Context, r report.Report) int {
	switch {
	case ctx.Err() != nil:
		return exitCancelled
	case r.Err != nil:
		return exitBuild
	}
	for _, source := range r.Result.Sources {
		if source.State == backends.Failed && s.inputs.CacheStrict {
			return exitCache
		}
	}
	for _, export := range r.Result.Exports {
		if export.Outcome == solve.Broken && (s.inputs.CacheStrict || export.Strict) {
			return exitCache
		}
	}
	return exitOK
}

// environment is os.Environ's list. The last of several assignments holds.
type environment []string

func (e environment) get(name string) string {
	for _, variable := range slices.Backward(e) {
		if value, ok := strings.CutPrefix(variable, name+"="); ok {
			return value
		}
	}
	return ""
}
