// Package login finds the credentials for each registry.
//
// They come from the first of these that has some:
//
//  1. the inputs registry, username and password, or registry-auth;
//  2. the variable DOCKER_AUTH_CONFIG, and the user's Docker config with its credential
//     helpers;
//  3. the credentials that the CI gives to each job: GitHub's token for ghcr.io, GitLab's for
//     its registry and its dependency proxy;
//  4. the identity of the machine or of the job in a cloud, for registries of that cloud.
//
// All credentials stay in memory; no file is written. Helpers and clouds are asked when a
// registry is first used.
//
//	registries, problems := login.New(login.Options{
//		Inputs: login.Inputs{Registry: "ghcr.io", Username: "me", Password: "hunter2"},
//		Docker: config,
//	})
//	auth := authprovider.NewDockerAuthProvider(authprovider.DockerAuthProviderConfig{
//		AuthConfigProvider: registries.AuthConfig, // for BuildKit
//	})
//	image, err := remote.Image(tag, remote.WithAuthFromKeychain(registries)) // for requests of this process
//
// An untrusted run gets 1 and 2 only. With 3 and 4 the author of its Dockerfile could name a
// private image in FROM and read it. The inputs and the Docker config are set by the workflow,
// so they hold in every run. A cloud's registry in registry-auth without the keys username and
// password requests 4, in an untrusted run too. A username or password that is empty in an untrusted
// run is a withheld secret: the run goes without that login.
package login

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/docker/cli/cli/config/configfile"
	"github.com/docker/cli/cli/config/types"
	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	"github.com/moby/buildkit/session/auth/authprovider"

	"github.com/warmlayer/warmlayer/internal/ci"
	"github.com/warmlayer/warmlayer/internal/hosted"
	"github.com/warmlayer/warmlayer/internal/syntax"
)

// Options are where credentials come from.
type Options struct {
	Inputs    Inputs
	Docker    *configfile.ConfigFile // nil: an empty one
	Getenv    func(string) string    // for DOCKER_AUTH_CONFIG and the clouds; nil: an empty environment
	CI        []ci.Credential        // what the CI gives to each job
	Untrusted string                 // why the run is untrusted, as a phrase; "": it is trusted
	Redact    func(secret string)    // called with each credential as soon as it is known, in New and later; nil: no calls

	clouds clouds // nil: allClouds; tests set others
}

// Registries returns credentials. It is safe for concurrent use.
type Registries struct {
	logins []login
	docker *configfile.ConfigFile
	given  map[string]types.AuthConfig // of the CI, by host, and of DOCKER_AUTH_CONFIG, by variableKey and host
	clouds clouds
	redact func(string)

	untrusted string // why the run is untrusted; "": it is trusted

	mu       sync.Mutex
	found    map[string]*entry
	warnings []string
}

// Login is who is logged in to a registry. The zero value is no login: the registry is used
// anonymously.
type Login struct {
	User string // "" where there is a token alone
	From string // where the credentials come from, as a phrase: "the input registry-auth, line 3"
}

// found are credentials, and where they come from; zero for a registry that is used anonymously.
type found struct {
	auth types.AuthConfig
	from string
}

// entry holds the credentials that were found for a registry. It is locked during the search.
type entry struct {
	sync.Mutex
	found
	at time.Time // when they were found; zero: the search is not finished
}

// New parses the inputs and returns their problems. It connects to no registry.
func New(o Options) (*Registries, syntax.Problems) {
	if o.Docker == nil {
		o.Docker = configfile.New("")
	}
	if o.Getenv == nil {
		o.Getenv = func(string) string { return "" }
	}
	if o.Redact == nil {
		o.Redact = func(string) {}
	}
	if o.clouds == nil {
		o.clouds = allClouds(o.Getenv, nil)
	}
	r := &Registries{
		docker: o.Docker, clouds: o.clouds, untrusted: o.Untrusted, redact: o.Redact,
		given: map[string]types.AuthConfig{}, found: map[string]*entry{},
	}
	if o.Untrusted == "" {
		for _, c := range o.CI {
			r.given[canonical(c.Host)] = types.AuthConfig{Username: c.User, Password: c.Password}
		}
	}
	read := reader{clouds: o.clouds, redact: o.Redact, untrusted: o.Untrusted}
	r.logins = read.logins(o.Inputs)
	r.warnings = read.warnings
	problems := read.problems
	if text := o.Getenv(configfile.DockerEnvConfigKey); text != "" {
		problems = append(problems, r.addVariable(text)...)
	}
	return r, problems
}

