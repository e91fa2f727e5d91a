package login

import (
	"cmp"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"github.com/docker/cli/cli/config/configfile"
	"github.com/docker/cli/cli/config/credentials"
	"github.com/docker/cli/cli/config/types"

	"github.com/warmlayer/warmlayer/internal/syntax"
)

// The names of Docker Hub: the host in the names of images, and the key that docker login uses.
const (
	hub    = "docker.io"
	hubKey = "https://index.docker.io/v1/"
)

// canonical is the host of a registry as it stands in the names of images.
func canonical(host string) string {
	if slices.Contains([]string{"registry-1.docker.io", "index.docker.io", hubKey}, host) {
		return hub
	}
	return strings.ToLower(host)
}

// fromDocker returns the credentials in DOCKER_AUTH_CONFIG, in the Docker config, or of the
// credential helper that the config names, in the order of docker/cli (v29,
// cli/config/configfile). It does not read the process's environment: [Registries.addVariable]
// has parsed the variable.
func (r *Registries) fromDocker(host string) (found, error) {
	key := host
	if host == hub {
		key = hubKey
	}
	if auth, ok := r.given[variableKey+key]; ok {
		return found{auth, "the variable " + configfile.DockerEnvConfigKey}, nil
	}
	store, from := credentials.NewFileStore(r.docker), "the Docker config "+r.docker.Filename
	if helper := cmp.Or(r.docker.CredentialHelpers[key], r.docker.CredentialsStore); helper != "" {
		store = credentials.NewNativeStore(r.docker, helper)
		from = "the credential helper " + helper + " of " + from
	}
	auth, err := store.Get(key)
	if err != nil {
		return found{}, fmt.Errorf("find credentials for %s: %w", host, err)
	}
	return found{auth, from}, nil
}

// variableKey is the prefix of the hosts of DOCKER_AUTH_CONFIG in Registries.given.
const variableKey = configfile.DockerEnvConfigKey + " "

// addVariable parses DOCKER_AUTH_CONFIG, which GitLab's users set:
//
//	{"auths": {"registry.example:5000": {"auth": "<base64 of user:password>"}}}
//
// Unlike docker/cli it ignores keys other than "auth".
func (r *Registries) addVariable(text string) syntax.Problems {
	refused := func(what, hint string) syntax.Problems {
		return syntax.Problems{{Input: configfile.DockerEnvConfigKey, What: what, Hint: hint}}
	}
	var document struct {
		Auths map[string]struct{ Auth string }
	}
	if json.Unmarshal([]byte(text), &document) != nil {
		return refused("the value is not the JSON of a Docker config", `write {"auths": {"HOST": {"auth": "BASE64"}}}`)
	}
	for host, login := range document.Auths {
		r.redact(login.Auth)
		pair, err := base64.StdEncoding.DecodeString(login.Auth)
		user, password, ok := strings.Cut(string(pair), ":")
		if err != nil || !ok || user == "" {
			return refused("the auth of a registry is not user:password in base64", "")
		}
		r.redact(password)
		if canonical(host) == hub {
			host = hubKey
		}
		r.given[variableKey+host] = types.AuthConfig{Username: user, Password: password}
	}
	return nil
}
