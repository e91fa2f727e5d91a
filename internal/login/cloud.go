package login

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"regexp"
	"strings"
	"time"

	"github.com/docker/cli/cli/config/types"
)

// identityTimeout bounds the search for an identity and its exchange for a login: on a machine
// outside a cloud the search may get no answer at all.
const identityTimeout = 5 * time.Second

// errNoIdentity says that this machine and this job have no identity in the cloud.
var errNoIdentity = errors.New("no identity was found")

// accessKey is an AWS access key: its id and its secret.
type accessKey struct{ id, secret string }

// cloud is a family of registries that accept the identity of a machine or of a job.
type cloud struct {
	name  string
	hosts *regexp.Regexp // matches a whole host that the cloud owns: any other host would receive the token
	open  bool           // many of its images are public, so a machine without an identity is no reason for a warning
	keys  bool           // a login may be an access key

	// login gets credentials for a host, given as the matches of hosts, with the access key or,
	// where that is nil, with the identity.
	login func(ctx context.Context, host []string, key *accessKey) (types.AuthConfig, error)
}

type clouds []cloud

// find returns the cloud that a registry belongs to.
func (cs clouds) find(host string) (cloud, bool) {
	for _, c := range cs {
		if c.hosts.MatchString(host) {
			return c, true
		}
	}
	return cloud{}, false
}

// allClouds are the clouds that warmlayer can log in to, with an HTTP client; nil is the default one.
func allClouds(getenv func(string) string, client *http.Client) clouds {
	if client == nil {
		client = http.DefaultClient
	}
	a, z, g := amazon{client}, azure{client}, google{client, getenv("GOOGLE_APPLICATION_CREDENTIALS") != ""}
	return clouds{
		{
			name: "AWS", keys: true, login: a.private,
			hosts: regexp.MustCompile(`^[0-9]{12}\.dkr[.-]ecr(-fips)?\.([a-z0-9-]+)\.(amazonaws\.com|amazonaws\.com\.cn|on\.aws|on\.amazonwebservices\.com\.cn)$`),
		},
		{name: "AWS", keys: true, open: true, login: a.public, hosts: regexp.MustCompile(`^public\.ecr\.aws$`)},
		{name: "Google", open: true, login: g.login, hosts: regexp.MustCompile(`^([a-z0-9-]+\.)?gcr\.io$|^[a-z0-9-]+\.pkg\.dev$`)},
		{name: "Azure", login: z.login, hosts: regexp.MustCompile(`^[a-z0-9-]+\.azurecr\.io$`)},
	}
}

// identity are the credentials that a cloud gives for an access key or, where that is nil, for
// the identity. Where it gives none they are zero: the registry is used anonymously, with a warning.
func (r *Registries) identity(ctx context.Context, c cloud, host string, key *accessKey) types.AuthConfig {
	ctx, cancel := context.WithTimeout(ctx, identityTimeout)
	defer cancel()
	auth, err := c.login(ctx, c.hosts.FindStringSubmatch(host), key)
	if err == nil {
		return auth
	}
	if !errors.Is(err, errNoIdentity) || !c.open {
		r.warn(fmt.Sprintf("%s is used anonymously: %s gave no credentials: %v", host, c.name, brief(err)))
	}
	return types.AuthConfig{}
}

// maxReason is the length, in bytes, at which an error is cut in a warning. Errors of the clouds'
// libraries have many lines.
const maxReason = 300

// brief is an error on one line.
func brief(err error) string {
	text := strings.Join(strings.Fields(err.Error()), " ")
	if len(text) > maxReason {
		text = strings.ToValidUTF8(text[:maxReason], "") + "…"
	}
	return text
}

// maxAnswer bounds an answer, in bytes. Every token is shorter.
const maxAnswer = 1 << 20

// answer sends a request and returns the body of the answer. A status other than 200 OK is an
// error that leaves the body out: it may repeat the credentials that were sent.
func answer(client *http.Client, request *http.Request) ([]byte, error) {
	response, err := client.Do(request)
	if err != nil {
		return nil, err
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("%s: %s", request.URL.Host, response.Status)
	}
	return io.ReadAll(io.LimitReader(response.Body, maxAnswer))
}
