// Package hosted knows the services that host registries and have an API of their own: GitHub, Docker Hub and Amazon ECR. It removes
// tags where the registry itself removes none, and logs in to ECR.
//
//	remover, ok := hosted.Of("ghcr.io", "acme/shop", hosted.Credentials{Password: token})
//	if ok {
//		err := remover.Remove(ctx, []string{"cache-pr-7"}, func(tag string) { … })
//	}
package hosted

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-github/v75/github"
)

// A Remover removes tags of one repository.
type Remover interface {
	// Remove removes tags, such as "cache-pr-7". It calls gone once for each tag that does not exist any more, including those
	// that did not exist before. After an error, some tags may be removed.
	Remove(ctx context.Context, tags []string, gone func(tag string)) error
}

// Credentials are those of a registry.
type Credentials struct {
	Username, Password string    // of the registry's login; both "": no login
	Key                AccessKey // for ECR; zero: what the SDK's default chain finds
}

// Logins knows the credentials for the APIs of services that host registries.
type Logins interface {
	// API returns the credentials for the API of the repository's service; [Has] must be true for its registry. It fails where
	// the API needs a login and there is none.
	API(ctx context.Context, repository name.Repository) (Credentials, error)
}

// Has tells whether the service that has a registry such as "ghcr.io" removes tags by an API of its own.
func Has(host string) bool {
	_, ok := Of(host, "", Credentials{})
	return ok
}

// Of is the remover for a repository such as "acme/shop" of a registry such as "ghcr.io" or "index.docker.io". Without one (false)
// the registry's own protocol removes tags.
func Of(host, repository string, c Credentials) (Remover, bool) {
	switch {
	case host == packagesHost:
		return newPackage(github.NewClient(nil).WithAuthToken(c.Password), repository), true
	case slices.Contains(hubHosts, host):
		return hubRepository{http.DefaultClient, repository, c}, true
	}
	service, ok := ecrAt(host)
	if !ok {
		return nil, false
	}
	return ecrRepository{ECR{http.DefaultClient, c.Key}, service, service.repository(repository)}, true
}

// NeedsLogin tells whether the API takes the registry's login. ECR's API takes AWS credentials instead, so this is false for it.
func NeedsLogin(host string) bool { return host == packagesHost || slices.Contains(hubHosts, host) }

// ErrNoIdentity says that this machine and this job have no identity in the cloud.
var ErrNoIdentity = errors.New("no identity was found")

// maxAnswer bounds an answer, in bytes. Every token is shorter.
const maxAnswer = 1 << 20

// Answer sends a request and returns the body of the answer. A status other than 200 OK is a [*Refused] that leaves the body
// out: it may repeat the credentials that were sent. The body is cut after 1 MiB.
func Answer(client *http.Client, request *http.Request) ([]byte, error) {
	response, err := client.Do(request) //nolint:gosec // the hosts are the services' own
	if err != nil {
		return nil, err
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return nil, &Refused{request.URL.Host, response.StatusCode}
	}
	return io.ReadAll(io.LimitReader(response.Body, maxAnswer))
}

// Refused is the answer of a service that does not do what it is asked for.
type Refused struct {
	Host   string // of the API: "hub.docker.com"
	Status int    // of HTTP: 403
}

func (r *Refused) Error() string {
	return fmt.Sprintf("%s: %d %s", r.Host, r.Status, http.StatusText(r.Status))
}
