package step

import (
	"cmp"
	"context"
	"fmt"
	"strings"
	"time"

	digest "github.com/opencontainers/go-digest"

	"github.com/warmlayer/warmlayer/internal/join"
	"github.com/warmlayer/warmlayer/internal/report"
	"github.com/warmlayer/warmlayer/internal/solve"
	"github.com/warmlayer/warmlayer/internal/syntax"
	"github.com/warmlayer/warmlayer/internal/timing"
)

// Merge makes one image of those that several jobs have pushed, publishes the report and returns the exit code.
func (r Run) Merge(ctx context.Context) int {
	if len(r.Inputs.Pushed()) == 0 {
		r.say("push is false: nothing is merged")
		return ExitOK
	}
	began := time.Now()
	unmasked := r.mask(ctx)
	result := solve.Result{Metadata: map[string]string{}}
	parts, warnings, err := r.merge(ctx, &result)
	if parts == nil {
		parts = []digest.Digest{}
	}
	rep := report.Report{
		Version: r.host.Version, Result: result, Err: err, Merged: parts,
		Warnings: append(append(r.registries.Warnings(), warnings...), unmasked...), Seconds: time.Since(began).Seconds(),
	}
	return r.publish(ctx, rep)
}

// partProblems are the reasons why the parts of an image cannot be told from others.
func (r Run) partProblems() (problems syntax.Problems) {
	merges, in := r.Inputs.Command == "merge", r.Inputs
	if in.Digests != nil || !merges && !in.Part {
		return nil
	}
	if r.Facts.Commit == "" {
		problems = append(problems, syntax.Problem{
			What: "the commit is not known, which tells the parts of an image from those of another build",
			Hint: "run it in a checkout, or push by digest with outputs, and set digests in the merge",
		})
	}
	if merges && len(in.Platforms) == 0 && len(in.Pushed()) > 0 {
		problems = append(problems, syntax.Problem{
			Input: "platforms", What: "a merge must know which parts belong to the image", Hint: "set platforms to those of all parts, such as linux/amd64,linux/arm64",
		})
	}
	return problems
}

// merge pushes the index of the parts, and removes the tags that led to them.
func (r Run) merge(ctx context.Context, result *solve.Result) (parts []digest.Digest, warnings []string, err error) {
	j, bond := r.joined(), r.bond()
	j.Platforms = r.Inputs.Platforms
	j.Parts = r.Inputs.Digests
	if j.Parts == nil {
		if j.Parts, err = j.Find(ctx, bond); err != nil {
			return nil, nil, err
		}
	}
	if err := r.joinParts(ctx, j, result); err != nil {
		return j.Parts, nil, err
	}
	if r.Inputs.Digests != nil {
		return j.Parts, nil, nil
	}
	kept, err := j.Clear(ctx, bond, j.Parts)
	if err != nil {
		warnings = append(warnings, fmt.Sprintf("the image was pushed, but not all tags of its parts could be removed: %v", err))
	}
	if len(kept) > 0 {
		warnings = append(warnings, "the registry does not remove the tags of the parts, so these stay: "+strings.Join(kept, ", "))
	}
	return j.Parts, warnings, nil
}

// joined are the settings of an index that the outputs ask for.
func (r Run) joined() join.Join {
	j := join.Join{Names: r.Inputs.Pushed(), Annotations: r.Inputs.IndexAnnotations(), Keychain: r.registries}
	for _, o := range r.Inputs.Outputs {
		j.Docker = j.Docker || syntax.IsFalse(o.Attrs["oci-mediatypes"])
		j.Insecure = j.Insecure || syntax.IsTrue(o.Attrs["registry.insecure"])
	}
	return j
}

// joinParts pushes an index of images, and sets it as the image of the result.
func (r Run) joinParts(ctx context.Context, j join.Join, result *solve.Result) error {
	began := time.Now()
	index, err := j.Push(ctx)
	if err != nil {
		return err
	}
	becomes(result, index, j.Names)
	result.Parts = append(result.Parts, timing.Part{Name: "join", Start: began, End: time.Now()})
	result.Phases = append(result.Phases, solve.Phase{Name: "join", Seconds: time.Since(began).Seconds()})
	return nil
}

// bond is what the jobs that build parts of an image, and the job that merges them, have in common.
func (r Run) bond() join.Bond {
	f := r.Facts
	ref := cmp.Or(f.Branch, f.Tag)
	if f.PR != 0 {
		ref = fmt.Sprintf("pull request %d", f.PR)
	}
	return join.Bond{Ref: ref, Commit: f.Commit, Run: r.host.CI.Run(), Key: r.Inputs.CacheKey}
}

// leavePart tags the image of a build with the input part, so that the merge finds it.
func (r Run) leavePart(ctx context.Context, result solve.Result) error {
	if !r.Inputs.Part || r.asks() || result.Digest == "" {
		return nil
	}
	return r.joined().Leave(ctx, r.bond(), result.Digest)
}
