package ghaservice

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/google/go-github/v75/github"

	"github.com/warmlayer/warmlayer/internal/cachespec"
	"github.com/warmlayer/warmlayer/internal/storage"
)

// API is GitHub's API for the entries of a repository (docs.github.com, "REST API endpoints for GitHub Actions cache"). Unlike the service of a
// job, it shows the entries of all Git refs, and removes them. It does not show what is in them.
type API struct {
	client      *github.Client
	owner, name string
}

// NewAPI is the API for the repository of a cache. It opens no connection. The token needs the permission actions: read, and to remove
// entries actions: write.
func NewAPI(spec *cachespec.GHA, token string) (*API, error) {
	base, err := url.Parse(strings.TrimSuffix(spec.API, "/") + "/")
	owner, name, ok := strings.Cut(spec.GHRepository, "/")
	switch {
	case token == "":
		return nil, errors.New("there is no token for GitHub's API: set github-token, or ghtoken in the line")
	case !ok:
		return nil, errors.New("the repository is not known: set repository=owner/name in the line")
	case err != nil:
		return nil, errors.New("GITHUB_API_URL is not a URL")
	}
	client := github.NewClient(nil).WithAuthToken(token)
	client.BaseURL, client.UserAgent = base, storage.UserAgent
	return &API{client, owner, name}, nil
}

// Stored is an entry.
type Stored struct {
	ID            int64
	Ref, Key      string // "refs/heads/main", "index-buildkit-1-9a1f2c3d#4"
	Size          int64  // in bytes
	Created, Used time.Time
}

// perPage is the most that GitHub lists at once.
const perPage = 100

// All hands the entries whose keys begin with a prefix to a function, the oldest first, and ends with its error.
func (a *API) All(ctx context.Context, prefix string, each func(Stored) error) error {
	options := &github.ActionsCacheListOptions{
		Key: &prefix, Sort: github.Ptr("created_at"), Direction: github.Ptr("asc"), ListOptions: github.ListOptions{PerPage: perPage},
	}
	for options.Page = 1; ; options.Page++ {
		got, _, err := a.client.Actions.ListCaches(ctx, a.owner, a.name, options)
		if err != nil {
			return fmt.Errorf("list the entries of GitHub's cache: %w", apiError(err))
		}
		for _, e := range got.ActionsCaches {
			err := each(Stored{
				ID: value(e.ID), Ref: value(e.Ref), Key: value(e.Key), Size: value(e.SizeInBytes),
				Created: value(e.CreatedAt).Time, Used: value(e.LastAccessedAt).Time,
			})
			if err != nil {
				return err
			}
		}
		if len(got.ActionsCaches) < perPage {
			return nil
		}
	}
}

func value[T any](p *T) (v T) {
	if p != nil {
		v = *p
	}
	return v
}

// Remove removes an entry. It is no error when there is none.
func (a *API) Remove(ctx context.Context, s Stored) error {
	answer, err := a.client.Actions.DeleteCachesByID(ctx, a.owner, a.name, s.ID)
	if answer != nil && answer.StatusCode == http.StatusNotFound {
		return nil
	}
	if err != nil {
		return fmt.Errorf("remove the entry %s of %s: %w", s.Key, s.Ref, apiError(err))
	}
	return nil
}

// Usage is how many bytes all entries of the repository take. GitHub counts them every few minutes.
func (a *API) Usage(ctx context.Context) (int64, error) {
	usage, _, err := a.client.Actions.GetCacheUsageForRepo(ctx, a.owner, a.name)
	if err != nil {
		return 0, fmt.Errorf("ask for the size of GitHub's cache: %w", apiError(err))
	}
	return usage.ActiveCachesSizeInBytes, nil
}

// apiError is GitHub's answer in a few words.
func apiError(err error) error {
	var answer *github.ErrorResponse
	if !errors.As(err, &answer) || answer.Response == nil {
		return err
	}
	words := answer.Response.Status
	if answer.Message != "" {
		words += ": " + answer.Message
	}
	if answer.Response.StatusCode == http.StatusForbidden {
		words += " (the job needs permissions: actions: write)"
	}
	return storage.Answer{Words: words, Err: err}
}
