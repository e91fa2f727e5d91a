package backends_test

import (
	"net/http"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/s3"
	digest "github.com/opencontainers/go-digest"
	ocispecs "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/warmlayer/warmlayer/backends"
	"github.com/warmlayer/warmlayer/internal/cachespec"
	"github.com/warmlayer/warmlayer/internal/testkit"
)

// An old blob becomes young when a build that writes looks it up, and only then. Versity's server keeps the time of an object that is copied onto
// itself, so there the blob counts as absent, to be written again; a proxy gives the copy the time that Amazon's server gives it (Amazon S3 API,
// CopyObject: LastModified is the time of the copy).
func TestS3Touch(t *testing.T) {
	t.Parallel()
	server := testkit.StartS3(t)
	layer := ocispecs.Descriptor{Digest: digest.FromString("layer"), Size: 5}
	key := "a b+c/blobs/" + layer.Digest.String()
	touched := func(line string, write bool, size int64) bool {
		t.Helper()
		written := backend(t, cachespec.Environment{}, line).(backends.GatewayWritten)
		var scopes backends.Scopes = written.Destination()
		if !write {
			scopes = written.Scopes()
		}
		sizes, err := scopes.Stat(t.Context(), []digest.Digest{layer.Digest})
		if err != nil || sizes[layer.Digest] != size {
			t.Fatalf("sizes %v, error %v", sizes, err)
		}
		head, err := server.Client.HeadObject(t.Context(), &s3.HeadObjectInput{Bucket: &server.Bucket, Key: &key})
		if err != nil {
			t.Fatal(err)
		}
		return head.Metadata["updated-at"] != ""
	}
	line := server.Line(",prefix=a b+c")
	renews := server
	proxy := testkit.StartFaulty(t, server.Address())
	proxy.Break(func(r *http.Request) bool { return r.Header.Get("X-Amz-Copy-Source") != "" }, testkit.Changes(func(answer []byte) []byte {
		now := "<LastModified>" + time.Now().Add(time.Minute).UTC().Format(time.RFC3339) + "</LastModified>"
		return lastModified.ReplaceAll(answer, []byte(now))
	}))
	renews.Endpoint = "http://" + proxy.Host
	if err := objects(t, line).Put(t.Context(), layer, strings.NewReader("layer")); err != nil {
		t.Fatal(err)
	}
	if touched(line, true, 5) {
		t.Error("a young blob was touched")
	}
	if touched(line+",touch_refresh=0s", false, 5) {
		t.Error("a reader touched a blob")
	}
	if !touched(line+",touch_refresh=0s", true, 0) {
		t.Error("an old blob was not touched")
	}
	if !touched(renews.Line(",prefix=a b+c,touch_refresh=0s"), true, 5) {
		t.Error("an old blob was not touched")
	}
	if got := read(t, objects(t, line), layer.Digest, 0); got != "layer" {
		t.Errorf("a touched blob is %q", got)
	}
}

var lastModified = regexp.MustCompile("<LastModified>[^<]*</LastModified>")

// One slot for uploads is enough for a blob with several parts.
func TestS3UploadsOneByOne(t *testing.T) {
	t.Parallel()
	store := objects(t, testkit.StartS3(t).Line(",upload_parallelism=1"))
	content := strings.Repeat("twelve bytes", 1<<20)
	desc := ocispecs.Descriptor{Digest: digest.FromString(content), Size: int64(len(content))}
	if err := store.Put(t.Context(), desc, strings.NewReader(content)); err != nil {
		t.Fatal(err)
	}
	if read(t, store, desc.Digest, 0) != content {
		t.Error("it was read back differently")
	}
}
