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
	began := time.Now()
	unmasked := r.mask(ctx)
	result := solve.Result{Metadata: map[string]string{}}
	parts, warnings, err := r.merge(ctx, &result)
	rep := report.Report{
		Version: r.host.Version, Result: result, Err: err, Merged: parts,
		Warnings: append(append(r.registries.Warnings(), warnings...), unmasked...), Seconds: time.Since(began).Seconds(),
	}
	return r.publish(ctx, rep)
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
	kept, err := j.Clear(ctx, bond)
	if err != nil {
		warnings = append(warnings, fmt.Sprintf("the image is there, and tags that led to its parts are too: %v", err))
	}
	if len(kept) > 0 {
		warnings = append(warnings, "the registry removes no tag alone, so these stay: "+strings.Join(kept, ", "))
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
	result.Becomes(index, j.Names)
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
	return join.Bond{Ref: ref, Commit: f.Commit, Key: r.Inputs.CacheKey}
}

// leavePart gives the image of a build that is a part its tag, by which the merge finds it.
func (r Run) leavePart(ctx context.Context, result solve.Result) error {
	if !r.Inputs.Part || r.asks() || result.Digest == "" {
		return nil
	}
	return r.joined().Leave(ctx, r.bond(), result.Digest, built(r.Builds[0].Inputs))
}
