package main

// knownChains remembers which ref a chain of layers has. BuildKit's cache exporter asks for the ref of each cached
// result, and so for all chains of an image's layers. v0.34.2 makes each of them from its first layer again, and looks for
// each layer at all layers below it: work that grows with the third power of their number.
var knownChains = change{
	module: buildkit,
	file:   "worker/base/worker.go",
	edits: []edit{
		{`	HTTPSource      *http.Source
	platformsMu     sync.Mutex
}
`, `	HTTPSource      *http.Source
	platformsMu     sync.Mutex
	known           chains
}

// chains are the ids of refs by the layers that they consist of. It is a change by the warmlayer project.
type chains struct {
	mu  sync.Mutex
	ids map[digest.Digest]string
}

// maxChains bounds the memory of a builder that is kept.
const maxChains = 20000

// chainKeys are the names of the chains that layers make, the first one's first.
func chainKeys(layers []ocispecs.Descriptor) []digest.Digest {
	keys := make([]digest.Digest, len(layers))
	parent := ""
	for i, l := range layers {
		keys[i] = digest.FromString(fmt.Sprintf("%s %s %s %s", parent, l.Digest, l.Annotations["containerd.io/uncompressed"], l.Annotations[estargz.TOCJSONDigestAnnotation]))
		parent = keys[i].String()
	}
	return keys
}

func (c *chains) remember(key digest.Digest, id string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.ids == nil || len(c.ids) >= maxChains {
		c.ids = map[digest.Digest]string{}
	}
	c.ids[key] = id
}

// longest is the ref of the longest chain that is known and still there, and how many layers it has.
func (c *chains) longest(ctx context.Context, from cache.Accessor, keys []digest.Digest, opts ...cache.RefOption) (cache.ImmutableRef, int) {
	for n := len(keys); n > 0; n-- {
		c.mu.Lock()
		id := c.ids[keys[n-1]]
		c.mu.Unlock()
		if id == "" {
			continue
		}
		if ref, err := from.Get(ctx, id, nil, opts...); err == nil {
			return ref, n
		}
	}
	return nil, 0
}
`},
		{`	var current cache.ImmutableRef
	for i, desc := range remote.Descriptors {
		tm := time.Now()
`, `	keys := chainKeys(remote.Descriptors)
	current, made := w.known.longest(ctx, w.CacheMgr, keys, descHandlers)
	for i, desc := range remote.Descriptors {
		if i < made {
			continue
		}
		tm := time.Now()
`},
		{`		current = ref
	}
	return current, nil
}

// ID reads`, `		current = ref
		w.known.remember(keys[i], ref.ID())
	}
	return current, nil
}

// ID reads`},
		{`	"github.com/containerd/platforms"
	"github.com/moby/buildkit/cache"
`, `	"github.com/containerd/platforms"
	"github.com/containerd/stargz-snapshotter/estargz"
	"github.com/moby/buildkit/cache"
`},
	},
}
