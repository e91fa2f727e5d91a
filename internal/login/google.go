package login

import (
	"context"
	"fmt"
	"net/http"

	"cloud.google.com/go/compute/metadata"
	"github.com/docker/cli/cli/config/types"
	"golang.org/x/oauth2"
	googleauth "golang.org/x/oauth2/google"
)

// google logs in to Google's registries with an access token of the default
// credentials (docs.cloud.google.com/artifact-registry/docs/docker/authentication).
type google struct {
	client *http.Client
	named  bool // GOOGLE_APPLICATION_CREDENTIALS says where they are
}

func (g google) login(ctx context.Context, _ []string, _ *accessKey) (types.AuthConfig, error) {
	if !g.named {
		// The search itself asks for this too, and heeds no deadline; the answer is kept.
		metadata.OnGCEWithContext(ctx)
	}
	ctx = context.WithValue(ctx, oauth2.HTTPClient, g.client)
	found, err := googleauth.FindDefaultCredentials(ctx, "https://www.googleapis.com/auth/cloud-platform")
	if err != nil {
		if g.named {
			return types.AuthConfig{}, fmt.Errorf("GOOGLE_APPLICATION_CREDENTIALS: %w", err)
		}
		return types.AuthConfig{}, errNoIdentity
	}
	token, err := found.TokenSource.Token()
	if err != nil {
		return types.AuthConfig{}, err
	}
	return types.AuthConfig{Username: "oauth2accesstoken", Password: token.AccessToken}, nil
}
