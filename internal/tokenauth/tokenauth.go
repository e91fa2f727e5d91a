// Package tokenauth lets the sessions of one build share a registry's tokens, with keys that stay in memory.
//
//	seed := tokenauth.NewSeed()
//	session.Allow(tokenauth.New(seed, credentials))
package tokenauth

import (
	"context"
	"crypto/ed25519"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"

	"github.com/docker/cli/cli/config/types"
	"github.com/moby/buildkit/session/auth"
	"github.com/moby/buildkit/session/auth/authprovider"
	"google.golang.org/grpc"

	"github.com/warmlayer/warmlayer/internal/crash"
)

// Authority is BuildKit's auth provider with its seed in memory. The provider itself keeps
// a file with a seed for each registry in the directory of the Docker config (v0.34.2,
// session/auth/authprovider/tokenseed.go), which would outlive the process.
//
// From the seed and the daemon's salt comes a key for each registry. By the key the daemon
// recognises the sessions that may share a token.
type Authority struct {
	auth.AuthServer // BuildKit's provider
	seed            []byte
}

// NewSeed is the seed of the sessions of one build.
func NewSeed() []byte {
	seed := make([]byte, 32)
	_, _ = rand.Read(seed) // never fails
	return seed
}

// New is an authority with a seed, and with the credentials of registries; nil for none.
func New(seed []byte, find authprovider.AuthConfigProvider) Authority {
	var config authprovider.DockerAuthProviderConfig
	if find != nil {
		config.AuthConfigProvider = func(ctx context.Context, host string, scopes []string, expired authprovider.ExpireCachedAuthCheck) (types.AuthConfig, error) {
			defer crash.Catch()
			return find(ctx, host, scopes, expired)
		}
	}
	provider := authprovider.NewDockerAuthProvider(config)
	return Authority{provider.(auth.AuthServer), seed}
}

// Register implements [session.Attachable].
func (t Authority) Register(server *grpc.Server) { auth.RegisterAuthServer(server, t) }

// GetTokenAuthority implements [auth.AuthServer].
func (t Authority) GetTokenAuthority(ctx context.Context, r *auth.GetTokenAuthorityRequest) (*auth.GetTokenAuthorityResponse, error) {
	defer crash.Catch()
	key, err := t.key(ctx, r.Host, r.Salt)
	if err != nil {
		return nil, err
	}
	return &auth.GetTokenAuthorityResponse{PublicKey: key[ed25519.SeedSize:]}, nil
}

// VerifyTokenAuthority implements [auth.AuthServer]. It answers in the form of NaCl's sign: the
// signature, then the payload.
func (t Authority) VerifyTokenAuthority(ctx context.Context, r *auth.VerifyTokenAuthorityRequest) (*auth.VerifyTokenAuthorityResponse, error) {
	defer crash.Catch()
	key, err := t.key(ctx, r.Host, r.Salt)
	if err != nil {
		return nil, err
	}
	return &auth.VerifyTokenAuthorityResponse{Signed: append(ed25519.Sign(key, r.Payload), r.Payload...)}, nil
}

// key is the one for a registry. Without credentials it depends on the salt only, as with
// BuildKit's provider, so that all clients of a daemon share its anonymous tokens.
func (t Authority) key(ctx context.Context, host string, salt []byte) (ed25519.PrivateKey, error) {
	credentials, err := t.Credentials(ctx, &auth.CredentialsRequest{Host: host})
	if err != nil {
		return nil, err
	}
	mac := hmac.New(sha256.New, salt)
	if credentials.Secret != "" {
		mac.Write(append([]byte(host), t.seed...))
	}
	return ed25519.NewKeyFromSeed(mac.Sum(nil)), nil
}
