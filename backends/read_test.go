package backends_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	cacheconfig "github.com/moby/buildkit/cache/remotecache/v1/types"
	digest "github.com/opencontainers/go-digest"

	"github.com/warmlayer/warmlayer/backends"
	"github.com/warmlayer/warmlayer/scope"
)

// readCache is a cache that is only read.
type readCache struct {
	backends.Backend
	name   string
	scopes backends.Scopes
}

func (k readCache) String() string          { return k.name }
func (k readCache) Scopes() backends.Scopes { return k.scopes }

// shelf is a store in memory.
type shelf struct {
	backends.Scopes
	scopes map[scope.Name]backends.Manifest
	blobs  map[digest.Digest][]byte
}

func (s shelf) Manifest(_ context.Context, n scope.Name) (backends.Manifest, error) {
	m, ok := s.scopes[n]
	if !ok {
		return m, fmt.Errorf("look for %s: %w", n, backends.ErrAbsent)
	}
	return m, nil
}

func (s shelf) Stat(_ context.Context, digests []digest.Digest) (map[digest.Digest]int64, error) {
	sizes := map[digest.Digest]int64{}
	for _, d := range digests {
		if blob, ok := s.blobs[d]; ok {
			sizes[d] = int64(len(blob))
		}
	}
	return sizes, nil
}

func (s shelf) Open(_ context.Context, d digest.Digest, offset int64) (io.ReadCloser, error) {
	blob, ok := s.blobs[d]
	if !ok {
		return nil, backends.ErrAbsent
	}
	return io.NopCloser(bytes.NewReader(blob[offset:])), nil
}

// shelved is a cache under the name b-main.
func shelved(c cache) shelf {
	return shelf{scopes: map[scope.Name]backends.Manifest{"b-main": c.Manifest}, blobs: c.blobs}
}

// silent is a store that never answers.
type silent struct{ shelf }

func (silent) Manifest(ctx context.Context, _ scope.Name) (backends.Manifest, error) {
	<-ctx.Done()
	return backends.Manifest{}, ctx.Err()
}

// mute is a store that has a scope, and never answers which blobs it has.
type mute struct{ shelf }

func (mute) Stat(ctx context.Context, _ []digest.Digest) (map[digest.Digest]int64, error) {
	<-ctx.Done()
	return nil, ctx.Err()
}

var readMain = scope.Plan{Read: []scope.Source{{Name: "b-main", Why: "default branch"}}}

func TestReadOrder(t *testing.T) {
	t.Parallel()
	c := newCache(t, imageManifest, "one")
	plan := scope.Plan{Read: []scope.Source{{Name: "b-feature", Why: "own branch"}, readMain.Read[0]}}
	var got strings.Builder
	for _, s := range verified(t.Context(), []backends.Backend{readCache{name: "near", scopes: shelved(c)}, readCache{name: "far", scopes: shelf{}}}, plan, time.Minute) {
		fmt.Fprintf(&got, "%s %s (%s): %s %v, %d layers, %d bytes\n", s.From, s.Name, s.Why, outcome(s), errors.Is(s.Err, backends.ErrAbsent), len(s.Manifest.Layers), len(s.Config))
	}
	want := fmt.Sprintf(`near b-feature (own branch): absent true, 0 layers, 0 bytes
far b-feature (own branch): absent true, 0 layers, 0 bytes
near b-main (default branch): loaded false, 1 layers, %d bytes
far b-main (default branch): absent true, 0 layers, 0 bytes
`, c.Config.Size)
	if got.String() != want {
		t.Errorf("got\n%swant\n%s", got.String(), want)
	}
}

func TestReadTimeout(t *testing.T) {
	t.Parallel()
	c := newCache(t, imageManifest, "one")
	caches := []backends.Backend{
		readCache{name: "silent", scopes: silent{}},
		readCache{name: "good", scopes: shelved(c)},
		readCache{name: "mute", scopes: mute{shelved(c)}},
	}
	sources := verified(t.Context(), caches, readMain, 50*time.Millisecond)
	for i, want := range []string{failed, loaded, failed} {
		if s := sources[i]; outcome(s) != want || outcome(s) == failed && s.Err.Error() != "no answer within 50ms (probe-timeout)" {
			t.Errorf("%s is %s: %v", s.From, outcome(s), s.Err)
		}
	}
	if s := sources[0]; s.Config != nil || s.Manifest.Raw != nil {
		t.Error("a reading that failed has content")
	}
}

