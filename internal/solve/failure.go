package solve

import (
	"context"
	"errors"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"github.com/moby/buildkit/solver/errdefs"
	digest "github.com/opencontainers/go-digest"

	"github.com/warmlayer/warmlayer/inputs"
	"github.com/warmlayer/warmlayer/internal/explain"
)

// Failure is what a person reads about a build that failed, in addition to its error.
type Failure struct {
	What  string // what happened, in one line; "" where only the error says it
	Next  string // what to do next, in one line; "" where nothing is known
	Place Place  // in the Dockerfile; zero where none is at fault
	Step  string // the step's name; "" where none ran
	Log   string // the last lines that the step wrote
}

// failure explains an error of BuildKit. It is nil if nothing is known beyond the error, and for a
// build that was cancelled.
func (b *run) failure(ctx context.Context, err error, w *watch) *Failure {
	if ctx.Err() != nil {
		return nil
	}
	f, text := &Failure{}, b.Inputs.Dockerfile.Text
	for _, source := range slices.Backward(errdefs.Sources(err)) {
		if place := b.place(source.Info, source.Ranges); place.Line > 0 {
			f.Place, text = place, source.Info.Data
			break
		}
	}
	var vertex *errdefs.VertexError
	if errors.As(err, &vertex) {
		f.Step, f.Log = w.said(digest.Digest(vertex.Digest))
	}
	e := explain.Build(explain.Failure{
		Err: err, Vertex: f.Step, Log: f.Log, Line: f.Place.Line, Dockerfile: text,
		Network: b.Inputs.Network, Open: b.directory, Redact: b.Redact,
		Login: func(repository string, push bool) explain.Login { return b.login(ctx, repository, push) },
	})
	f.What, f.Next = e.What, e.Next
	if f.Place.Line == 0 && e.Line > 0 {
		f.Place = Place{File: b.Inputs.Dockerfile.Name, Line: e.Line, EndLine: e.EndLine}
	}
	if f.What == "" && f.Place.Line == 0 {
		return nil
	}
	return f
}

// login says who is logged in to a repository, for an explanation.
func (b *run) login(ctx context.Context, repository string, push bool) explain.Login {
	if b.Login == nil {
		return explain.Login{}
	}
	return b.Login(ctx, repository, push)
}

// directory is a context on this machine, for an explanation: the build's own is called "".
func (b *run) directory(name string) (explain.Directory, bool) {
	c := b.Inputs.Context
	if name != "" {
		i := slices.IndexFunc(b.Inputs.BuildContexts, func(c inputs.Context) bool { return c.Name == strings.ToLower(name) })
		if i < 0 {
			return explain.Directory{}, false
		}
		c = b.Inputs.BuildContexts[i]
	}
	if c.Kind != inputs.Directory || c.Dir == "" {
		return explain.Directory{}, false
	}
	shown := filepath.ToSlash(filepath.Clean(c.Source))
	d := explain.Directory{Name: strings.TrimSuffix(shown, "/") + "/", Files: os.DirFS(c.Dir)}
	if shown == "." {
		d.Name = "."
	}
	// The frontend's order (BuildKit v0.34.2, frontend/dockerui/config.go).
	const ignore = ".dockerignore"
	if of := b.Inputs.Dockerfile; name == "" && of.Path != "" {
		if rules, err := os.ReadFile(of.Path + ignore); err == nil {
			d.Ignore, d.Rules = of.Name+ignore, string(rules)
			return d, true
		}
	}
	if rules, err := os.ReadFile(filepath.Join(c.Dir, ignore)); err == nil {
		d.Ignore, d.Rules = path.Join(shown, ignore), string(rules)
	}
	return d, true
}
