package testkit

import "testing"

// ObjectServer is a server of objects, with one place for caches: a bucket or a container.
type ObjectServer interface {
	// Line is the place as a cache line, with more attributes: ",prefix=app".
	Line(attrs string) string
	// WithoutCredentials is the line without credentials, for those of the environment.
	WithoutCredentials() string
	// Denied is the line with credentials that are refused: canary-of-no-user.
	Denied() string
	// Elsewhere is the line of a bucket or container that does not exist.
	Elsewhere() string
	// At is the line of the same place on a server at another address: "127.0.0.1:1".
	At(address string) string
	// Address is the address of the server.
	Address() string
	// Objects are those with a prefix, each with a tag of its content or version: "manifests/b-main
	// 9a0364…".
	Objects(t testing.TB, prefix string) []string
	// Write puts an object.
	Write(t testing.TB, key, content string)
	// Remove deletes an object.
	Remove(t testing.TB, key string)
}

// ObjectServers start a server for each type of cache that is kept in objects. It runs until the
// end of the test.
var ObjectServers = map[string]func(testing.TB) ObjectServer{
	"azblob": func(t testing.TB) ObjectServer { return StartAzblob(t) },
	"s3":     func(t testing.TB) ObjectServer { return StartS3(t) },
}
