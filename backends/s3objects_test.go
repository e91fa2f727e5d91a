package backends_test

import (
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/service/s3"
	digest "github.com/opencontainers/go-digest"
	ocispecs "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/warmlayer/warmlayer/backends"
	"github.com/warmlayer/warmlayer/internal/cachespec"
	"github.com/warmlayer/warmlayer/internal/testkit"
)

// An old blob becomes young when a build that writes looks it up, and only then.
func TestS3Touch(t *testing.T) {
	t.Parallel()
	server := testkit.StartS3(t)
	layer := ocispecs.Descriptor{Digest: digest.FromString("layer"), Size: 5}
	key := "a b+c/blobs/" + layer.Digest.String()
	touched := func(line string, write bool) bool {
		t.Helper()
		written := backend(t, cachespec.Environment{}, line).(backends.GatewayWritten)
		var scopes backends.Scopes = written.Destination()
		if !write {
			scopes = written.Scopes()
		}
		sizes, err := scopes.Stat(t.Context(), []digest.Digest{layer.Digest})
		if err != nil || sizes[layer.Digest] != 5 {
			t.Fatalf("sizes %v, error %v", sizes, err)
		}
		head, err := server.Client.HeadObject(t.Context(), &s3.HeadObjectInput{Bucket: &server.Bucket, Key: &key})
		if err != nil {
			t.Fatal(err)
		}
		return head.Metadata["updated-at"] != ""
	}
	line := server.Line(",prefix=a b+c")
	if err := objects(t, line).Put(t.Context(), layer, strings.NewReader("layer")); err != nil {
		t.Fatal(err)
	}
	if touched(line, true) {
		t.Error("a young blob was touched")
	}
	if touched(line+",touch_refresh=0s", false) {
		t.Error("a reader touched a blob")
	}
	if !touched(line+",touch_refresh=0s", true) {
		t.Error("an old blob was not touched")
	}
	if got := read(t, objects(t, line), layer.Digest, 0); got != "layer" {
		t.Errorf("a touched blob is %q", got)
	}
}

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
