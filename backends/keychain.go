package backends

import (
	"fmt"

	"github.com/docker/cli/cli/config/configfile"
	"github.com/google/go-containerregistry/pkg/authn"
)

// Keychain finds the credentials of registries in a Docker config, and through the
// credential helpers that it names. A registry that is not there is used anonymously.
type Keychain struct{ *configfile.ConfigFile }

// Resolve implements go-containerregistry's [authn.Keychain].
func (k Keychain) Resolve(target authn.Resource) (authn.Authenticator, error) {
	host := target.RegistryStr() // "index.docker.io" is taken for the key that docker login uses
	c, err := k.GetAuthConfig(host)
	if err != nil {
		return nil, fmt.Errorf("find credentials of %s: %w", host, err)
	}
	if c.Username == "" && c.Password == "" && c.Auth == "" && c.IdentityToken == "" && c.RegistryToken == "" {
		return authn.Anonymous, nil
	}
	return authn.FromConfig(authn.AuthConfig{
		Username: c.Username, Password: c.Password, Auth: c.Auth,
		IdentityToken: c.IdentityToken, RegistryToken: c.RegistryToken,
	}), nil
}