// Secrets are the passwords of the inputs. The CI hides them in the log of the whole job.
func (r *Registries) Secrets() []string {
	var all []string
	for _, l := range r.logins {
		if l.password != "" {
			all = append(all, l.password)
		}
	}
	return all
}

// Warnings are about registries that are used anonymously, and say why.
func (r *Registries) Warnings() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.warnings)
}

// freshFor is how long found credentials are used before the next search. It is BuildKit's rule,
// for tokens that are valid for five minutes (v0.34.2, session/auth/authprovider).
const freshFor = 4*time.Minute + 50*time.Second

// AuthConfig is BuildKit's [authprovider.AuthConfigProvider]. The host is the one that is
// connected to: registry-1.docker.io for Docker Hub. Scopes are those of the distribution
// protocol, "repository:owner/app:pull,push", or empty where a registry accepts passwords.
func (r *Registries) AuthConfig(ctx context.Context, host string, scopes []string, _ authprovider.ExpireCachedAuthCheck) (types.AuthConfig, error) {
	repository, actions := parseScopes(scopes)
	f, err := r.credentials(ctx, canonical(host), repository, actions)
	f.auth.ServerAddress = host
	return f.auth, err
}

// Login tells whose credentials [Registries.AuthConfig] returns for the same host and scopes.
func (r *Registries) Login(ctx context.Context, host string, scopes ...string) Login {
	repository, actions := parseScopes(scopes)
	f, err := r.credentials(ctx, canonical(host), repository, actions)
	if err != nil || empty(f.auth) {
		return Login{}
	}
	return Login{User: f.auth.Username, From: f.from}
}

// Resolve is go-containerregistry's [authn.Keychain].
func (r *Registries) Resolve(target authn.Resource) (authn.Authenticator, error) {
	return r.ResolveContext(context.Background(), target)
}

// ResolveContext is go-containerregistry's [authn.ContextKeychain].
func (r *Registries) ResolveContext(ctx context.Context, target authn.Resource) (authn.Authenticator, error) {
	repository := ""
	if repo, ok := target.(name.Repository); ok {
		repository = repo.RepositoryStr()
	}
	f, err := r.credentials(ctx, canonical(target.RegistryStr()), repository, nil)
	if err != nil {
		return nil, err
	}
	return f.authenticator(), nil
}

// Authenticator returns, for go-containerregistry, the credentials that [Registries.AuthConfig]
// returns for the same host and scopes.
func (r *Registries) Authenticator(ctx context.Context, host string, scopes ...string) (authn.Authenticator, error) {
	repository, actions := parseScopes(scopes)
	f, err := r.credentials(ctx, canonical(host), repository, actions)
	return f.authenticator(), err
}

// authenticator are the credentials for go-containerregistry.
func (f found) authenticator() authn.Authenticator {
	c := authn.AuthConfig{
		Username: f.auth.Username, Password: f.auth.Password, Auth: f.auth.Auth,
		IdentityToken: f.auth.IdentityToken, RegistryToken: f.auth.RegistryToken,
	}
	if c == (authn.AuthConfig{}) {
		return authn.Anonymous
	}
	return authn.FromConfig(c)
}

// hubBacked are registries that accept the logins of Docker Hub: buildx's list (v0.37.0,
// util/dockerutil/dockerconfig).
var hubBacked = []string{"dhi.io", "registry.scout.docker.com"}

// credentials are zero for a registry that is used anonymously.
func (r *Registries) credentials(ctx context.Context, host, repository string, actions []string) (found, error) {
	if l, ok := bestLogin(r.logins, host, repository, actions); ok {
		return r.remember(l.String(), func() (found, error) { return r.explicit(ctx, l), nil })
	}
	f, err := r.remember("host "+host, func() (found, error) { return r.implicit(ctx, host) })
	if err == nil && empty(f.auth) && slices.Contains(hubBacked, host) {
		return r.credentials(ctx, hub, "", nil)
	}
	return f, err
}

// remember returns what look has found for a key, and calls it again when that is older than
// freshFor. Concurrent calls for one key look once. An error is not remembered.
func (r *Registries) remember(key string, look func() (found, error)) (found, error) {
	r.mu.Lock()
	e := r.found[key]
	if e == nil {
		e = &entry{}
		r.found[key] = e
	}
	r.mu.Unlock()
	e.Lock()
	defer e.Unlock()
	if !e.at.IsZero() && time.Since(e.at) < freshFor {
		return e.found, nil
	}
	f, err := look()
	if err != nil {
		return found{}, err
	}
	for _, secret := range []string{f.auth.Password, f.auth.IdentityToken, f.auth.RegistryToken, f.auth.Auth} {
		if secret != "" {
			r.redact(secret)
		}
	}
	e.found, e.at = f, time.Now()
	return f, nil
}

