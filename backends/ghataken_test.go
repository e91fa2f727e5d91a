package backends_test

import (
	"bytes"
	"io"
	"slices"
	"strings"
	"testing"
	"time"

	digest "github.com/opencontainers/go-digest"
	ocispecs "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/warmlayer/warmlayer/backends"
	"github.com/warmlayer/warmlayer/internal/testkit"
)

// A blob that another build is uploading is awaited, and not sent.
func TestGHAAwaits(t *testing.T) {
	t.Parallel()
	server := testkit.StartGHA(t)
	env := server.Env(server.Token("refs/heads/main"))
	content := make([]byte, 17<<20) // more than is sent in one request
	desc := ocispecs.Descriptor{Digest: digest.FromBytes(content), Size: int64(len(content))}
	begun, end := make(chan struct{}), make(chan struct{})
	slow := io.MultiReader(bytes.NewReader(content[:1<<20]), readerFunc(func([]byte) (int, error) {
		close(begun)
		<-end
		return 0, io.EOF
	}), bytes.NewReader(content[1<<20:]))
	outcome := make(chan error, 2)
	go func() { outcome <- gha(t, env, "").Destination().Put(t.Context(), desc, slow) }()
	<-begun
	server.Requests()
	go func() { outcome <- gha(t, env, "").Destination().Put(t.Context(), desc, bytes.NewReader(content)) }()
	testkit.Until(t, "the second job to ask for the blob", func() bool {
		return slices.ContainsFunc(server.Requests(), func(r string) bool { return strings.HasPrefix(r, "GetCacheEntryDownloadURL") })
	})
	close(end)
	for range 2 {
		if err := <-outcome; err != nil {
			t.Error(err)
		}
	}
	if got := server.Entries("buildkit-blob-"); len(got) != 1 {
		t.Errorf("entries %v", got)
	}
}

// What a cancelled build has begun is written anew: a blob under a key that begins with the blob's, so
// that BuildKit finds it, and an index under the next number.
func TestGHAAbandoned(t *testing.T) {
	t.Parallel()
	server := testkit.StartGHA(t)
	env := server.Env(server.Token("refs/heads/main"))
	large := strings.Repeat("x", 17<<20) // more than is sent in one request
	c := newCache(t, imageManifest, "one", "two", large)
	cancelled := gha(t, env, "").Destination()
	c.put(t, cancelled)
	if err := cancelled.Swap(t.Context(), "b-main", "", withRecord(t, c.Manifest, "cancelled")); err != nil {
		t.Fatal(err)
	}
	server.Abandon("")
	began := time.Now()
	next := gha(t, env, "").Destination()
	c.put(t, next)
	if err := next.Swap(t.Context(), "b-main", "", withRecord(t, c.Manifest, "next")); err != nil {
		t.Fatal(err)
	}
	t.Logf("the next build took %s, and wrote %v", time.Since(began), server.Entries(""))
	for _, attrs := range []string{"", ",ghtoken=any"} {
		readCache := gha(t, env, attrs)
		if s := verified(t.Context(), []backends.Backend{readCache}, plan("b-main"), time.Minute)[0]; outcome(s) != loaded || s.Manifest.Record.Commit != "next" {
			t.Errorf("state %s, record %+v, error %v", outcome(s), s.Manifest.Record, s.Err)
		}
		for i, content := range []string{"one", "two", large} {
			if read(t, gha(t, env, attrs).Destination(), c.Layers[i].Digest, 0) != content {
				t.Errorf("layer %d is another one", i)
			}
		}
	}
	// A third build sends no blob again.
	had := len(server.Entries("buildkit-blob-"))
	c.put(t, gha(t, env, "").Destination())
	if got := server.Entries("buildkit-blob-"); len(got) != had {
		t.Errorf("%d entries became %v", had, got)
	}
}
