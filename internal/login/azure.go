package login

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/Azure/azure-sdk-for-go/sdk/azidentity"
	"github.com/docker/cli/cli/config/types"

	"github.com/warmlayer/warmlayer/internal/hosted"
)

// acrUser is the username that says that the password is a token (learn.microsoft.com,
// "Authenticate with an Azure container registry").
const acrUser = "00000000-0000-0000-0000-000000000000"

// azure logs in to Azure's registries. It exchanges the token of the identity for a token of the
// registry (POST /oauth2/exchange, github.com/Azure/acr, docs/AAD-OAuth.md).
type azure struct{ client *http.Client }

func (a azure) login(ctx context.Context, host string, _ hosted.AccessKey) (types.AuthConfig, error) {
	options := &azidentity.DefaultAzureCredentialOptions{}
	options.Transport = a.client
	identity, err := azidentity.NewDefaultAzureCredential(options)
	if err != nil {
		return types.AuthConfig{}, fmt.Errorf("%w: %w", errNoIdentity, err)
	}
	token, err := identity.GetToken(ctx, policy.TokenRequestOptions{Scopes: []string{"https://management.azure.com/.default"}})
	if err != nil {
		return types.AuthConfig{}, fmt.Errorf("%w: %w", errNoIdentity, err)
	}
	form := url.Values{"grant_type": {"access_token"}, "service": {host}, "access_token": {token.Token}}
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, "https://"+host+"/oauth2/exchange", strings.NewReader(form.Encode()))
	if err != nil {
		return types.AuthConfig{}, err
	}
	request.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	text, err := hosted.Answer(a.client, request)
	if err != nil {
		return types.AuthConfig{}, err
	}
	var body struct {
		RefreshToken string `json:"refresh_token"`
	}
	if json.Unmarshal(text, &body) != nil || body.RefreshToken == "" {
		return types.AuthConfig{}, errors.New("the answer has no token")
	}
	return types.AuthConfig{Username: acrUser, Password: body.RefreshToken}, nil
}
