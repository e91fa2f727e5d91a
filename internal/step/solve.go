package step

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/moby/buildkit/util/grpcerrors"
	"golang.org/x/sync/errgroup"
	"google.golang.org/grpc/codes"

	"github.com/warmlayer/warmlayer/backends"
	"github.com/warmlayer/warmlayer/internal/builder"
	"github.com/warmlayer/warmlayer/internal/builderspec"
	"github.com/warmlayer/warmlayer/internal/cacheplan"
	"github.com/warmlayer/warmlayer/internal/crash"
	"github.com/warmlayer/warmlayer/internal/report"
	"github.com/warmlayer/warmlayer/internal/solve"
	"github.com/warmlayer/warmlayer/internal/timing"
)

// on runs one build on its builder.
func (r Run) on(ctx context.Context, b Build, display io.Writer) outcome {
	return again(ctx, b.Builder, func(o builder.Options) outcome { return r.once(ctx, b, newMachine(o, 1), display) })
}

// again builds, and repeats a build that fails because a disk is full without the kept state.
func again(ctx context.Context, o builder.Options, build func(builder.Options) outcome) outcome {
	made := build(o)
	dir := o.Managed.State.Dir
	if !made.kept || !made.outOfSpace() || ctx.Err() != nil {
		return made
	}
	o.Managed.State = builderspec.State{}
	made = build(o)
	made.state = "removed from " + dir + ": the disk was full"
	made.warnings = append(made.warnings, fmt.Sprintf("builder-state: the disk was full, so the state in %s was removed, and the build was repeated on an empty builder; set a smaller builder-state-size", dir))
	return made
}

// outOfSpace tells whether a build failed for want of room on a disk: as BuildKit says, or the output of the step that failed. Programs
// write the first letter in upper case.
func (o outcome) outOfSpace() bool {
	if o.err == nil {
		return false
	}
	said := o.err.Error()
	if f := o.result.Failure; f != nil {
		said += "\n" + f.Log
	}
	said = strings.ToLower(said)
	return strings.Contains(said, syscall.ENOSPC.Error()) || strings.Contains(said, syscall.EDQUOT.Error())
}

// once runs one build. It reads the scopes while the builder starts and the build begins.
// Progress is written to display.
func (r Run) once(ctx context.Context, b Build, on *machine, display io.Writer) outcome {
	began := time.Now()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	images := r.checkImages(ctx, b, cancel)
	made := r.begin(ctx, b, on, began, cancel, display)
	cancel()
	if refused := images.wait(); refused != nil && made.err != nil && made.result.Failure == nil {
		made.err, made.result.Failure = refused, &solve.Failure{What: refused.What, Next: refused.Next}
	}
	return made
}

// begin builds, without the check of the images' pushes. An engine is asked what it can do before anything else.
func (r Run) begin(ctx context.Context, b Build, on *machine, began time.Time, cancel func(), display io.Writer) outcome {
	if b.Builder.Address.Kind != builderspec.Engine {
		return r.openAndBuild(ctx, b, on, began, cancel, display)
	}
	opened, err := on.open(ctx)
	if err != nil {
		return outcome{err: errors.Join(err, on.release())}
	}
	return r.inEngine(ctx, b, on, opened, began, cancel, display)
}

// openAndBuild opens the builder and builds, without the check of the images' pushes. The build begins
// when the builder answers; what is found out about the caches is waited for where it is used.
func (r Run) openAndBuild(ctx context.Context, b Build, on *machine, began time.Time, cancel func(), display io.Writer) outcome {
	var started *builder.Builder
	var unreadable []error
	var starting time.Duration
	var clock timing.Log
	asked := r.askStores(ctx, b, &clock)
	var eg errgroup.Group
	eg.Go(func() (err error) {
		defer crash.Catch()
		defer clock.Start("start builder")()
		if started, err = on.open(ctx); err != nil {
			cancel()
		}
		starting = time.Since(began)
		return err
	})
	eg.Go(func() error {
		defer crash.Catch()
		if !b.asks() {
			defer clock.Start("read cache-from")()
			unreadable = backends.Unreadable(ctx, b.Inputs.CacheFrom, b.Inputs.ProbeTimeout)
		}
		return nil
	})
	if err := eg.Wait(); err != nil {
		asked.wait()
		return outcome{err: errors.Join(err, on.release()), result: solve.Result{Parts: clock.Parts()}}
	}
	if started.Inside != nil && b.Builder.Address.Kind == builderspec.Auto {
		asked.wait()
		return r.inEngine(ctx, b, on, started, began, cancel, display)
	}
	stop := sync.OnceValue(func() error {
		defer clock.Start("stop builder")()
		return on.release()
	})
	made := r.connect(ctx, b, started, on, cacheplan.Request{Await: asked.wait, Unreadable: unreadable}, display, func() { _ = stop() })
	switch {
	case ctx.Err() != nil:
		started.Hurry()
	case made.outOfSpace():
		started.Forget()
	}
	cancel()
	asked.wait()
	made.address, made.state, made.kept, made.networks = started.Address, started.State, started.Keeps, []report.Network{network(b, started)}
	made.result.Phases = slices.Concat([]solve.Phase{
		{Name: "start builder", Seconds: starting.Seconds()},
		{Name: "read caches", Seconds: asked.reading.Sub(began).Seconds()},
	}, made.result.Phases)
	if grpcerrors.Code(made.err) == codes.Unavailable && started.Managed {
		made.err = fmt.Errorf("%w\nthe end of the builder's log:\n%s", made.err, started.Log())
	}
	made.err = errors.Join(made.err, stop())
	made.result.Parts = append(made.result.Parts, clock.Parts()...)
	return made
}

