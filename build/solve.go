package build

import (
	"context"
	"maps"
	"strings"

	"github.com/moby/buildkit/client"
	"github.com/moby/buildkit/identity"
	"github.com/moby/buildkit/session"
	"github.com/moby/buildkit/session/auth/authprovider"
	"github.com/moby/buildkit/session/secrets/secretsprovider"

	"github.com/warmlayer/warmlayer/gateway"
)

// target is what one solve is for.
type target struct {
	session      *session.Session
	mounts       mounts
	imports      []client.CacheOptionsEntry
	exports      []client.ExportEntry // of the build solve only
	cacheExports []client.CacheOptionsEntry
	noCache      bool
	internal     bool                       // left out of the daemon's build history
	watch        func(*client.SolveStatus)  // sees every status, in order
	show         chan<- *client.SolveStatus // gets them too; nil for none
}

// target is the part that a build's solves have in common.
func (b *run) target(m mounts, imports []gateway.Import) target {
	// NewSession fails only where the system has no randomness left.
	s, err := session.NewSession(context.Background(), b.key)
	if err != nil {
		panic(err)
	}
	t := target{session: s, mounts: m}
	for _, i := range imports {
		// The client writes into the attributes that it is given.
		t.imports = append(t.imports, client.CacheOptionsEntry{Type: i.Entry.Type, Attrs: maps.Clone(i.Entry.Attrs)})
	}
	return t
}

// solve serves the build and every export: same frontend, same options, same imports.
func (b *run) solve(ctx context.Context, t target) (*client.SolveResponse, error) {
	statuses := make(chan *client.SolveStatus)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for s := range statuses {
			t.watch(s)
			if t.show != nil {
				t.show <- s
			}
		}
	}()
	response, err := b.Builder.Client.Solve(ctx, nil, client.SolveOpt{
		SharedSession: t.session,
		LocalMounts:   t.mounts.local,
		Frontend:      "dockerfile.v0",
		FrontendAttrs: b.attrs(t),
		Exports:       t.exports,
		CacheImports:  t.imports,
		CacheExports:  t.cacheExports,
		Session:       b.attachables(),
		Internal:      t.internal,
		Ref:           identity.NewID(),
	}, statuses)
	<-done
	return response, err
}

// attrs are the options of the Dockerfile frontend (BuildKit v0.33.1, frontend/dockerui/config.go).
func (b *run) attrs(t target) map[string]string {
	in := b.Inputs
	attrs := maps.Clone(t.mounts.attrs)
	if in.Target != "" {
		attrs["target"] = in.Target
	}
	for _, p := range in.BuildArgs {
		attrs["build-arg:"+p.Key] = p.Value
	}
	for _, p := range in.Labels {
		attrs["label:"+p.Key] = p.Value
	}
	if len(in.Platforms) > 0 {
		attrs["platform"] = strings.Join(in.Platforms, ",")
	}
	if in.Pull {
		attrs["image-resolve-mode"] = "pull"
	}
	if t.noCache {
		attrs["no-cache"] = ""
	}
	return attrs
}

// attachables are what the daemon may ask of us while it solves.
func (b *run) attachables() []session.Attachable {
	secrets := map[string][]byte{}
	for _, s := range b.Inputs.Secrets {
		secrets[s.ID] = []byte(s.Value)
	}
	return []session.Attachable{
		authprovider.NewDockerAuthProvider(authprovider.DockerAuthProviderConfig{AuthConfigProvider: b.Auth}),
		secretsprovider.FromMap(secrets),
	}
}
