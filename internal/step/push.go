package step

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/distribution/reference"
	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	ggcr "github.com/google/go-containerregistry/pkg/v1/remote/transport"

	"github.com/warmlayer/warmlayer/backends"
	"github.com/warmlayer/warmlayer/internal/cachespec"
	"github.com/warmlayer/warmlayer/internal/crash"
	"github.com/warmlayer/warmlayer/internal/explain"
	"github.com/warmlayer/warmlayer/internal/refusal"
	"github.com/warmlayer/warmlayer/internal/syntax"
)

// refusedPush is a push that a registry refuses, found before the build.
type refusedPush struct {
	explain.Explanation
	err error // of the check
}

func (r *refusedPush) Error() string { return "push: " + r.err.Error() }

func (r *refusedPush) Unwrap() error { return r.err }

// imageChecks are the checks of the images that a build pushes, which go on beside the build.
type imageChecks struct {
	running sync.WaitGroup
	mu      sync.Mutex
	first   *refusedPush
}

// checkImages asks the registries whether they accept the images that a build pushes. It does not
// wait for the answers, since a registry may be slow; stop is called when one of them refuses.
func (r Run) checkImages(ctx context.Context, b Build, stop func()) *imageChecks {
	checks := &imageChecks{}
	if b.asks() || r.why {
		return checks
	}
	for repository, insecure := range b.pushed() {
		checks.running.Go(func() {
			defer crash.Catch()
			if refused := r.checkPush(ctx, b, repository, insecure); refused != nil {
				checks.mu.Lock()
				checks.first = refused
				checks.mu.Unlock()
				stop()
			}
		})
	}
	return checks
}

// pushed are the repositories that the image is pushed to ("ghcr.io/o/app"), and whether any certificate
// of them is believed.
func (b Build) pushed() map[string]bool {
	insecure := map[string]bool{}
	for _, o := range b.Inputs.Outputs {
		if !o.Pushes() {
			continue
		}
		for image := range strings.SplitSeq(o.Attrs["name"], ",") {
			if named, err := reference.ParseNormalizedNamed(image); err == nil {
				insecure[named.Name()] = insecure[named.Name()] || syntax.IsTrue(o.Attrs["registry.insecure"])
			}
		}
	}
	return insecure
}

// wait waits for the checks, and returns a refusal, or nil.
func (c *imageChecks) wait() *refusedPush {
	c.running.Wait()
	return c.first
}

// checkCaches asks the registries whether they accept the caches that a build writes, except where the
// image is pushed to the same repository, which [Run.checkImages] asks about. It returns the repositories
// of those that do not, and why.
func (r Run) checkCaches(ctx context.Context, b Build) map[string]error {
	var caches []any
	if b.Plan.Write != "" {
		for _, c := range b.Caches {
			caches = append(caches, c)
		}
	}
	for _, line := range b.Inputs.CacheTo {
		caches = append(caches, line.Config)
	}
	refused := map[string]error{}
	if b.asks() || r.why {
		return refused
	}
	var mu sync.Mutex
	var running sync.WaitGroup
	images := b.pushed()
	for _, c := range caches {
		pushed, ok := c.(cachespec.Pushed)
		if config, isConfig := c.(cachespec.Config); !ok || isConfig && config.InImage() {
			continue // the image's push shows it
		}
		repository, insecure := pushed.PushedTo()
		if _, asked := images[repository]; asked {
			continue
		}
		running.Go(func() {
			defer crash.Catch()
			if no := r.checkPush(ctx, b, repository, insecure); no != nil {
				mu.Lock()
				defer mu.Unlock()
				used := r.login(ctx, repository, true).Used(repository)
				refused[repository] = refusal.Explain(fmt.Errorf("%s: %w", used, no.err))
			}
		})
	}
	running.Wait()
	return refused
}

// checkPush asks a registry whether it accepts a push to a repository such as "ghcr.io/owner/app".
// It returns nil unless the registry certainly refuses, or certainly cannot be reached: a registry
// that does not answer in time, that does not support the check, or that makes a repository with
// the first push may accept what comes later.
func (r Run) checkPush(ctx context.Context, b Build, repository string, insecure bool) *refusedPush {
	ctx, cancel := context.WithTimeout(ctx, b.Inputs.ProbeTimeout)
	defer cancel()
	named, err := reference.ParseNormalizedNamed(repository)
	if err != nil {
		return nil
	}
	transport := remote.DefaultTransport
	if insecure {
		transport = backends.InsecureTransport
	}
	target, err := syntax.Repository(named, insecure)
	if err != nil {
		return nil
	}
	auth, err := r.registries.Authenticator(ctx, reference.Domain(named), scopeOf(named, true))
	if err != nil {
		return nil // BuildKit asks for the credentials too, and its error is the build's
	}
	bounded := ggcr.NewUserAgent(within{ctx, transport, b.Inputs.ProbeTimeout}, backends.UserAgent)
	err = remote.CheckPushPermission(target.Tag("latest"), keychain{auth}, bounded)
	if err == nil || ctx.Err() != nil {
		return nil
	}
	explained, kind := explain.Refusal(named.Name(), r.login(ctx, named.Name(), true), err)
	if kind == explain.Denied || kind == explain.Unreachable && b.reachesAlike(target.RegistryStr()) {
		return &refusedPush{explained, err}
	}
	return nil
}

// reachesAlike tells whether the builder reaches a registry as this process does: it is managed,
// and no setting gives it another network, a proxy, or rules for that registry.
func (b Build) reachesAlike(host string) bool {
	o := b.Builder
	if !o.Address.Managed() || o.Managed.Container.Image != "" || o.Managed.Container.Network != "" || strings.Contains(o.Managed.Config, host) {
		return false
	}
	for _, variable := range o.Managed.Env {
		if key, _, _ := strings.Cut(variable, "="); strings.HasSuffix(strings.ToLower(key), "_proxy") {
			return false
		}
	}
	return true
}

// keychain has the same credentials for everything.
type keychain struct{ authn.Authenticator }

// Resolve implements [authn.Keychain].
func (k keychain) Resolve(authn.Resource) (authn.Authenticator, error) { return k.Authenticator, nil }

// within bounds requests, for a function that takes no context: by a context, and the request that
// ends an upload by a time, since it comes after the answer.
type within struct {
	ctx   context.Context
	to    http.RoundTripper
	limit time.Duration
}

// RoundTrip implements [http.RoundTripper].
func (w within) RoundTrip(request *http.Request) (*http.Response, error) {
	if request.Method == http.MethodDelete {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(w.ctx), w.limit)
		defer cancel()
		return w.to.RoundTrip(request.WithContext(ctx))
	}
	return w.to.RoundTrip(request.WithContext(w.ctx))
}

// login says who is logged in to a repository, by the credentials that BuildKit gets for it.
func (r Run) login(ctx context.Context, repository string, push bool) explain.Login {
	named, err := reference.ParseNormalizedNamed(repository)
	if err != nil {
		return explain.Login{}
	}
	return explain.Login(r.registries.Login(ctx, reference.Domain(named), scopeOf(named, push)))
}

// scopeOf is what BuildKit asks of a registry for one repository, in the form of the distribution
// protocol: "repository:owner/app:pull,push".
func scopeOf(named reference.Named, push bool) string {
	actions := []string{"pull"}
	if push {
		actions = append(actions, "push")
	}
	return "repository:" + reference.Path(named) + ":" + strings.Join(actions, ",")
}