// stores are the stores of a build's caches, which are being asked.
type stores struct {
	asked   sync.WaitGroup
	found   cacheplan.Found
	reading time.Time // when the scopes were read
}

// askStores begins to read the scopes, and to ask whether they may be written.
func (r Run) askStores(ctx context.Context, b Build, clock *timing.Log) *stores {
	s := &stores{}
	s.asked.Go(func() {
		defer crash.Catch()
		if !b.asks() {
			read := backends.Read
			if b.Builder.Address.Managed() {
				read = backends.ReadTrusting
			}
			s.found.Readings = read(ctx, b.Caches, b.Plan, b.Inputs.ProbeTimeout)
			clock.Add(reads(s.found.Readings)...)
		}
		s.reading = time.Now()
	})
	s.asked.Go(func() {
		defer crash.Catch()
		defer clock.Start("check access")()
		s.found.Refused = r.checkCaches(ctx, b)
	})
	return s
}

// wait waits for the answers.
func (s *stores) wait() cacheplan.Found {
	s.asked.Wait()
	return s.found
}

// reads has the time of each reading.
func reads(readings []backends.Reading) []timing.Part {
	var parts []timing.Part
	for _, one := range readings {
		parts = append(parts, timing.Part{Name: fmt.Sprintf("read %s from %s", one.Name, one.From), Start: one.Began, End: one.Ended})
	}
	return parts
}

// connect solves on a running builder, with what was found out about the caches, and calls stop as soon as nothing needs
// the builder. A managed builder reaches the stores through a gateway.
func (r Run) connect(ctx context.Context, b Build, on *builder.Builder, machine *machine, caches cacheplan.Request, display io.Writer, stop func()) (made outcome) {
	made.warnings, made.err = r.checkPlatforms(b, on)
	if made.err != nil {
		return made
	}
	made.warnings = append(made.warnings, unreachableProxies(network(b, on), r.arguments(b))...)
	request := solve.Request{
		Inputs: b.Inputs, Builder: on, Shared: machine.shared, Exclude: r.exclude(),
		Auth: r.registries.AuthConfig, Login: r.login, Redact: r.host.Redactor.String,
		Screen: r.host.Redactor, Progress: display, Stdout: r.host.Stdout,
		Engine: r.engine(), Proxies: r.proxies(), BuilderID: r.Facts.URL, Why: r.why, Finished: stop,
	}
	g, err := machine.serve(ctx)
	if err != nil {
		made.err = err
		return made
	}
	if g != nil {
		defer machine.unserve()
		_, password := g.Credentials()
		r.host.Redactor.Add(password)
		request.Auth = g.Auth(request.Auth)
	}
	caches.Pool = machine.pool
	caches.Caches, caches.Scopes, caches.Record = b.Caches, b.Plan, r.record(b)
	caches.From, caches.To, caches.Environment, caches.Gateway = b.Inputs.CacheFrom, b.Inputs.CacheTo, r.cacheEnvironment(b), g
	caches.Timeout, caches.Pushed = b.Inputs.CacheTimeout, slices.Collect(maps.Keys(b.pushed()))
	caches.Variant, caches.Keep = variant(b.Inputs), keep(b.Inputs.CacheKeep)
	request.Caches = cacheplan.New(caches)
	request.Mounts = r.cacheMounts(b, on, caches.Record)
	made.result, made.err = solve.Run(ctx, request)
	return made
}

// exclude are the directories of local caches, of builders' states and of the report. They change with every build, so
// contexts leave them out.
func (r Run) exclude() []string {
	var dirs []string
	for _, b := range r.Builds {
		if dir := b.Builder.Managed.State.Dir; dir != "" {
			dirs = addOnce(dirs, dir)
		}
		for _, c := range b.Caches {
			dirs = addOnce(dirs, c.Dirs()...)
		}
	}
	if dir := r.reportDir(); dir != "" {
		if abs, err := filepath.Abs(dir); err == nil {
			dirs = append(dirs, abs)
		}
	}
	return dirs
}

// record is stored with a scope, and says which run wrote it.
func (r Run) record(b Build) backends.Record {
	f := b.Plan.Facts
	return backends.Record{
		Branch: f.Branch, PR: f.PR, Key: b.Plan.Key, Commit: f.Commit, Repo: f.Repo, URL: f.URL, Version: r.host.Version,
	}
}

// reportDir is the directory for the report; "": it is not written to files.
func (r Run) reportDir() string {
	return cmp.Or(r.Inputs.ReportDir, r.host.CI.ReportDir())
}
