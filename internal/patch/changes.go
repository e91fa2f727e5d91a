package main

import "slices"

const buildkit = "github.com/moby/buildkit"

// changes are all changes to BuildKit v0.34.2 and to containerd v2.4.2, which unpacks layers for it.
var changes = slices.Concat(
	[]change{lazyCA, pushAtOnce, keepConnections, sameDirectory, hashAhead, pushUnseen, knownChains, oneImport, lazyNetwork},
	giveBack, gzipAtOnce,
)

// lazyCA makes the certificate authority of the proxy for RUN steps (buildkitd's --proxy-network)
// before the first such proxy, instead of at each start of the daemon. Its key of RSA with 2048 bits is more
// than half of the processor time of a start.
var lazyCA = change{
	module: buildkit,
	file:   "util/network/proxyprovider/provider_linux.go",
	edits: []edit{
		{`	certPEM, ca, key, err := newCA()
	if err != nil {
		return nil, err
	}
	p := &provider{
		root:                 opt.Root,
		caPEM:                certPEM,
		ca:                   ca,
		caKey:                key,
`, `	p := &provider{
		root:                 opt.Root,
`},
		{`func (p *provider) NewProxy(ctx context.Context, proxy *network.ProxyConfig) (_ network.ProxyNamespace, retErr error) {
`, `func (p *provider) NewProxy(ctx context.Context, proxy *network.ProxyConfig) (_ network.ProxyNamespace, retErr error) {
	if err := p.initCA(); err != nil {
		return nil, err
	}
`},
		{`func newCA() (`, `// initCA makes the certificate authority, once. It is a change by the warmlayer project.
func (p *provider) initCA() (err error) {
	p.certsMu.Lock()
	defer p.certsMu.Unlock()
	if p.caKey == nil {
		p.caPEM, p.ca, p.caKey, err = newCA()
	}
	return err
}

func newCA() (`},
	},
}

// lazyNetwork makes the first network namespace when a step needs it, where BUILDKIT_CNI_LAZY says so: BuildKit tries one at each
// start, which takes 24 ms of 70. internal/builder tries it beside the start, in less.
var lazyNetwork = change{
	module: buildkit,
	file:   "util/network/cniprovider/cni.go",
	edits: []edit{{`	if err := cp.initNetwork(true); err != nil {
		return nil, err
	}
`, `	if os.Getenv("BUILDKIT_CNI_LAZY") != "1" { // a change by the warmlayer project
		if err := cp.initNetwork(true); err != nil {
			return nil, err
		}
	}
`}},
}

// pushAtOnce pushes the manifests of an index at once, where BuildKit pushes one after the other. An image with an
// attestation has two, and each is asked for before it is sent.
var pushAtOnce = change{
	module: buildkit,
	file:   "util/push/push.go",
	edits: []edit{
		{`	for _, desc := range slices.Backward(manifestStack) {
		if _, err := pushHandler(ctx, desc); err != nil {
			return mfstDone(err)
		}
	}
	return mfstDone(nil)
}
`, `	return mfstDone(pushManifests(ctx, pushHandler, manifestStack))
}

// pushManifests pushes manifests, all at once, and then the indexes, of which the first names the others. It is a
// change by the warmlayer project.
func pushManifests(ctx context.Context, push images.HandlerFunc, all []ocispecs.Descriptor) error {
	eg, egCtx := errgroup.WithContext(ctx)
	for _, desc := range all {
		if images.IsManifestType(desc.MediaType) {
			eg.Go(func() error {
				_, err := push(egCtx, desc)
				return err
			})
		}
	}
	if err := eg.Wait(); err != nil {
		return err
	}
	for _, desc := range slices.Backward(all) {
		if !images.IsManifestType(desc.MediaType) {
			if _, err := push(ctx, desc); err != nil {
				return err
			}
		}
	}
	return nil
}
`},
		{`	"github.com/pkg/errors"
)
`, `	"github.com/pkg/errors"
	"golang.org/x/sync/errgroup"
)
`},
	},
}

// keepConnections keeps as many connections to a registry that speaks HTTP/1.1 as a managed builder uses at once
// (internal/builder, registryConnections), so that none is made twice.
var keepConnections = change{
	module: buildkit,
	file:   "util/resolver/resolver.go",
	edits:  []edit{{"MaxIdleConnsPerHost:   4,", "MaxIdleConnsPerHost:   16,"}},
}

// pushUnseen sends the manifests that an index names without asking for each whether it is there: they are small, and a
// build with provenance has new ones each time. The image itself is asked for: a registry with immutable tags refuses to
// get it again.
var pushUnseen = change{
	module: containerd,
	file:   "core/remotes/docker/pusher.go",
	edits: []edit{{`	resp, err := req.doWithRetries(ctx, true)
	if err != nil {
		if !errors.Is(err, ErrInvalidAuthorization) {
			return nil, err
		}
		log`, `	var resp *http.Response
	if isManifest && existCheck[1] == desc.Digest.String() { // a change by the warmlayer project
		resp, err = &http.Response{StatusCode: http.StatusNotFound, Body: http.NoBody}, nil
	} else {
		resp, err = req.doWithRetries(ctx, true)
	}
	if err != nil {
		if !errors.Is(err, ErrInvalidAuthorization) {
			return nil, err
		}
		log`}},
}
