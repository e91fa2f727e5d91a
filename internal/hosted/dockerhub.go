package hosted

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"

	"github.com/warmlayer/warmlayer/internal/storage"
)

// hubHosts are the names of Docker's registry.
var hubHosts = []string{"docker.io", "index.docker.io", "registry-1.docker.io"}

// hubURL is the API of Docker Hub (docs.docker.com, "Docker Hub API").
const hubURL = "https://hub.docker.com"

// hubRepository is a repository on Docker Hub: "acme/shop". The registry itself removes nothing: it answers 405
// (docker/hub-feedback#2360). The Hub's API removes a tag alone.
type hubRepository struct {
	client *http.Client
	name   string
	login  Credentials
}

// Remove implements [Remover].
func (h hubRepository) Remove(ctx context.Context, tags []string, gone func(tag string)) error {
	token, err := h.token(ctx)
	if err != nil {
		return fmt.Errorf("log in to Docker Hub: %w", err)
	}
	for _, tag := range tags {
		if err := h.remove(ctx, token, tag); err != nil {
			return fmt.Errorf("remove %s:%s: %w", h.name, tag, err)
		}
		gone(tag)
	}
	return nil
}

// token exchanges the login of the registry, whose password may be an access token, for a token of the API.
func (h hubRepository) token(ctx context.Context) (string, error) {
	body, err := json.Marshal(map[string]string{"identifier": h.login.Username, "secret": h.login.Password})
	if err != nil {
		return "", err
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, hubURL+"/v2/auth/token", bytes.NewReader(body))
	if err != nil {
		return "", err
	}
	request.Header.Set("Content-Type", "application/json")
	request.Header.Set("User-Agent", storage.UserAgent)
	text, err := Answer(h.client, request)
	if err != nil {
		return "", err
	}
	var answer struct {
		Token string `json:"access_token"`
	}
	if json.Unmarshal(text, &answer) != nil || answer.Token == "" {
		return "", errors.New("the answer has no token")
	}
	return answer.Token, nil
}

// remove removes one tag, as Docker's hub-tool does (pkg/hub/tags.go, DeleteTagURL). A tag that is not there is no error.
func (h hubRepository) remove(ctx context.Context, token, tag string) error {
	where := hubURL + "/v2/repositories/" + h.name + "/tags/" + url.PathEscape(tag) + "/"
	request, err := http.NewRequestWithContext(ctx, http.MethodDelete, where, nil)
	if err != nil {
		return err
	}
	request.Header.Set("Authorization", "Bearer "+token)
	request.Header.Set("User-Agent", storage.UserAgent)
	response, err := h.client.Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	switch response.StatusCode {
	case http.StatusOK, http.StatusAccepted, http.StatusNoContent, http.StatusNotFound:
		return nil
	case http.StatusForbidden:
		return storage.Answer{
			Words: "Docker Hub answers 403 Forbidden: the access token needs the scope Read, Write, Delete, and its user the repository's permission to write",
			Err:   &Refused{strings.TrimPrefix(hubURL, "https://"), response.StatusCode},
		}
	}
	return &Refused{strings.TrimPrefix(hubURL, "https://"), response.StatusCode}
}
