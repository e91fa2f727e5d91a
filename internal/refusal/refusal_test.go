package refusal_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/warmlayer/warmlayer/internal/refusal"
)

// Texts of BuildKit v0.34.2 and go-containerregistry as they came from stand-ins of the products.
func TestExplain(t *testing.T) {
	t.Parallel()
	const layer, manifest = "failed to solve: error writing layer blob: ", "failed to solve: error writing manifest blob: "
	for _, tt := range []struct{ text, cause, cure string }{
		{manifest + "unknown: The image tag 'cache-b-main' already exists in the 'cache' repository and cannot be overwritten because the tag is immutable.", "immutable", "exempt"},
		{"write the scope's cache: write h/cache:cache-b-main: PUT http://h/v2/cache/manifests/cache-b-main: PRECONDITION: Failed to process request due to 'cache:cache-b-main' configured as immutable.", "immutable", "exempt"},
		{layer + "unknown: The repository with name 'cache' does not exist in the registry with id '123456789012'", "no such repository", "create"},
		{layer + "unknown: blob upload invalid", "lost an upload", "another store"},
		{manifest + "unknown: Failed to parse manifest for request: Image index child manifest not supported", "this form", "image-manifest"},
		{manifest + "unknown: artifact cache@sha256:00 not found", "this form", "image-manifest"},
		{manifest + "unexpected status from PUT request to http://h/v2/cache/manifests/cache-b-main: 400 Bad Request", "this form", "image-manifest"},
		{manifest + "denied: Quota has been exceeded on namespace", "full", "quota"},
		{layer + "denied: The client does not have permission to push to the repository.", "permit", "registry-auth"},
		{"read h/cache:x: GET http://h/v2/cache/manifests/x: UNAUTHORIZED: access to the requested resource is not authorized", "credentials", "registry-auth"},
		{layer + "unexpected status from HEAD request to http://h/v2/cache/blobs/sha256:18508b75: 401 Unauthorized", "credentials", "registry-auth"},
		{"GET http://h/v2/cache/manifests/x: TOOMANYREQUESTS: rate limit exceeded", "limits requests", "registry-auth"},
		{layer + "unexpected status from HEAD request to http://h/v2/cache/blobs/sha256:453e53cc: 429 Too Many Requests", "limits requests", "registry-auth"},
		{layer + "unexpected status from PUT request to http://h/v2/cache/blobs/uploads/1?digest=sha256:07: 413 Request Entity Too Large", "size of requests", "client_max_body_size"},
		{`Get "https://h/v2/": tls: failed to verify certificate: x509: certificate signed by unknown authority; GET http://h/v2/: unexpected status code 400`, "authority", "ca-certificates"},
		{`failed to do request: Head "https://h/v2/": http: server gave HTTP response to HTTPS client`, "plain HTTP", "registry.insecure"},
		{"write blob: open /cache/ingest/1: permission denied", "file system", "user"},
		{"failed to receive status: rpc error: code = NotFound desc = no such job zrgg5a6ifz4kzl15emzw1vaki", "did not begin in time", "address"},
		{"error writing layer blob: denied: write blob: write /cache/ingest/1: no space left on device", "the disk is full", "free space"},
		{"read s3://cache/manifests/b-main: AccessDenied: Access Denied", "list the bucket", "s3:ListBucket"},
		{"read s3://cache/manifests/b-main: RequestTimeTooSkewed: The difference between", "clock", "clock"},
		{"read https://account.blob.core.windows.net/c/manifests/b-main: AuthenticationFailed", "does not accept", "of this account"},
		{"read https://account.blob.core.windows.net/c/manifests/b-main: NoAuthenticationInformation", "does not accept", "of this account"},
		{"write https://account.blob.core.windows.net/c/manifests/b-main: AuthorizationFailure", "does not permit", "network"},
		{"read https://account.blob.core.windows.net/c/manifests/b-main: AuthorizationPermissionMismatch", "role", "Storage Blob Data"},
		{"not done within 10m (cache-timeout)", "", ""},
		{manifest + `failed commit on ref "sha256:07": failed to do request: Put "http://h/v2/cache/manifests/x": write tcp 127.0.0.1:1->127.0.0.1:2: write: connection reset by peer`, "", ""},
		{layer + "unexpected status from PUT request to http://h/v2/cache/blobs/uploads/401403: 500 Internal Server Error", "", ""},
		{"read s3://cache/manifests/b-main: no answer within 5s (probe-timeout)", "", ""},
	} {
		before := errors.New(tt.text)
		got := refusal.Explain(before)
		text := strings.TrimSuffix(got.Error(), tt.text)
		if !errors.Is(got, before) || !strings.Contains(text, tt.cause) || !strings.Contains(text, tt.cure) || (text == "") != (tt.cause == "") {
			t.Errorf("%s\nis explained by %q", tt.text, text)
		}
		// The report cuts texts off, and what to do has to be before that.
		if len(text) > 200 {
			t.Errorf("%q has %d bytes", text, len(text))
		}
	}
	if refusal.Explain(nil) != nil {
		t.Error("nil is explained")
	}
}
