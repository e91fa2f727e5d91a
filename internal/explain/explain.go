// Package explain says in plain words why a build failed, and what to do next. It computes only:
// BuildKit's typed errors come first, then the words of its messages, and then what the caller
// knows of the Dockerfile and of the context.
//
//	e := explain.Build(explain.Failure{Err: err, Line: 7, Dockerfile: text, Open: open})
//	// e.What  COPY nofile: not in the context (e/); excluded by e/.dockerignore line 3
//	// e.Next  remove the pattern from e/.dockerignore, or add !nofile after it
//
// The messages are those of BuildKit v0.34.2 and of containerd v2.
package explain

import (
	"errors"
	"regexp"
	"strings"

	gwpb "github.com/moby/buildkit/frontend/gateway/pb"
	"github.com/moby/buildkit/solver/errdefs"

	"github.com/warmlayer/warmlayer/internal/syntax"
)

// Failure is what is known of a build that failed. All fields but Err may be zero.
type Failure struct {
	Err        error
	Vertex     string // the name of BuildKit's vertex that failed: "[2/3] COPY a /"
	Log        string // the end of what the step wrote
	Line       int    // of the instruction that BuildKit's error points to, from 1; 0: none
	Dockerfile []byte
	Network    string // the input network

	// Redact hides secrets, before texts are cut: a half of a secret would not be known as one.
	// Nil: there are none.
	Redact func(string) string
	// Open returns a context that is a directory on this machine: the build's own is called "".
	Open func(context string) (Directory, bool)
	// Login says who is logged in to a repository such as "ghcr.io/owner/app". It is asked about
	// registries that refused a request. Nil: that is not known.
	Login func(repository string, push bool) Login
}

// Login is who is logged in to a registry. The zero value uses it anonymously.
type Login struct {
	User string // "" where there is a token alone
	From string // where the credentials come from: "registry-auth, line 3"; "": there are none
}

// Explanation is what a person reads about a failure. Both texts may hold names that the author
// of a build has chosen. The zero value explains nothing.
type Explanation struct {
	What string // what happened, in one line, with the instruction where one is known
	Next string // what to do next, in one line; "" where nothing is known

	// Line and EndLine are the lines of the instruction in the Dockerfile, from 1; 0 where none
	// is at fault.
	Line, EndLine int
}

// Build explains why a build failed.
func Build(f Failure) Explanation {
	if f.Err == nil || strings.Contains(f.Err.Error(), "context canceled") {
		return Explanation{}
	}
	if f.Redact == nil {
		f.Redact = func(text string) string { return text }
	}
	f.Vertex, f.Log = f.Redact(f.Vertex), f.Redact(f.Log)
	d := parse([]byte(f.Redact(string(f.Dockerfile))))
	c := failure{Failure: f, text: f.Redact(f.Err.Error()), dockerfile: d, at: d.failed(f)}
	for _, explain := range []func(failure) Explanation{
		frontendImage, command, image, added, push, missingFile, missingInput, dockerfileError, full, outside,
	} {
		if e := explain(c); e.What != "" {
			return c.placed(e)
		}
	}
	if c.at == nil {
		return Explanation{}
	}
	return c.placed(Explanation{What: c.last()})
}

// failure is a Failure with what follows from it.
type failure struct {
	Failure
	text       string // of the error
	dockerfile dockerfile
	at         *instruction // that failed; nil where none is known
}

// placed adds the instruction in front of the explanation, and its lines.
func (f failure) placed(e Explanation) Explanation {
	if e.Line == 0 && f.at != nil {
		e.Line, e.EndLine = f.at.line, f.at.endLine
		e.What = f.at.String() + ": " + e.What
	}
	return e
}

// at is an explanation that belongs to an instruction.
func (i *instruction) explained(what, next string) Explanation {
	if i == nil {
		return Explanation{What: what, Next: next}
	}
	return Explanation{What: i.String() + ": " + what, Next: next, Line: i.line, EndLine: i.endLine}
}

// prefixes are what BuildKit puts before the words that say something.
var prefixes = regexp.MustCompile(`^(failed to solve: |rpc error: code = \w+ desc = |failed to load LLB: |failed to load cache key: |failed to compute cache key: |dockerfile parse error on line \d+: |process "(?s:.)*" did not complete successfully: )`)

// last is the message without its prefixes, in one line.
func (f failure) last() string {
	text := f.text
	for {
		rest := prefixes.ReplaceAllString(text, "")
		if rest == text {
			return syntax.Short(text, longestText)
		}
		text = rest
	}
}

// The greatest lengths, in characters, of an instruction and of a message in an explanation.
const (
	longestInstruction = 80
	longestText        = 300
)

// find returns the groups of a pattern in the message, nil where it does not match.
func (f failure) find(pattern *regexp.Regexp) []string { return pattern.FindStringSubmatch(f.text) }

// exitCode is that of the command that failed; false: none did.
func (f failure) exitCode() (uint32, bool) {
	var exit *gwpb.ExitError
	if errors.As(f.Err, &exit) && exit.ExitCode != gwpb.UnknownExitStatus {
		return exit.ExitCode, true
	}
	return 0, false
}

// frontend is the image of the frontend that failed, "" for BuildKit's own frontend.
func (f failure) frontend() string {
	var frontend *errdefs.FrontendError
	if errors.As(f.Err, &frontend) {
		return frontend.Source
	}
	return ""
}
