package gateway_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	cacheconfig "github.com/moby/buildkit/cache/remotecache/v1/types"
	"github.com/moby/buildkit/client"
	digest "github.com/opencontainers/go-digest"
	specs "github.com/opencontainers/image-spec/specs-go"
	ocispecs "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/warmlayer/warmlayer/backends"
	"github.com/warmlayer/warmlayer/inputs"
	"github.com/warmlayer/warmlayer/internal/gateway"
	"github.com/warmlayer/warmlayer/internal/syntax"
	"github.com/warmlayer/warmlayer/scope"
)

// store is a store in memory, with the faults of the test.
type store struct {
	putFault  error // of every Put
	statFault error
	openFault error
	stream    func(context.Context) io.ReadCloser // instead of any blob
	held      chan struct{}                       // holds up every Put until it is closed; nil: does not
	unsure    chan struct{}                       // and so every Stat

	mu     sync.Mutex
	asked  [][]digest.Digest // of each Stat
	blobs  map[digest.Digest][]byte
	scopes map[scope.Name]backends.Manifest
}

func newStore() *store {
	return &store{blobs: map[digest.Digest][]byte{}, scopes: map[scope.Name]backends.Manifest{}}
}

func (s *store) Manifest(_ context.Context, n scope.Name) (backends.Manifest, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	m, ok := s.scopes[n]
	if !ok {
		return m, backends.ErrAbsent
	}
	return m, nil
}

func (s *store) PutManifest(_ context.Context, n scope.Name, m backends.Manifest) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.scopes[n] = m
	return nil
}

