package backends

import (
	"github.com/google/go-containerregistry/pkg/authn"

	"github.com/warmlayer/warmlayer/internal/cachespec"
	"github.com/warmlayer/warmlayer/internal/s3service"
)

// S3 is a cache in a bucket, in the objects that BuildKit keeps there (v0.34.2,
// cache/remotecache/s3/s3.go): <prefix>blobs/<digest>, and <prefix>manifests/<name>
// with an annotated cache config. The scope N has the name N, or <name>-N.
type S3 struct{ objectCache }

func newS3(spec *cachespec.S3, _ authn.Keychain) *S3 {
	c := &S3{objectCache{
		Config: spec, name: spec.Name, place: spec.Place(), credentials: spec.KeyPair(),
		options: []string{"mode", "compression", "compression-level", "force-compression"},
	}}
	reading, writing := s3service.New(spec)
	c.source, c.destination = newObjects(reading, spec, spec.TouchRefresh), newObjects(writing, spec, spec.TouchRefresh)
	return c
}
