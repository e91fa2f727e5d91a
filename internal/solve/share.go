package solve

import (
	"context"
	"fmt"
	"maps"

	"github.com/containerd/containerd/v2/core/content"
	gw "github.com/moby/buildkit/frontend/gateway/client"
	"github.com/tonistiigi/fsutil"

	"github.com/warmlayer/warmlayer/internal/together"
)

// share finds the sessions that the build shares with others.
func (b *run) share(m *mounts) error {
	if b.Shared == nil || b.inline() {
		return nil
	}
	for mount, path := range m.paths {
		files, id, err := b.Shared.Send(b.Builder.Client, mount, path, func() fsutil.FS { return m.local[mount] })
		if err != nil {
			return fmt.Errorf("send %s: %w", path, err)
		}
		m.local[mount] = b.recall.files.Watch(mount, files)
		m.sessions[mount] = id
	}
	return nil
}

// lent are the mounts of a build, with the directories that shared sessions send.
func (m mounts) lent() mounts {
	m.local, m.attrs = maps.Clone(m.local), maps.Clone(m.attrs)
	for mount, id := range m.sessions {
		delete(m.local, mount)
		m.attrs[together.SessionOf+mount] = id
	}
	return m
}

// links are the results of other targets that a solve needs.
func (b *run) links(ctx, gateway context.Context, c gw.Client, t target) (together.Links, error) {
	targets := b.Inputs.Bake.Links
	if b.Inputs.Call != "" {
		return together.Empty(gateway, targets)
	}
	return b.Shared.Links(ctx, gateway, b.Builder.Client, c, targets, t.export)
}

// layouts are the OCI layouts of a solve, and of the targets whose frontends it may ask.
func (b *run) layouts(t target) map[string]content.Store {
	if !t.export {
		return t.mounts.layouts
	}
	return b.Shared.Layouts(b.Inputs.Bake.Links, t.mounts.layouts)
}

// tellOthers tells the builds of other targets what this one's frontend has answered.
func (b *run) tellOthers(ctx context.Context, t target, attrs map[string]string, result *gw.Result) {
	if b.Shared == nil {
		return
	}
	m := t.mounts
	b.Shared.Answered(ctx, b.Inputs.Bake.Target, together.Asked{
		Frontend: frontend(attrs), Attrs: attrs, Context: m.paths["context"], Files: m.files, Layouts: m.layouts, Links: b.Inputs.Bake.Links,
	}, result)
}