func (s *store) Stat(_ context.Context, digests []digest.Digest) (map[digest.Digest]int64, error) {
	if s.unsure != nil {
		<-s.unsure
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.asked = append(s.asked, digests)
	sizes := map[digest.Digest]int64{}
	for _, d := range digests {
		if blob, ok := s.blobs[d]; ok {
			sizes[d] = int64(len(blob))
		}
	}
	return sizes, s.statFault
}

func (s *store) Open(ctx context.Context, d digest.Digest, offset int64) (io.ReadCloser, error) {
	if s.stream != nil {
		return s.stream(ctx), nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	blob, ok := s.blobs[d]
	switch {
	case s.openFault != nil:
		return nil, s.openFault
	case !ok:
		return nil, backends.ErrAbsent
	}
	return io.NopCloser(bytes.NewReader(blob[min(offset, int64(len(blob))):])), nil
}

func (s *store) Put(_ context.Context, desc ocispecs.Descriptor, r io.Reader) error {
	if s.putFault != nil {
		return s.putFault
	}
	content, err := io.ReadAll(r)
	if err != nil {
		return err
	}
	if s.held != nil {
		<-s.held
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.blobs[desc.Digest] = content
	return nil
}

func (s *store) has(content string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return string(s.blobs[digest.FromString(content)]) == content
}

func (s *store) add(mediaType, content string) ocispecs.Descriptor {
	s.mu.Lock()
	defer s.mu.Unlock()
	d := digest.FromString(content)
	s.blobs[d] = []byte(content)
	return ocispecs.Descriptor{MediaType: mediaType, Digest: d, Size: int64(len(content))}
}

// gated is a cache that is written through the gateway, into the store that it is
// read from.
type gated struct {
	*store
	name    string
	options map[string]string
	strict  bool
}

func (c *gated) String() string              { return c.name }
func (c *gated) Strict() bool                { return c.strict }
func (c *gated) Scopes() backends.Scopes     { return c.store }
func (c *gated) Destination() backends.Store { return c.store }
func (c *gated) InPlace() bool               { return true }

func (c *gated) Options() map[string]string {
	options := map[string]string{}
	maps.Copy(options, c.options)
	return options
}

func (c *gated) Imports(p scope.Plan) []client.CacheOptionsEntry {
	var entries []client.CacheOptionsEntry
	for _, s := range p.Read {
		entries = append(entries, client.CacheOptionsEntry{Type: "shelf", Attrs: map[string]string{"name": string(s.Name)}})
	}
	return entries
}

func (c *gated) Exports(p scope.Plan) []client.CacheOptionsEntry {
	attrs := c.Options()
	attrs["name"] = string(p.Write)
	return []client.CacheOptionsEntry{{Type: "shelf", Attrs: attrs}}
}

// real is the backend of one good cache line.
func real(t testing.TB, images []string, line string) backends.Backend {
	t.Helper()
	c := inputs.Cache{Line: 1, Type: line, Attrs: map[string]string{}}
	if pairs, err := syntax.ParseCSV(line); err == nil {
		for _, p := range pairs {
			c.Attrs[p.Key] = p.Value
		}
		c.Type = c.Attrs["type"]
		delete(c.Attrs, "type")
	}
	caches, problems := backends.New([]inputs.Cache{c}, backends.Options{Images: images})
	if len(caches) != 1 || len(problems) != 0 {
		t.Fatalf("%s: %v", line, syntax.Problems(problems))
	}
	return caches[0]
}

// listen starts a gateway for the test.
func listen(t testing.TB) *gateway.Gateway {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	g := gateway.Serve(listener)
	t.Cleanup(func() {
		if err := g.Close(); err != nil {
			t.Error(err)
		}
	})
	return g
}

// graph is what the steps of a build depend on. It is written as lines "step: input
// input", where each input is one step, or several that stand for the same content:
// "a|b".
type graph map[string][][]string

func newGraph(lines ...string) graph {
	g := graph{}
	for _, line := range lines {
		step, inputs, _ := strings.Cut(line, ":")
		g[step] = nil
		for _, input := range strings.Fields(inputs) {
			g[step] = append(g[step], strings.Split(input, "|"))
		}
	}
	return g
}

// step is the digest by which BuildKit knows a step.
func step(name string) digest.Digest { return digest.FromString("step " + name) }

// config is a cache of the graph's steps, each with a layer of its own that the
// maker has made, in the store.
func (g graph) config(store *store, maker string) (config cacheconfig.CacheConfig, layers []ocispecs.Descriptor) {
	steps := slices.Sorted(maps.Keys(g))
	for i, name := range steps {
		layer := store.add(ocispecs.MediaTypeImageLayerGzip, name+" by "+maker)
		layers = append(layers, layer)
		config.Layers = append(config.Layers, cacheconfig.CacheLayer{Blob: layer.Digest, ParentIndex: -1})
		record := cacheconfig.CacheRecord{
			// As BuildKit's solver names the first output (v0.33.1, cache/remotecache/v1/utils.go, outputKey).
			Digest:  digest.FromString(step(name).String() + "@0"),
			Results: []cacheconfig.CacheResult{{LayerIndex: i, CreatedAt: created}},
		}
		for _, alternatives := range g[name] {
			var input []cacheconfig.CacheInput
			for _, a := range alternatives {
				input = append(input, cacheconfig.CacheInput{LinkIndex: slices.Index(steps, a)})
			}
			record.Inputs = append(record.Inputs, input)
		}
		config.Records = append(config.Records, record)
	}
	return config, layers
}

var created = time.Date(2026, 2, 3, 4, 5, 6, 0, time.UTC)

// cache is the graph as a cache manifest, and all blobs of it in the store.
func (g graph) cache(t testing.TB, store *store, maker string) (backends.Manifest, []byte) {
	t.Helper()
	config, layers := g.config(store, maker)
	raw := encode(t, config)
	m, err := backends.ParseManifest(encode(t, ocispecs.Manifest{
		Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispecs.MediaTypeImageManifest,
		Config: store.add(cacheconfig.CacheConfigMediaTypeV0, string(raw)), Layers: layers,
	}), "")
	if err != nil {
		t.Fatal(err)
	}
	return m, raw
}

// loaded is the source that a cache of the graph makes when it is read.
func (g graph) loaded(t testing.TB, from *gated, n scope.Name) backends.Source {
	t.Helper()
	m, config := g.cache(t, from.store, string(n))
	return backends.Source{Source: scope.Source{Name: n}, From: from, State: backends.Loaded, Manifest: m, Config: config}
}

func encode(t testing.TB, v any) []byte {
	t.Helper()
	raw, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

// answer is what the gateway says to one request.
type answer struct {
	status int
	header http.Header
	body   string
	err    error // of reading the body
}

// ask sends a request with the gateway's password. Headers are written "Name: value".
func ask(t testing.TB, g *gateway.Gateway, method, path string, body io.Reader, headers ...string) answer {
	t.Helper()
	r := request(t, g, method, path, body)
	for _, h := range headers {
		k, v, _ := strings.Cut(h, ": ")
		r.Header.Set(k, v)
	}
	return send(t, r)
}

// request is one with the gateway's password.
func request(t testing.TB, g *gateway.Gateway, method, path string, body io.Reader) *http.Request {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), method, "http://"+g.Host+path, body)
	if err != nil {
		t.Fatal(err)
	}
	r.SetBasicAuth(g.Credentials())
	return r
}

func send(t testing.TB, r *http.Request) answer {
	t.Helper()
	response, err := http.DefaultClient.Do(r)
	if err != nil {
		return answer{err: err}
	}
	defer response.Body.Close()
	content, err := io.ReadAll(response.Body)
	return answer{response.StatusCode, response.Header, string(content), err}
}

// upload sends a blob as a client does: a POST, and one PUT to where it says.
func upload(t testing.TB, g *gateway.Gateway, repo string, d digest.Digest, content io.Reader) answer {
	t.Helper()
	begun := ask(t, g, "POST", "/v2/"+repo+"/blobs/uploads/", nil)
	if begun.status != http.StatusAccepted {
		t.Fatalf("an upload: %+v", begun)
	}
	return ask(t, g, "PUT", begun.header.Get("Location")+"?digest="+d.String(), content)
}

func blobURL(repo string, d digest.Digest) string { return fmt.Sprintf("/v2/%s/blobs/%s", repo, d) }
