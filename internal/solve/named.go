package solve

import (
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	contentlocal "github.com/containerd/containerd/v2/plugins/content/local"
	"github.com/distribution/reference"
	"github.com/moby/buildkit/client/ociindex"
	"github.com/moby/buildkit/frontend/dockerfile/dfgitutil"
	"github.com/moby/buildkit/identity"
	"github.com/moby/buildkit/util/gitutil"
	digest "github.com/opencontainers/go-digest"
)

// addContexts opens the named contexts, each in the way of its place: a URL and an image
// are for the daemon to fetch, a directory and an image in an OCI layout are handed in.
func (b *run) addContexts(m *mounts) error {
	for _, c := range b.Inputs.BuildContexts {
		m.capability("contexts+forward")
		var err error
		switch {
		case isRemote(c.Value):
			m.attrs["context:"+c.Key] = c.Value
			m.gitQuery(c.Value, "+forward")
		case strings.HasPrefix(c.Value, "docker-image://"):
			m.attrs["context:"+c.Key] = c.Value
		case strings.HasPrefix(c.Value, layoutScheme):
			err = m.addLayout(c.Key, b.Inputs.Dir, c.Value)
		default:
			err = m.addDirectory(c.Key, resolve(b.Inputs.Dir, c.Value), b.Exclude)
		}
		if err != nil {
			return fmt.Errorf("open build context %s: %w", c.Key, err)
		}
	}
	return nil
}

// isRemote tells whether the place is a URL or a Git reference, as docker buildx v0.37.0
// does (util/urlutil).
func isRemote(place string) bool {
	_, git, _ := dfgitutil.ParseGitRef(place)
	return git || strings.HasPrefix(place, "https://") || strings.HasPrefix(place, "http://")
}

// capability demands of the frontend what an old one would ignore.
func (m *mounts) capability(name string) {
	name = "moby.buildkit.frontend." + name
	all := strings.FieldsFunc(m.attrs["frontend.caps"], func(c rune) bool { return c == ',' })
	if !slices.Contains(all, name) {
		m.attrs["frontend.caps"] = strings.Join(slices.Sorted(slices.Values(append(all, name))), ",")
	}
}

// gitQuery demands that a Git URL's query is understood, where it has one.
func (m *mounts) gitQuery(url, suffix string) {
	if u, err := gitutil.ParseURL(url); err == nil && len(u.Query) > 0 {
		m.capability("gitquerystring" + suffix)
	}
}

// addDirectory mounts a named context's directory. The build's own mounts keep their names.
func (m *mounts) addDirectory(name, dir string, exclude []string) error {
	mount := name
	if mount == "context" || mount == "dockerfile" {
		mount = "_" + mount
	}
	files, err := contextFS(dir, exclude)
	if err != nil {
		return err
	}
	m.local[mount], m.attrs["context:"+name] = files, "local:"+mount
	return nil
}

const layoutScheme = "oci-layout://"

// addLayout hands in the directory of an OCI layout: "oci-layout://dir:tag",
// "oci-layout://dir@sha256:…". Without both the tag is latest; a layout of one image
// needs no tag (docker buildx v0.37.0, util/ocilayout and build/opt.go).
func (m *mounts) addLayout(name, base, place string) error {
	dir, tag, d, err := parseLayout(strings.TrimPrefix(place, layoutScheme))
	if err != nil {
		return err
	}
	dir = resolve(base, dir)
	if d == "" {
		if d, err = layoutDigest(dir, tag); err != nil {
			return err
		}
	}
	store, err := contentlocal.NewStore(dir)
	if err != nil {
		return err
	}
	id := identity.NewID()
	m.layouts[id] = store
	m.attrs["context:"+name] = layoutScheme + id
	if tag != "" {
		m.attrs["context:"+name] += ":" + tag
	}
	m.attrs["context:"+name] += "@" + d.String()
	return nil
}

func parseLayout(place string) (dir, tag string, d digest.Digest, err error) {
	dir = place
	if at := strings.LastIndex(dir, "@"); at >= 0 && reference.DigestRegexp.MatchString(dir[at+1:]) {
		if d, err = digest.Parse(dir[at+1:]); err != nil {
			return "", "", "", err
		}
		dir = dir[:at]
	}
	if colon := strings.LastIndex(dir, ":"); colon >= 0 && reference.TagRegexp.FindString(dir[colon+1:]) == dir[colon+1:] {
		dir, tag = dir[:colon], dir[colon+1:]
	}
	if tag == "" && d == "" {
		tag = "latest"
	}
	return dir, tag, d, nil
}

// layoutDigest is that of the layout's image with the tag, or of its only one.
func layoutDigest(dir, tag string) (digest.Digest, error) {
	index := ociindex.NewStoreIndex(dir)
	found, err := index.Get(tag)
	if err == nil && found == nil {
		found, err = index.GetSingle()
	}
	if err != nil {
		return "", err
	}
	if found == nil {
		return "", errors.New("no image in " + filepath.Join(dir, "index.json") + " is tagged " + tag)
	}
	return found.Digest, found.Digest.Validate()
}
