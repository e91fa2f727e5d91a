package hosted

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"

	"github.com/google/go-github/v75/github"

	"github.com/warmlayer/warmlayer/internal/storage"
)

// packagesHost is GitHub's registry.
const packagesHost = "ghcr.io"

// githubPackage is a repository on ghcr.io. The registry itself removes nothing: it answers 405 (podman-container-tools/skopeo#1880). In GitHub's API for packages
// a version is a manifest with its tags (docs.github.com, "REST API endpoints for packages").
type githubPackage struct {
	client      *github.Client
	owner, name string
	personal    bool // the owner is a person, and not an organization
}

// newPackage is the package of a repository: "acme/shop/web".
func newPackage(client *github.Client, repository string) *githubPackage {
	owner, name, _ := strings.Cut(repository, "/")
	client.UserAgent = storage.UserAgent
	return &githubPackage{client: client, owner: owner, name: name}
}

// Remove implements [Remover]. It removes a version only when all its tags are among these. A version with one of these tags and another
// tag stays, and is an error.
func (p *githubPackage) Remove(ctx context.Context, going []string, gone func(tag string)) error {
	leaving := map[string]bool{}
	for _, tag := range going {
		leaving[tag] = true
	}
	versions, err := p.versions(ctx)
	if err != nil {
		return fmt.Errorf("list the versions of the package %s: %w", p.name, packagesError(err))
	}
	var failed error
	for _, v := range versions {
		tags := tagsOf(v)
		stays := ""
		for _, tag := range tags {
			if !leaving[tag] {
				stays = tag
			}
		}
		switch {
		case len(tags) == 0 || stays != "" && len(tags) == 1:
			continue
		case stays != "":
			failed = errors.Join(failed, p.heldBy(stays, tags, leaving))
			continue
		}
		if err := p.remove(ctx, v.GetID()); err != nil {
			return errors.Join(failed, fmt.Errorf("remove %s: %w", strings.Join(tags, ", "), packagesError(err)))
		}
		for _, tag := range tags {
			gone(tag)
			delete(leaving, tag)
		}
	}
	if failed == nil {
		for tag := range leaving {
			gone(tag) // no version has the tag any more
		}
	}
	return failed
}

// heldBy is the error about tags whose manifest another tag has; nil where none of them is leaving.
func (p *githubPackage) heldBy(stays string, tags []string, leaving map[string]bool) error {
	for _, tag := range tags {
		if leaving[tag] {
			return fmt.Errorf("remove %s: GitHub removes no tag alone, and the tag %s has the same manifest", tag, stays)
		}
	}
	return nil
}

// versions are all versions of the package.
func (p *githubPackage) versions(ctx context.Context) ([]*github.PackageVersion, error) {
	var all []*github.PackageVersion
	options := &github.PackageListOptions{ListOptions: github.ListOptions{Page: 1, PerPage: 100}}
	for {
		some, answer, err := p.page(ctx, options)
		if options.Page == 1 && answer != nil && answer.StatusCode == http.StatusNotFound && !p.personal {
			p.personal = true
			continue
		}
		if err != nil {
			return nil, err
		}
		all = append(all, some...)
		if len(some) < options.PerPage {
			return all, nil
		}
		options.Page++
	}
}

func (p *githubPackage) page(ctx context.Context, options *github.PackageListOptions) ([]*github.PackageVersion, *github.Response, error) {
	if p.personal {
		return p.client.Users.PackageGetAllVersions(ctx, p.owner, "container", p.escaped(), options)
	}
	return p.client.Organizations.PackageGetAllVersions(ctx, p.owner, "container", p.name, options)
}

func (p *githubPackage) remove(ctx context.Context, id int64) error {
	var answer *github.Response
	var err error
	if p.personal {
		answer, err = p.client.Users.PackageDeleteVersion(ctx, p.owner, "container", p.escaped(), id)
	} else {
		answer, err = p.client.Organizations.PackageDeleteVersion(ctx, p.owner, "container", p.name, id)
	}
	if answer != nil && answer.StatusCode == http.StatusNotFound {
		return nil
	}
	return err
}

// escaped is the name as a part of a path: go-github v75 escapes it for organizations alone.
func (p *githubPackage) escaped() string { return url.PathEscape(p.name) }

func tagsOf(v *github.PackageVersion) []string {
	var metadata github.PackageMetadata
	if json.Unmarshal(v.Metadata, &metadata) != nil || metadata.Container == nil {
		return nil
	}
	return metadata.Container.Tags
}

// packagesError is GitHub's answer in a few words, with what it needs.
func packagesError(err error) error {
	var answer *github.ErrorResponse
	if !errors.As(err, &answer) || answer.Response == nil {
		return err
	}
	words := answer.Response.Status + ": " + answer.Message
	if answer.Response.StatusCode == http.StatusForbidden {
		words += " (the token needs packages: write, and the repository the role Admin in the package's settings, \"Manage Actions access\")"
	}
	return storage.Answer{Words: words, Err: err}
}
