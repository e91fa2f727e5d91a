package tokenauth

import (
	"bytes"
	"context"
	"testing"

	"github.com/docker/cli/cli/config/types"
	"github.com/moby/buildkit/session/auth"
	"github.com/moby/buildkit/session/auth/authprovider"
	"golang.org/x/crypto/nacl/sign"
)

// TestTokenAuthority: sessions of one build have the same key for a registry with credentials,
// and those of other builds have others. Where there are no credentials all keys are the same.
func TestTokenAuthority(t *testing.T) {
	t.Parallel()
	find := func(_ context.Context, host string, _ []string, _ authprovider.ExpireCachedAuthCheck) (types.AuthConfig, error) {
		if host == "anonymous" {
			return types.AuthConfig{}, nil
		}
		return types.AuthConfig{Username: "me", Password: "canary"}, nil
	}
	seed := NewSeed()
	one, same, other := New(seed, find), New(seed, find), New(NewSeed(), find)
	key := func(of Authority, host, salt string) []byte {
		t.Helper()
		answer, err := of.GetTokenAuthority(t.Context(), &auth.GetTokenAuthorityRequest{Host: host, Salt: []byte(salt)})
		if err != nil {
			t.Fatal(err)
		}
		return answer.PublicKey
	}
	a := key(one, "a", "salt")
	if !bytes.Equal(a, key(same, "a", "salt")) || !bytes.Equal(key(one, "anonymous", "salt"), key(other, "anonymous", "salt")) {
		t.Error("keys that are to be equal differ")
	}
	if bytes.Equal(a, key(other, "a", "salt")) || bytes.Equal(a, key(one, "b", "salt")) || bytes.Equal(a, key(one, "a", "pepper")) {
		t.Error("keys that are to differ are equal")
	}
	answer, err := same.VerifyTokenAuthority(t.Context(), &auth.VerifyTokenAuthorityRequest{Host: "a", Salt: []byte("salt"), Payload: []byte("prove it")})
	if err != nil {
		t.Fatal(err)
	}
	if payload, ok := sign.Open(nil, answer.Signed, (*[32]byte)(a)); !ok || string(payload) != "prove it" {
		t.Errorf("signed %q, %v", payload, ok)
	}
}
