package faults

import (
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	digest "github.com/opencontainers/go-digest"

	ocispecs "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/warmlayer/warmlayer/backends"
	"github.com/warmlayer/warmlayer/internal/storage"
	"github.com/warmlayer/warmlayer/internal/testkit"
)

// phase is a part of a build's dealings with a cache, told by its requests.
type phase string

const (
	reading    phase = "read"    // manifests and configs of scopes, before the build
	importing  phase = "import"  // the look-up of the blobs, and BuildKit's own import
	extracting phase = "extract" // the contents of layers
	uploading  phase = "upload"  // blobs
	committing phase = "commit"  // what makes a cache the scope's
)

var phases = []phase{reading, importing, extracting, uploading, committing}

// kind is a type of cache, with a real server.
type kind struct {
	name   string
	remote bool // builds are on a remote builder
	// open starts the server, and returns a store on it with the cache that the first build filled.
	// Each store is a copy, so that cells do not see each other's faults.
	open   func(t *testing.T, fill filling) func(*testing.T) *store
	faults []fault
	// not says which phases do not exist, and why.
	not map[phase]string
}

// filling builds main of the app with a cache.
type filling func(t *testing.T, c testkit.Cache)

// store is one cell's own store, behind its own proxies.
type store struct {
	cache   testkit.Cache
	proxies []*testkit.Faulty
	in      func(phase, *http.Request) bool // whether a request belongs to a phase
	content func(*http.Request) bool        // whether its body, or its answer's, is a document or a blob; nil: all are
	says    func(status int) http.HandlerFunc
	remove  func(testing.TB, digest.Digest) // deletes a blob on the server

	manifest backends.Manifest // of the scope that the cell reads

	dir, link string   // of a cache in a directory: where it is, and the path in its line
	lift      []func() // ends the fault, besides mending the proxies
}

var kinds = []kind{
	{name: "registry", open: registries, faults: serverFaults, not: map[phase]string{importing: fromMemory}},
	{name: "s3", open: buckets, faults: serverFaults},
	{name: "azblob", open: containers, faults: serverFaults},
	{name: "gha", open: services, faults: serverFaults},
	{name: "inline", open: inlined, faults: serverFaults, not: map[phase]string{
		uploading: "the layers are the image's: a fault is one of its push, which fails the build", importing: fromMemory,
	}},
	{name: "local", open: directories, faults: directoryFaults},
	{name: "remote registry", remote: true, open: registries, faults: serverFaults},
	{name: "remote s3", remote: true, open: buckets, faults: serverFaults},
	{name: "remote azblob", remote: true, open: containers, faults: serverFaults},
	{name: "remote gha", remote: true, open: services, faults: serverFaults},
	{name: "remote local", remote: true, open: directories, faults: directoryFaults},
}

const fromMemory = "BuildKit gets manifest and config from the gateway, and the registry is not asked for blobs"

// type of its cache: "s3" for "remote s3".
func (k kind) cache() string { return strings.TrimPrefix(k.name, "remote ") }

// byBuildKit tells the requests of the builder from those of warmlayer.
func byBuildKit(r *http.Request) bool { return !strings.Contains(r.UserAgent(), storage.UserAgent) }

func reads(r *http.Request) bool {
	return r.Method == http.MethodGet || r.Method == http.MethodHead
}

var cells atomic.Int64

func unique(name string) string { return fmt.Sprintf("%s-%d", name, cells.Add(1)) }

// registries are repositories, whose links to blobs are copied.
func registries(t *testing.T, fill filling) func(*testing.T) *store {
	server := testkit.StartRegistry(t)
	first := testkit.Cache{Line: "type=registry,ref=" + server.Host + "/first", Image: server.Host + "/first"}
	fill(t, first)
	m := manifest(t, first)
	return func(t *testing.T) *store {
		s := repository(t, server, m)
		s.cache.Line = "type=registry,ref=" + s.cache.Image
		return s
	}
}

// inlined are repositories of images that contain their caches.
func inlined(t *testing.T, fill filling) func(*testing.T) *store {
	server := testkit.StartRegistry(t)
	first := testkit.Cache{Line: "inline", Image: server.Host + "/first"}
	fill(t, first)
	m := manifest(t, first)
	return func(t *testing.T) *store {
		s := repository(t, server, m)
		s.cache.Line = "inline"
		ofRegistry := s.in
		s.in = func(in phase, r *http.Request) bool {
			// BuildKit looks the manifests up that it pushes, which are not the cache's.
			_, ref, pushed := strings.Cut(r.URL.Path, "/manifests/")
			pushed = pushed && byBuildKit(r) && ref != "cache-b-main" && ref != m.Descriptor().Digest.String()
			return !pushed && ofRegistry(in, r)
		}
		return s
	}
}

// repository is a copy of the repository first, behind a proxy.
func repository(t *testing.T, server testkit.Registry, m backends.Manifest) *store {
	p, name := testkit.StartFaulty(t, server.Host), unique("cell")
	repositories := filepath.Join(server.Root, "docker/registry/v2/repositories")
	if err := os.CopyFS(filepath.Join(repositories, name), os.DirFS(filepath.Join(repositories, "first"))); err != nil {
		t.Fatal(err)
	}
	image := p.Host + "/" + name
	return &store{
		cache: testkit.Cache{Image: image}, proxies: []*testkit.Faulty{p}, manifest: m,
		in:   func(in phase, r *http.Request) bool { return ofRegistry(r, m) == in },
		says: registrySays,
		remove: func(t testing.TB, d digest.Digest) {
			send(t, http.MethodDelete, "http://"+server.Host+"/v2/"+name+"/blobs/"+d.String())
		},
	}
}

