package backends_test

import (
	"bytes"
	"errors"
	"io"
	"math/rand/v2"
	"net/http"
	"strings"
	"testing"
	"time"

	digest "github.com/opencontainers/go-digest"
	ocispecs "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/warmlayer/warmlayer/backends"
	"github.com/warmlayer/warmlayer/internal/cachespec"
	"github.com/warmlayer/warmlayer/internal/refusal"
	"github.com/warmlayer/warmlayer/internal/storage"
	"github.com/warmlayer/warmlayer/internal/testkit"
)

// TestS3Servers: a cache is written to, and read from, servers that differ from Amazon's. Its
// blobs are sent in one request and in parts.
func TestS3Servers(t *testing.T) {
	t.Parallel()
	server := testkit.StartS3(t)
	for name, quirk := range map[string]testkit.Quirk{
		"no checksums":              testkit.WithoutChecksums,
		"no multipart":              testkit.WithoutMultipart,
		"no conditional writes":     testkit.WithoutConditions,
		"a rewritten encoding":      testkit.RewritesEncoding,
		"403 for what is missing":   testkit.HidesMissing(server.Address()),
		"a clock 20 minutes ahead":  testkit.ClockAhead(server, 20*time.Minute),
		"a clock 20 minutes behind": testkit.ClockAhead(server, -20*time.Minute),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := testkit.StartStandIn(t, server.Address(), quirk)
			line := strings.ReplaceAll(server.Line(",prefix="+strings.ReplaceAll(name, " ", "-")), server.Endpoint, "http://"+s.Host)
			store := objects(t, line)
			// BuildKit asks for a blob before it sends one.
			c := newCache(t, imageManifest, "one", "two")
			if there, err := store.Stat(t.Context(), []digest.Digest{c.Layers[0].Digest}); err != nil || len(there) != 0 {
				t.Fatalf("an empty store has %v: %v", there, err)
			}
			c.put(t, store)
			if err := store.PutManifest(t.Context(), "b-main", c.Manifest); err != nil {
				t.Fatal(err)
			}
			for range 2 { // the second time the server is known
				large := noise(20 << 20)
				desc := ocispecs.Descriptor{Digest: digest.FromBytes(large), Size: int64(len(large))}
				if err := store.Put(t.Context(), desc, bytes.NewReader(large)); err != nil {
					t.Fatal(err)
				}
				if got := read(t, store, desc.Digest, 0); got != string(large) {
					t.Errorf("%d bytes come back", len(got))
				}
				damaged := ocispecs.Descriptor{Digest: digest.FromString("other"), Size: int64(len(large))}
				if err := store.Put(t.Context(), damaged, bytes.NewReader(large)); !errors.Is(err, storage.ErrMismatch) {
					t.Errorf("a damaged blob: %v", err)
				}
				if there, err := store.Stat(t.Context(), []digest.Digest{damaged.Digest}); err != nil || len(there) != 0 {
					t.Errorf("a damaged blob is stored: %v, %v", there, err)
				}
			}
			sources := verified(t.Context(), []backends.Backend{backend(t, cachespec.Environment{}, line)}, plan("b-main"), time.Minute)
			if r := sources[0]; outcome(r) != loaded || len(r.Manifest.Layers) != 2 {
				t.Errorf("%s: %v", outcome(r), r.Err)
			}
		})
	}
}

// noise is content of a number of bytes that differs each time.
func noise(n int) []byte {
	content := make([]byte, n)
	_, _ = io.ReadFull(rand.NewChaCha8([32]byte{byte(rand.Uint32())}), content)
	return content
}

// TestS3Refusals: the words of S3 servers for what somebody has to change.
func TestS3Refusals(t *testing.T) {
	t.Parallel()
	server := testkit.StartS3(t)
	always := func(answer http.HandlerFunc) testkit.Quirk {
		return func(*http.Request) http.HandlerFunc { return answer }
	}
	for name, tt := range map[string]struct {
		quirk       testkit.Quirk
		cause, cure string
	}{
		"a clock that is not corrected": {testkit.ClockAhead(server, 20*time.Minute), "this machine's clock is wrong", "set the clock"},
		"missing, or no right to list":  {testkit.HidesMissing(server.Address()), "may not list the bucket", "s3:ListBucket"},
		"no bucket":                     {always(testkit.S3Error(404, "NoSuchBucket", "The specified bucket does not exist")), "no such bucket", "create it"},
		"another key":                   {always(testkit.S3Error(403, "InvalidAccessKeyId", "The AWS Access Key Id you provided does not exist in our records.")), "does not know the access key", "access_key_id"},
		"another secret":                {always(testkit.S3Error(403, "SignatureDoesNotMatch", "The request signature we calculated does not match")), "does not accept the signature", "secret_access_key"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := testkit.StartStandIn(t, server.Address(), tt.quirk)
			_, err := objects(t, server.At(s.Host)).Manifest(t.Context(), "b-main")
			if err = refusal.Explain(err); err == nil || errors.Is(err, backends.ErrAbsent) || !strings.Contains(err.Error(), tt.cause) || !strings.Contains(err.Error(), tt.cure) {
				t.Errorf("the error is %v", err)
			}
		})
	}
}