// explicit are the credentials of an input.
func (r *Registries) explicit(ctx context.Context, l login) found {
	cloud, ok := r.clouds.find(l.registry)
	if l.username == "" {
		return found{r.identity(ctx, cloud, l.registry, hosted.AccessKey{}), machineIdentity + ", which " + l.from() + " asks for"}
	}
	if key := l.accessKey(cloud); ok && key != (hosted.AccessKey{}) {
		return found{r.identity(ctx, cloud, l.registry, key), "the access key in " + l.from()}
	}
	return found{types.AuthConfig{Username: l.username, Password: l.password}, l.from()}
}

// accessKey is the access key that an input gives for a registry of a cloud; zero: it gives the registry's own login, or none.
func (l login) accessKey(c cloud) hosted.AccessKey {
	if l.username == "" || l.ecr != "true" && (l.ecr != "auto" || !c.keys || l.username == ecrUser) {
		return hosted.AccessKey{}
	}
	return hosted.AccessKey{ID: l.username, Secret: l.password}
}

// API implements [hosted.Logins]. With an AWS registry that no input gives an access
// key for, they are those of the SDK's default chain.
func (r *Registries) API(ctx context.Context, repository name.Repository) (hosted.Credentials, error) {
	host := canonical(repository.RegistryStr())
	var c hosted.Credentials
	if !hosted.NeedsLogin(host) {
		cloud, _ := r.clouds.find(host)
		if l, ok := bestLogin(r.logins, host, repository.RepositoryStr(), nil); ok {
			c.Key = l.accessKey(cloud)
		}
		return c, nil
	}
	f, err := r.credentials(ctx, host, repository.RepositoryStr(), nil)
	c.Username, c.Password = f.auth.Username, f.auth.Password
	if err == nil && c.Password == "" {
		err = errors.New("there is no login for " + host)
	}
	return c, err
}

// machineIdentity is how messages call the identity of the machine or of the job in a cloud.
const machineIdentity = "the identity of the machine"

// implicit are credentials that no input names.
func (r *Registries) implicit(ctx context.Context, host string) (found, error) {
	f, err := r.fromDocker(host)
	if err != nil || !empty(f.auth) {
		return f, err
	}
	if auth, ok := r.given[host]; ok {
		return found{auth, "the credentials that the CI gives to each job"}, nil
	}
	cloud, ok := r.clouds.find(host)
	switch {
	case !ok:
	case r.untrusted != "":
		if !cloud.open {
			r.warn(host + " is used anonymously: this run is not trusted (" + r.untrusted + "), so it does not get the machine's identity; to allow that, name the registry in registry-auth")
		}
	default:
		return found{r.identity(ctx, cloud, host, hosted.AccessKey{}), machineIdentity}, nil
	}
	return found{}, nil
}

// warn adds a warning, once.
func (r *Registries) warn(text string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !slices.Contains(r.warnings, text) {
		r.warnings = append(r.warnings, text)
	}
}

func empty(auth types.AuthConfig) bool {
	return auth.Username == "" && auth.Password == "" && auth.Auth == "" && auth.IdentityToken == "" && auth.RegistryToken == ""
}

// bestLogin is the most specific login for some actions on a repository: a login limited to
// the repository comes before the others, and then one limited to more of the actions.
func bestLogin(logins []login, host, repository string, actions []string) (login, bool) {
	best, found := login{}, false
	rank := func(l login) int {
		n := len(l.actions)
		if l.repository != "" {
			n += 100
		}
		return n
	}
	for _, l := range logins {
		fits := canonical(l.registry) == host && (l.repository == "" || l.repository == repository)
		for _, a := range l.actions {
			fits = fits && slices.Contains(actions, a)
		}
		if fits && (!found || rank(l) > rank(best)) {
			best, found = l, true
		}
	}
	return best, found
}

// parseScopes returns the repository in scopes and the actions on it. Scopes with several
// repositories, as for mounting a layer, give "" and nil, as in buildx v0.37.0.
func parseScopes(scopes []string) (repository string, actions []string) {
	for _, s := range strings.Fields(strings.Join(scopes, " ")) {
		kind, rest, _ := strings.Cut(s, ":")
		at := strings.LastIndex(rest, ":")
		if kind != "repository" || at < 0 || repository != "" && repository != rest[:at] {
			return "", nil
		}
		repository = rest[:at]
		actions = append(actions, strings.Split(rest[at+1:], ",")...)
	}
	return repository, actions
}