// configOf is the digest of the config that a manifest names: a cache's, or an image's.
func configOf(m backends.Manifest) digest.Digest {
	var doc struct{ Config ocispecs.Descriptor }
	_ = json.Unmarshal(m.Raw, &doc)
	return doc.Config.Digest
}

func registrySays(status int) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		code := registryCodes[status]
		if strings.Contains(r.URL.Path, "/blobs/") && status == http.StatusNotFound {
			code = "BLOB_UNKNOWN"
		}
		if status == http.StatusUnauthorized {
			w.Header().Set("Www-Authenticate", `Basic realm="test"`)
		}
		testkit.Refusal(status, code, "so it was told", "")(w, r)
	}
}

// Codes of the distribution specification; 409 is Harbor's (src/lib/errors).
var registryCodes = map[int]string{
	401: "UNAUTHORIZED", 403: "DENIED", 404: "MANIFEST_UNKNOWN", 409: "CONFLICT", 429: "TOOMANYREQUESTS", 500: "UNKNOWN", 503: "UNAVAILABLE",
}

// ofRegistry is the phase of a request to a registry. BuildKit itself writes the cache, and imports it on a
// remote builder.
func ofRegistry(r *http.Request, m backends.Manifest) phase {
	manifests, blobs := strings.Contains(r.URL.Path, "/manifests/"), strings.Contains(r.URL.Path, "/blobs/")
	uploads := strings.Contains(r.URL.Path, "/blobs/uploads/")
	ofConfig := strings.HasSuffix(r.URL.Path, "/"+configOf(m).String())
	ofLayer := slices.ContainsFunc(m.Layers, func(l ocispecs.Descriptor) bool { return strings.HasSuffix(r.URL.Path, "/"+l.Digest.String()) })
	switch {
	case uploads && byBuildKit(r):
		return uploading
	case uploads: // the check before the build
	case manifests && r.Method == http.MethodPut && strings.HasSuffix(r.URL.Path, "/cache-b-main"):
		return committing
	case manifests && r.Method == http.MethodPut: // the image's
	case byBuildKit(r) && reads(r) && (manifests || ofConfig):
		return importing
	case ofLayer && r.Method == http.MethodGet:
		return extracting
	case byBuildKit(r): // whether a blob is to be uploaded
	case manifests && reads(r), ofConfig && r.Method == http.MethodGet:
		return reading
	case blobs && r.Method == http.MethodHead:
		return importing
	}
	return ""
}

func send(t testing.TB, method, url string) {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), method, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	response.Body.Close()
	if response.StatusCode/100 != 2 {
		t.Fatalf("%s %s: %s", method, url, response.Status)
	}
}

// ofObjects is the phase of a request to S3 or Azure.
func ofObjects(r *http.Request) phase {
	blob := strings.Contains(r.URL.Path, "/blobs/")
	switch {
	case strings.Contains(r.URL.Path, "/manifests/") && reads(r) && byBuildKit(r):
		return importing
	case strings.Contains(r.URL.Path, "/manifests/") && reads(r):
		return reading
	case strings.Contains(r.URL.Path, "/manifests/"):
		return committing
	case blob && r.Method == http.MethodHead:
		return importing
	case blob && r.Method == http.MethodGet:
		return extracting
	case blob:
		return uploading
	}
	return ""
}

// objectStore is a store of objects on a server, behind a proxy.
func objectStore(t *testing.T, server testkit.ObjectServer, m backends.Manifest, says func(status int) http.HandlerFunc) *store {
	p := testkit.StartFaulty(t, server.Address())
	return &store{
		cache: testkit.Cache{Line: strings.TrimSuffix(server.At(p.Host), ",retry_max_attempts=1")}, proxies: []*testkit.Faulty{p}, manifest: m,
		in:     func(in phase, r *http.Request) bool { return ofObjects(r) == in },
		says:   says,
		remove: func(t testing.TB, d digest.Digest) { server.Remove(t, "blobs/"+d.String()) },
	}
}

// buckets are copied object by object.
func buckets(t *testing.T, fill filling) func(*testing.T) *store {
	server := testkit.StartS3(t)
	first := testkit.Cache{Line: server.Line("")}
	fill(t, first)
	m := manifest(t, first)
	return func(t *testing.T) *store {
		return objectStore(t, server.Copy(t), m, s3Says)
	}
}

// s3Says is an error in the words of S3 ("Error responses"); 429 is that of other servers.
func s3Says(status int) http.HandlerFunc {
	codes := map[int]string{
		401: "Unauthorized", 403: "AccessDenied", 404: "NoSuchKey", 409: "OperationAborted", 429: "TooManyRequests", 500: "InternalError", 503: "SlowDown",
	}
	return testkit.S3Error(status, codes[status], "so it was told")
}

// containers are copied blob by blob.
func containers(t *testing.T, fill filling) func(*testing.T) *store {
	server := testkit.StartAzblob(t)
	first := testkit.Cache{Line: server.Line("")}
	fill(t, first)
	m := manifest(t, first)
	return func(t *testing.T) *store {
		return objectStore(t, server.Copy(t), m, azureSays)
	}
}

// azureSays is an error in the words of Azure ("Common REST API error codes", "Blob service error
// codes").
func azureSays(status int) http.HandlerFunc {
	codes := map[int]string{
		401: "NoAuthenticationInformation", 403: "AuthorizationFailure", 404: "BlobNotFound", 409: "BlobBeingRehydrated", 429: "TooManyRequests", 500: "InternalError", 503: "ServerBusy",
	}
	return func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("X-Ms-Error-Code", codes[status])
		testkit.S3Error(status, codes[status], "so it was told")(w, r) // the documents are alike
	}
}
