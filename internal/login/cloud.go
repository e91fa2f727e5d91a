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

// identityTimeout bounds the search for an identity and the exchange for a login: a
// machine outside of any cloud may wait for an answer that never comes.
const identityTimeout = 5 * time.Second

// errNoIdentity: nothing on this machine is an identity for the cloud.
var errNoIdentity = errors.New("no identity was found")

// accessKey is what AWS knows a user by.
type accessKey struct{ id, secret string }

// cloud is a family of registries that know the machine by its identity.
type cloud struct {
	name  string
	hosts *regexp.Regexp // whole hosts, all of them the cloud's own: no one else gets a token
	open  bool           // many images there are for everybody
	keys  bool           // its logins may be access keys
	login func(ctx context.Context, host []string, key *accessKey) (types.AuthConfig, error)
}

type clouds []cloud

// of is the cloud that a registry belongs to.
func (cs clouds) of(host string) (cloud, bool) {
	for _, c := range cs {
		if c.hosts.MatchString(host) {
			return c, true
		}
	}
	return cloud{}, false
}

// machine are the clouds, asked by a client; nil is the default one.
func machine(getenv func(string) string, client *http.Client) clouds {
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

// identity are the credentials that a cloud gives for the machine's identity or for an
// access key. Where there are none the registry is used anonymously, with a warning.
func (r *Registries) identity(ctx context.Context, c cloud, host string, key *accessKey) types.AuthConfig {
	ctx, cancel := context.WithTimeout(ctx, identityTimeout)
	defer cancel()
	auth, err := c.login(ctx, c.hosts.FindStringSubmatch(host), key)
	if err == nil {
		return auth
	}
	if !errors.Is(err, errNoIdentity) || !c.open {
		r.warn(fmt.Sprintf("%s is used anonymously: log in with the identity that %s knows: %v", host, c.name, brief(err)))
	}
	return types.AuthConfig{}
}

// maxReason is how much of an error stands in a warning. Those of the clouds' libraries
// go over many lines.
const maxReason = 300

func brief(err error) string {
	text := strings.Join(strings.Fields(err.Error()), " ")
	if len(text) > maxReason {
		text = strings.ToValidUTF8(text[:maxReason], "") + "…"
	}
	return text
}

// maxAnswer is more than any token takes.
const maxAnswer = 1 << 20

// answer is the body of a request's answer, which must be 200 OK. The body of any other
// answer is not shown: it may repeat what was sent.
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
