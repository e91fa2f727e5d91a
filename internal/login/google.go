package login

import (
	"context"
	"fmt"
	"net/http"

	"cloud.google.com/go/compute/metadata"
	"github.com/docker/cli/cli/config/types"
	"golang.org/x/oauth2"
	googleauth "golang.org/x/oauth2/google"

	"github.com/warmlayer/warmlayer/internal/hosted"
)

// google logs in to Google's registries with an access token of the default
// credentials (docs.cloud.google.com/artifact-registry/docs/docker/authentication).
type google struct {
	client *http.Client
	named  bool // GOOGLE_APPLICATION_CREDENTIALS names a file of credentials
}

func (g google) login(ctx context.Context, _ string, _ hosted.AccessKey) (types.AuthConfig, error) {
	if !g.named {
		// FindDefaultCredentials asks this too, without a deadline. The metadata package keeps
		// the answer, so asking here bounds the wait.
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
