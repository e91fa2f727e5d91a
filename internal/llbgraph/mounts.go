package llbgraph

import (
	"fmt"
	"slices"
	"strings"

	"github.com/moby/buildkit/solver/pb"
	digest "github.com/opencontainers/go-digest"
)

// CacheMount is a RUN --mount=type=cache of a step.
type CacheMount struct {
	ID       string             // BuildKit's: a namespace, which is mostly "", a slash, and the id or else the target
	Sharing  pb.CacheSharingOpt // shared, private or locked
	Base     Output             // what the mount begins with; the zero value: nothing
	Selector string             // the directory of the mount that the step sees; "": all of it
}

// Key tells mounts apart as BuildKit does (v0.34.2, solver/llbsolver/mounts/mount.go, getRefCacheDir): mounts with
// another base are others.
func (m CacheMount) Key() string {
	if m.Base == (Output{}) {
		return m.ID
	}
	return fmt.Sprintf("%s %s:%d", m.ID, m.Base.Step, m.Base.index)
}

// Name is the id as a Dockerfile has it: "gomod", or "/root/.cache" for a mount that has only a target. A namespace
// stays in front.
func (m CacheMount) Name() string { return strings.TrimPrefix(m.ID, "/") }

// CacheMounts are the mounts of type cache that a step may write, each once.
func (g *Graph) CacheMounts(step digest.Digest) (all []CacheMount) {
	op := g.ops[step]
	if op == nil {
		return nil
	}
	for _, m := range op.GetExec().GetMounts() {
		if m.MountType != pb.MountType_CACHE || m.CacheOpt == nil || m.Readonly {
			continue
		}
		mount := CacheMount{ID: m.CacheOpt.ID, Sharing: m.CacheOpt.Sharing, Selector: m.Selector}
		if m.Input >= 0 && m.Input < int64(len(op.Inputs)) {
			mount.Base = input(op.Inputs[m.Input])
		}
		if !slices.ContainsFunc(all, func(other CacheMount) bool { return other.Key() == mount.Key() }) {
			all = append(all, mount)
		}
	}
	return all
}
