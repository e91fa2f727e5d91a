package backends

import (
	"github.com/google/go-containerregistry/pkg/authn"

	"github.com/warmlayer/warmlayer/internal/azureservice"
	"github.com/warmlayer/warmlayer/internal/cachespec"
)

// Azblob is a cache in a container of Azure Blob Storage, in the blobs that BuildKit
// keeps there (v0.34.2, cache/remotecache/azblob/utils.go): <prefix>/blobs/<digest>, and
// <prefix>/manifests/<name> with an annotated cache config, each joined as a path. The
// scope N has the name N, or <name>-N.
type Azblob struct{ objectCache }

func newAzblob(spec *cachespec.Azblob, _ authn.Keychain) *Azblob {
	c := &Azblob{objectCache{Config: spec, name: spec.Name, place: spec.Place(), options: []string{"mode"}}}
	if spec.Credentials() {
		c.credentials = map[string]string{"secret_access_key": spec.SecretAccessKey}
	}
	reading, writing := azureservice.New(spec)
	c.source, c.destination = newObjects(reading, spec, spec.TouchRefresh), newObjects(writing, spec, spec.TouchRefresh)
	return c
}
