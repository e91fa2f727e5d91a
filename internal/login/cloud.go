package login

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"regexp"
	"strings"
	"time"

	"github.com/docker/cli/cli/config/types"

	"github.com/warmlayer/warmlayer/internal/hosted"
)

// identityTimeout bounds the search for an identity and its exchange for a login: on a machine
// outside a cloud the search may get no answer at all.
const identityTimeout = 5 * time.Second

// errNoIdentity says that this machine and this job have no identity in the cloud.
var errNoIdentity = hosted.ErrNoIdentity

// cloud is a family of registries that accept the identity of a machine or of a job.
type cloud struct {
	name  string
	hosts *regexp.Regexp // matches a whole host that the cloud owns: any other host would receive the token
	open  bool           // many of its images are public, so a machine without an identity is no reason for a warning
	keys  bool           // a login may be an access key

	// login gets credentials for a host with the access key or, where that is zero, with the identity.
	login func(ctx context.Context, host string, key hosted.AccessKey) (types.AuthConfig, error)
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
		{name: "AWS", keys: true, login: a.login, hosts: hosted.ECRHosts},
		{name: "AWS", keys: true, open: true, login: a.login, hosts: hosted.PublicECRHosts},
		{name: "Google", open: true, login: g.login, hosts: regexp.MustCompile(`^([a-z0-9-]+\.)?gcr\.io$|^[a-z0-9-]+\.pkg\.dev$`)},
		{name: "Azure", login: z.login, hosts: regexp.MustCompile(`^[a-z0-9-]+\.azurecr\.io$`)},
	}
}

// ecrUser is the username in every login that ECR issues.
const ecrUser = "AWS"

// amazon logs in to the registries of AWS.
type amazon struct{ client *http.Client }

func (a amazon) login(ctx context.Context, host string, key hosted.AccessKey) (types.AuthConfig, error) {
	user, password, err := hosted.ECR{Client: a.client, Key: key}.Login(ctx, host)
	return types.AuthConfig{Username: user, Password: password}, err
}

// identity are the credentials that a cloud gives for an access key or, where that is zero, for
// the identity. Where it gives none they are zero: the registry is used anonymously, with a warning.
func (r *Registries) identity(ctx context.Context, c cloud, host string, key hosted.AccessKey) types.AuthConfig {
	ctx, cancel := context.WithTimeout(ctx, identityTimeout)
	defer cancel()
	auth, err := c.login(ctx, host, key)
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
