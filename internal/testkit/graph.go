package testkit

import (
	"encoding/json"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	cacheconfig "github.com/moby/buildkit/cache/remotecache/v1/types"
	digest "github.com/opencontainers/go-digest"
	ocispecs "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/warmlayer/warmlayer/backends"
)

// Graph is the steps of a build with the inputs of each step: for each input the alternative steps,
// which stand for the same content.
type Graph map[string][][]string

// NewGraph parses lines "step: input input". An input is one step, or several alternatives: "a|b".
func NewGraph(lines ...string) Graph {
	g := Graph{}
	for _, line := range lines {
		step, inputs, _ := strings.Cut(line, ":")
		g[step] = nil
		for _, input := range strings.Fields(inputs) {
			g[step] = append(g[step], strings.Split(input, "|"))
		}
	}
	return g
}

// StepDigest is the digest of a step of a [Graph] in BuildKit.
func StepDigest(name string) digest.Digest { return digest.FromString("step " + name) }

// RecordDigest is the digest of a step's record in a cache config: BuildKit's name for the first
// output of the step (v0.34.2, cache/remotecache/v1/utils.go, outputKey).
func RecordDigest(name string) digest.Digest {
	return digest.FromString(StepDigest(name).String() + "@0")
}

// graphTime is the time of creation of all layers of graphs.
var graphTime = time.Date(2026, 2, 3, 4, 5, 6, 0, time.UTC)

// Cache is a cache of the graph's steps, as a manifest and a config in JSON. Each step has a layer
// with the content "<step> by <maker>". The blobs are those of the layers and of the config.
func (g Graph) Cache(t testing.TB, maker string) (m backends.Manifest, config []byte, blobs map[digest.Digest][]byte) {
	t.Helper()
	blobs = map[digest.Digest][]byte{}
	var doc cacheconfig.CacheConfig
	var layers []ocispecs.Descriptor
	steps := slices.Sorted(maps.Keys(g))
	for i, name := range steps {
		content := name + " by " + maker
		layer := ocispecs.Descriptor{MediaType: ocispecs.MediaTypeImageLayerGzip, Digest: digest.FromString(content), Size: int64(len(content))}
		layers, blobs[layer.Digest] = append(layers, layer), []byte(content)
		doc.Layers = append(doc.Layers, cacheconfig.CacheLayer{Blob: layer.Digest, ParentIndex: -1})
		record := cacheconfig.CacheRecord{
			Digest:  RecordDigest(name),
			Results: []cacheconfig.CacheResult{{LayerIndex: i, CreatedAt: graphTime}},
		}
		for _, alternatives := range g[name] {
			var input []cacheconfig.CacheInput
			for _, a := range alternatives {
				input = append(input, cacheconfig.CacheInput{LinkIndex: slices.Index(steps, a)})
			}
			record.Inputs = append(record.Inputs, input)
		}
		doc.Records = append(doc.Records, record)
	}
	config, err := json.Marshal(doc)
	if err != nil {
		t.Fatal(err)
	}
	if m, err = backends.NewManifest(config, layers, backends.Record{}); err != nil {
		t.Fatal(err)
	}
	blobs[m.Config.Digest] = config
	return m, config, blobs
}
