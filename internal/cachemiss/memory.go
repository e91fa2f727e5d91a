// Package cachemiss knows what a scope remembers of its builds, and says why a step of another build was not
// cached. It computes only.
//
//	now := cachemiss.Of(graph, cachemiss.Options{Files: files, Redact: redact})
//	before, err := cachemiss.Parse(stored) // of the scope's last build
//	reasons := cachemiss.Explain(cachemiss.Request{Now: now, Missed: missed, Scopes: []cachemiss.Scope{{Name: "b-main", Builds: []cachemiss.Memory{before}}}})
//	// COPY . .: 2 files changed: go.sum, main.go
//
// A memory has the commands of steps in clear, after redaction, and the names of variables and files. Of the values of
// variables and of the contents of files it has short hashes alone, and of secrets the IDs that the Dockerfile names.
package cachemiss

import (
	"crypto/sha256"
	"encoding/base64"
	"slices"
	"strings"

	"github.com/moby/buildkit/solver/pb"
	digest "github.com/opencontainers/go-digest"

	"github.com/warmlayer/warmlayer/internal/llbgraph"
)

// Memory is what is remembered of one build. The zero value is of a build without steps.
type Memory struct {
	Steps []Step `json:"steps"`
	// Arguments are the names that the Dockerfile declares as build arguments.
	Arguments []string `json:"args,omitempty"`
}

// Step is an operation of a build.
type Step struct {
	Digest   digest.Digest `json:"-"` // of the operation with its inputs, in this build alone
	Stage    string        `json:"stage,omitempty"`
	Platform string        `json:"platform,omitempty"` // as BuildKit shows it when several are built: "linux/arm64"
	Name     string        `json:"name,omitempty"`     // the instruction: "RUN make"
	Kind     Kind          `json:"kind"`
	Inputs   []int         `json:"inputs,omitempty"` // indexes of steps before this one
	Facts    []Fact        `json:"facts,omitempty"`  // in the order in which they are told
	Uses     []Use         `json:"uses,omitempty"`
	Files    Tree          `json:"files,omitempty"`  // of a local source: what the context sends
	Undone   bool          `json:"undone,omitempty"` // the build failed before it was done
	Layers   []string      `json:"l,omitempty"`      // that it made, in all compressions, as far as known; see [LayerID]
}

// Kind is the type of a step: that of BuildKit's operation.
type Kind string

// The kinds of steps.
const (
	Exec   Kind = "exec"
	File   Kind = "file"
	Source Kind = "source"
	Other  Kind = "other" // merges and differences
)

// Fact is one property of a step that its cache key depends on.
type Fact struct {
	Key  string `json:"k"`           // "command", "variable PATH"
	Hash string `json:"h"`           // see [Hash]
	Text string `json:"t,omitempty"` // in clear; "": it is not kept
}

// Use is the part of an input's files that a step reads.
type Use struct {
	Input    int      `json:"i"` // the index of a step
	Src      string   `json:"s,omitempty"`
	Wildcard bool     `json:"w,omitempty"`
	Include  []string `json:"in,omitempty"`
	Exclude  []string `json:"ex,omitempty"`
}

// Hash is a short hash, 40 bits in base64. It tells two values apart, and is too short to prove that a guessed
// value is the right one.
func Hash(text string) string {
	sum := sha256.Sum256([]byte(text))
	return Short(sum[:])
}

// Short is the form of a hash in a memory.
func Short(sum []byte) string { return base64.RawURLEncoding.EncodeToString(sum[:5]) }

// Options are what a memory needs besides the graph.
type Options struct {
	// Files are what a local source sends; nil: not known.
	Files func(Local) Tree
	// Redact hides secrets in a text; nil: there are none.
	Redact func(string) string
}

// Local is a directory that the client sends, as the frontend asks for it.
type Local struct {
	Name                     string // "context", "dockerfile", or that of a build context
	Include, Exclude, Follow []string
}

// maxText is the length in bytes of a text that is kept. The hash covers all of it.
const maxText = 2 << 10

// Of is what is to be remembered of a build.
func Of(g *llbgraph.Graph, o Options) Memory {
	m := Memory{Arguments: arguments(g.Dockerfiles())}
	at := map[digest.Digest]int{}
	for i, s := range g.Steps() {
		at[s.Digest] = i
		out := named(s.Name)
		out.Digest = s.Digest
		for _, in := range s.Op.GetInputs() {
			out.Inputs = append(out.Inputs, at[digest.Digest(in.GetDigest())])
		}
		r := reader{step: &out, options: o}
		r.read(s.Op)
		out.Name = r.clear(out.Name)
		m.Steps = append(m.Steps, out)
	}
	return m
}

// Failed is the memory of a build that failed: it has no results of the steps that are not done.
func (m Memory) Failed(done func(digest.Digest) bool) Memory {
	m.Steps = slices.Clone(m.Steps)
	for i, s := range m.Steps {
		m.Steps[i].Undone = s.Kind != Source && !done(s.Digest)
	}
	return m
}

// named takes the name that BuildKit shows apart: "[linux/arm64 build 2/4] RUN make" (v0.34.2,
// frontend/dockerfile/dockerfile2llb/convert.go, prefixCommand).
func named(name string) Step {
	inside, rest, ok := strings.Cut(strings.TrimPrefix(name, "["), "] ")
	words := strings.Fields(inside)
	if !ok || !strings.HasPrefix(name, "[") || len(words) == 0 || len(words) > 3 || !position(words[len(words)-1]) {
		return Step{Name: name}
	}
	s := Step{Name: strings.TrimPrefix(rest, "ONBUILD ")}
	for _, word := range words[:len(words)-1] {
		if strings.Contains(word, "/") {
			s.Platform = word
		} else {
			s.Stage = word
		}
	}
	return s
}

// position tells whether a word is a position in a stage: "2/4".
func position(word string) bool {
	n, m, ok := strings.Cut(word, "/")
	digits := func(s string) bool { return s != "" && strings.Trim(s, "0123456789") == "" }
	return ok && digits(n) && digits(m)
}

// arguments are the names in the ARG instructions of Dockerfiles, sorted.
func arguments(texts []string) []string {
	var names []string
	for _, text := range texts {
		for line := range strings.Lines(text) {
			words := strings.Fields(line)
			if len(words) < 2 || !strings.EqualFold(words[0], "arg") {
				continue
			}
			for _, word := range words[1:] {
				name, _, _ := strings.Cut(word, "=")
				names = append(names, name)
			}
		}
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// reader reads the facts of one operation.
type reader struct {
	step    *Step
	options Options
}

func (r reader) read(op *pb.Op) {
	switch is := op.GetOp().(type) {
	case *pb.Op_Exec:
		r.step.Kind = Exec
		r.exec(is.Exec, op.GetPlatform())
	case *pb.Op_File:
		r.step.Kind = File
		r.file(is.File)
	case *pb.Op_Source:
		r.step.Kind = Source
		r.source(is.Source, op.GetPlatform())
	default:
		r.step.Kind = Other
	}
}

// clear is a text without secrets, and not too long.
func (r reader) clear(text string) string {
	if r.options.Redact != nil {
		text = r.options.Redact(text)
	}
	return strings.ToValidUTF8(text[:min(len(text), maxText)], "")
}

// add adds a fact in clear.
func (r reader) add(key, text string) {
	r.step.Facts = append(r.step.Facts, Fact{Key: key, Hash: Hash(text), Text: r.clear(text)})
}

// hash adds a fact of which the text is not kept.
func (r reader) hash(key, text string) {
	r.step.Facts = append(r.step.Facts, Fact{Key: key, Hash: Hash(text)})
}
