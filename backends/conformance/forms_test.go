package conformance

import (
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"

	"github.com/warmlayer/warmlayer/backends"
)

// The first bytes of each compression: RFC 1952, RFC 8878, and a tar header, which begins with a
// name. An estargz layer ends with its own footer.
var compressions = []struct{ name, mediaType, magic, footer string }{
	{"gzip", "application/vnd.oci.image.layer.v1.tar+gzip", "\x1f\x8b", ""},
	{"estargz", "application/vnd.oci.image.layer.v1.tar+gzip", "\x1f\x8b", "STARGZ"},
	{"zstd", "application/vnd.oci.image.layer.v1.tar+zstd", "\x28\xb5\x2f\xfd", ""},
	{"uncompressed", "application/vnd.oci.image.layer.v1.tar", "", ""},
}

func (s suite) compressions(t *testing.T) {
	for _, form := range compressions {
		t.Run(form.name, func(t *testing.T) {
			t.Parallel()
			app, flags := twoStages(t), []string{"--compression", form.name, "--force-compression"}
			c, _ := s.warm(t, app, flags...)
			scopes := c.scopes(t)
			for _, layer := range c.manifest(t, "b-main").Layers {
				if layer.MediaType != form.mediaType {
					t.Errorf("media type %s", layer.MediaType)
				}
				content := content(t, scopes, layer.Digest)
				if !strings.HasPrefix(content, form.magic) {
					t.Errorf("layer begins with %q", content[:4])
				}
				if tail := content[max(0, len(content)-64):]; !strings.Contains(tail, form.footer) {
					t.Errorf("layer ends with %q", tail)
				}
			}
			allCached(t, s.run(t, c, app, "main", flags...).Build(t))
		})
	}
}

func (s suite) mediaTypes(t *testing.T) {
	for _, form := range []struct{ oci, image, want, layer string }{
		{"true", "true", "application/vnd.oci.image.manifest.v1+json", "application/vnd.oci.image.layer.v1.tar+gzip"},
		{"true", "false", "application/vnd.oci.image.index.v1+json", "application/vnd.oci.image.layer.v1.tar+gzip"},
		{"false", "false", "application/vnd.docker.distribution.manifest.list.v2+json", "application/vnd.docker.image.rootfs.diff.tar.gzip"},
	} {
		t.Run(fmt.Sprintf("oci=%s image=%s", form.oci, form.image), func(t *testing.T) {
			t.Parallel()
			app := twoStages(t)
			c, _ := s.warm(t, app, "--oci-mediatypes="+form.oci, "--image-manifest="+form.image, "--compression", "gzip")
			m := c.manifest(t, "b-main")
			if (m.MediaType != form.want && !s.h.object) || m.Layers[0].MediaType != form.layer {
				t.Errorf("manifest %s, layer %s", m.MediaType, m.Layers[0].MediaType)
			}
			allCached(t, s.run(t, c, app, "main").Build(t))
		})
	}
}

// content is a whole blob.
func content(t testing.TB, scopes backends.Scopes, d digest.Digest) string {
	t.Helper()
	r, err := scopes.Open(t.Context(), d, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	b, err := io.ReadAll(r)
	if err = errors.Join(err, r.Close()); err != nil {
		t.Fatal(err)
	}
	return string(b)
}