func TestReadCancelled(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancelCause(t.Context())
	cause := errors.New("stopped by the user")
	cancel(cause)
	s := verified(ctx, []backends.Backend{readCache{scopes: silent{}}}, readMain, time.Minute)[0]
	if outcome(s) != failed || !errors.Is(s.Err, cause) {
		t.Errorf("%s: %v", outcome(s), s.Err)
	}
}

func TestReadFaults(t *testing.T) {
	t.Parallel()
	one := digest.FromString("one")
	for _, test := range []struct {
		name   string
		damage func(c *cache)
		want   string
	}{
		{"a blob is gone", func(c *cache) { delete(c.blobs, one) }, "1 of 3 blobs are gone, the first " + one.String()},
		{"a blob is cut off", func(c *cache) { c.blobs[one] = []byte("on") }, "1 of 3 blobs are gone, the first " + one.String()},
		{"the config is damaged", func(c *cache) { c.blobs[c.Config.Digest][0]++ }, "is damaged"},
		{"the config is gone", func(c *cache) { delete(c.blobs, c.Config.Digest) }, ""},
		{"the config is too large", func(c *cache) {
			c.Config = c.add(cacheconfig.CacheConfigMediaTypeV0, bytes.Repeat([]byte(" "), 1<<20+1))
		}, "has 1048577 bytes, and at most 1048576 are imported"},
		{"an image without a cache", func(c *cache) { c.Config.Digest = "" }, "the manifest is not a cache"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			c := newCache(t, imageManifest, "one", "two")
			test.damage(&c)
			s := verified(t.Context(), []backends.Backend{readCache{scopes: shelved(c)}}, readMain, time.Minute)[0]
			if outcome(s) != failed || s.Err == nil || errors.Is(s.Err, backends.ErrAbsent) || !strings.Contains(s.Err.Error(), test.want) {
				t.Errorf("%s: %v", outcome(s), s.Err)
			}
		})
	}
}

// counting is a shelf that counts the blobs that are opened.
type counting struct {
	shelf
	opened *atomic.Int32
}

func (c counting) Open(ctx context.Context, d digest.Digest, offset int64) (io.ReadCloser, error) {
	c.opened.Add(1)
	return c.shelf.Open(ctx, d, offset)
}

// Scopes of one cache with the same config share one request for it. Each cache has its own.
func TestReadSharesConfigs(t *testing.T) {
	t.Parallel()
	near, far := counting{shelved(newCache(t, imageManifest, "one")), &atomic.Int32{}}, counting{shelved(newCache(t, imageManifest, "one")), &atomic.Int32{}}
	near.scopes["b-feature"] = near.scopes["b-main"]
	plan := scope.Plan{Read: []scope.Source{{Name: "b-feature"}, readMain.Read[0]}}
	for _, s := range verified(t.Context(), []backends.Backend{readCache{name: "near", scopes: near}, readCache{name: "far", scopes: far}}, plan, time.Minute) {
		if absent := s.From.String() == "far" && s.Name == "b-feature"; !absent && (s.Err != nil || len(s.Config) == 0) {
			t.Errorf("%s %s: %v, %d bytes", s.From, s.Name, s.Err, len(s.Config))
		}
	}
	if n, m := near.opened.Load(), far.opened.Load(); n != 1 || m != 1 {
		t.Errorf("%d and %d blobs were opened, want one of each cache", n, m)
	}
}

// A config of the largest size that BuildKit imports is imported.
func TestReadLargeConfig(t *testing.T) {
	t.Parallel()
	c := newCache(t, imageManifest, "one")
	c.Config = c.add(cacheconfig.CacheConfigMediaTypeV0, bytes.Repeat([]byte(" "), 1<<20))
	s := verified(t.Context(), []backends.Backend{readCache{scopes: shelved(c)}}, readMain, time.Minute)[0]
	if outcome(s) != loaded || len(s.Config) != 1<<20 {
		t.Errorf("%s: %v, config of %d bytes", outcome(s), s.Err, len(s.Config))
	}
}
