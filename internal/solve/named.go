package solve

import (
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	contentlocal "github.com/containerd/containerd/v2/plugins/content/local"
	"github.com/moby/buildkit/client/ociindex"
	"github.com/moby/buildkit/identity"
	digest "github.com/opencontainers/go-digest"

	"github.com/warmlayer/warmlayer/inputs"
)

// addContexts opens the named contexts. BuildKit fetches URLs and images itself; directories and
// OCI layouts are sent to it.
func (b *run) addContexts(m *mounts) error {
	for _, c := range b.Inputs.BuildContexts {
		m.capability("contexts+forward")
		var err error
		switch c.Kind {
		case inputs.Directory:
			err = m.addDirectory(c, b.Exclude)
		case inputs.Layout:
			err = m.addLayout(c)
		case inputs.Git, inputs.HTTP, inputs.Image:
			m.attrs["context:"+c.Name] = c.Source
			m.gitQuery(c, "+forward")
		}
		if err != nil {
			return fmt.Errorf("open build context %s: %w", c.Name, err)
		}
	}
	return nil
}

// capability requires a feature of the frontend. An old frontend would otherwise ignore the option.
func (m *mounts) capability(name string) {
	name = "moby.buildkit.frontend." + name
	all := strings.FieldsFunc(m.attrs["frontend.caps"], func(c rune) bool { return c == ',' })
	if !slices.Contains(all, name) {
		m.attrs["frontend.caps"] = strings.Join(slices.Sorted(slices.Values(append(all, name))), ",")
	}
}

// gitQuery requires support for the query of a URL, if it has one.
func (m *mounts) gitQuery(c inputs.Context, suffix string) {
	if c.HasQuery {
		m.capability("gitquerystring" + suffix)
	}
}

// addDirectory mounts the directory of a named context. Names of the build's own mounts get an
// underscore, as in docker buildx.
func (m *mounts) addDirectory(c inputs.Context, exclude []string) error {
	mount := c.Name
	if mount == "context" || mount == "dockerfile" {
		mount = "_" + mount
	}
	files, err := contextFS(c.Dir, exclude)
	if err != nil {
		return err
	}
	m.local[mount], m.paths[mount], m.attrs["context:"+c.Name] = files, c.Dir, "local:"+mount
	return nil
}

// addLayout mounts the directory of an OCI layout. A layout of one image needs no tag
// (docker buildx v0.37.0, build/opt.go).
func (m *mounts) addLayout(c inputs.Context) error {
	l := c.Layout
	if l.Digest == "" {
		var err error
		if l.Digest, err = layoutDigest(l.Dir, l.Tag); err != nil {
			return err
		}
	}
	store, err := contentlocal.NewStore(l.Dir)
	if err != nil {
		return err
	}
	source := identity.NewID()
	m.layouts[source] = store
	if l.Tag != "" {
		source += ":" + l.Tag
	}
	m.attrs["context:"+c.Name] = "oci-layout://" + source + "@" + l.Digest.String()
	return nil
}

// layoutDigest is the digest of the layout's image with the tag, or of its only image.
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
