package cacheplan_test

import (
	"cmp"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"testing"
	"time"

	cacheconfig "github.com/moby/buildkit/cache/remotecache/v1/types"
	digest "github.com/opencontainers/go-digest"
	ocispecs "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/moby/buildkit/client"

	"github.com/warmlayer/warmlayer/backends"
	"github.com/warmlayer/warmlayer/internal/cacheplan"
	"github.com/warmlayer/warmlayer/internal/cachespec"
	"github.com/warmlayer/warmlayer/internal/testkit"
	"github.com/warmlayer/warmlayer/scope"
)

var (
	writeMain = scope.Plan{Write: "b-main"}
	app       = testkit.NewGraph("base", "app: base")
)

// memoryCache is a cache in memory. The gateway writes it to the store that scopes are read from.
type memoryCache struct {
	cachespec.S3 // for the methods that are not defined below
	*testkit.Store
	name    string
	options map[string]string
	strict  bool
}

func (c *memoryCache) String() string              { return c.name }
func (c *memoryCache) Strict() bool                { return c.strict }
func (c *memoryCache) Scopes() backends.Scopes     { return c.Store }
func (c *memoryCache) Destination() backends.Store { return c.Store }
func (c *memoryCache) InPlace() bool               { return true }

func (c *memoryCache) Options() map[string]string {
	options := map[string]string{}
	maps.Copy(options, c.options)
	return options
}

func (c *memoryCache) Imports(p scope.Plan) []client.CacheOptionsEntry {
	var entries []client.CacheOptionsEntry
	for _, s := range p.Read {
		entries = append(entries, client.CacheOptionsEntry{Type: "shelf", Attrs: map[string]string{"name": string(s.Name)}})
	}
	return entries
}

func (c *memoryCache) Exports(p scope.Plan) []client.CacheOptionsEntry {
	attrs := c.Options()
	attrs["name"] = string(p.Write)
	return []client.CacheOptionsEntry{{Type: "shelf", Attrs: attrs}}
}

// newMemoryCache is a cache with the option mode=max.
func newMemoryCache(name string) *memoryCache {
	return &memoryCache{Store: testkit.NewStore(), name: name, options: map[string]string{"mode": "max"}}
}

// found is what was found out about the caches: these readings.
func found(readings []backends.Reading) func() cacheplan.Found {
	return func() cacheplan.Found { return cacheplan.Found{Readings: readings} }
}

// outcomes are, for each cache of a commit, why nothing or not all was written.
func outcomes(all []cacheplan.Committed) []error {
	var errs []error
	for _, c := range all {
		errs = append(errs, cmp.Or(c.Err, c.Note))
	}
	return errs
}

// real is the backend of one valid cache line.
func real(t testing.TB, images []string, line string) backends.Backend {
	t.Helper()
	return testkit.Backend(t, cachespec.Environment{Images: images}, line)
}

// lines are valid lines of an input.
func lines(t testing.TB, in cachespec.Input, texts ...string) []cachespec.Cache {
	t.Helper()
	all, problems := testkit.Lines(in, texts...)
	if len(problems) > 0 {
		t.Fatal(problems)
	}
	return all
}

// reading is the reading of a cache that has the graph's steps under a scope's name.
func reading(t testing.TB, g testkit.Graph, from backends.Backend, n scope.Name) backends.Reading {
	t.Helper()
	m, config, _ := g.Cache(t, string(n))
	return backends.Reading{Source: scope.Source{Name: n}, From: from, Manifest: m, Config: config}
}

// tower is a reading of a small config that is costly to import: 3,000 results on one chain
// of 5,000 layers.
func tower(t testing.TB, from backends.Backend, n scope.Name) backends.Reading {
	t.Helper()
	var config cacheconfig.CacheConfig
	var layers []ocispecs.Descriptor
	for i := range 5000 {
		blob := digest.FromString(fmt.Sprint("layer ", i))
		config.Layers = append(config.Layers, cacheconfig.CacheLayer{Blob: blob, ParentIndex: i - 1})
		layers = append(layers, ocispecs.Descriptor{MediaType: ocispecs.MediaTypeImageLayerGzip, Digest: blob, Size: 1})
	}
	for i := range 3000 {
		config.Records = append(config.Records, cacheconfig.CacheRecord{
			Digest:  testkit.RecordDigest(fmt.Sprint(i)),
			Results: []cacheconfig.CacheResult{{LayerIndex: 4999, CreatedAt: time.Unix(int64(i), 0).UTC()}},
		})
	}
	raw, err := json.Marshal(config)
	if err != nil {
		t.Fatal(err)
	}
	m, err := backends.NewManifest(raw, layers, backends.Record{})
	if err != nil {
		t.Fatal(err)
	}
	return backends.Reading{Source: scope.Source{Name: n}, From: from, Manifest: m, Config: raw}
}

// entryText is an entry with its attributes in a fixed order.
func entryText(e client.CacheOptionsEntry) string {
	text := e.Type
	for _, k := range slices.Sorted(maps.Keys(e.Attrs)) {
		text += fmt.Sprintf(" %s=%s", k, e.Attrs[k])
	}
	return text
}
