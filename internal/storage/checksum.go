package storage

import (
	"crypto/md5" //nolint:gosec // see Checksums
	"encoding/base64"
	"fmt"
	"io"
	"net/http"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
)

// Checksums is a policy of a client of Azure's storage: each request states the MD5 of its content,
// with which the storage compares what it receives, whole blobs and blocks alike (REST reference, "Put
// Blob", "Put Block"). The SDK does so only for what is sent as one piece. It belongs to the policies
// per call, which precede the signature. Digests protect what is read; this one refuses at once what
// the next reader would find damaged.
type Checksums struct{}

// Do implements [policy.Policy].
func (Checksums) Do(r *policy.Request) (*http.Response, error) {
	body := r.Body()
	if body == nil {
		return r.Next()
	}
	sum := md5.New() //nolint:gosec // the service knows no stronger one
	_, err := io.Copy(sum, body)
	if err == nil {
		err = r.RewindBody()
	}
	if err != nil {
		return nil, fmt.Errorf("compute the checksum of the request: %w", err)
	}
	// The SDK signs the header under this name, which Set would spell "Content-Md5" (azblob v1.5.0,
	// internal/exported/shared_key_credential.go, getHeader).
	r.Raw().Header["Content-MD5"] = []string{base64.StdEncoding.EncodeToString(sum.Sum(nil))}
	return r.Next()
}
