package backends

import (
	"github.com/google/go-containerregistry/pkg/authn"

	"github.com/warmlayer/warmlayer/internal/cachespec"
)

// opener makes the backend of a config. It opens no connection.
type opener func(cachespec.Config, authn.Keychain) Backend

// openers is the table of backends, by their type.
var openers = map[string]opener{
	"registry": as(newRegistry),
	"inline":   as(newInline),
	"local":    as(newLocal),
	"s3":       as(newS3),
	"azblob":   as(newAzblob),
	"gha":      as(newGHA),
}

// as is the opener of one type of config.
func as[C cachespec.Config, B Backend](open func(C, authn.Keychain) B) opener {
	return func(c cachespec.Config, keychain authn.Keychain) Backend { return open(c.(C), keychain) }
}

// Open gives the backends of lines that [cachespec.Resolve] has completed. The keychain has
// the credentials of registries; nil is for none.
func Open(lines []cachespec.Cache, keychain authn.Keychain) []Backend {
	if keychain == nil {
		keychain = authn.NewMultiKeychain()
	}
	var all []Backend
	for _, line := range lines {
		all = append(all, openers[line.Config.Type()](line.Config, keychain))
	}
	return all
}
