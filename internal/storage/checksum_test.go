package storage_test

import (
	"bytes"
	"io"
	"net/http"
	"testing"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/runtime"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/streaming"

	"github.com/warmlayer/warmlayer/internal/storage"
)

// reads is a client of HTTP that reads what it should send, and no more.
type reads struct{}

// Do implements [policy.Transporter].
func (reads) Do(r *http.Request) (*http.Response, error) {
	_, err := io.Copy(io.Discard, r.Body)
	return &http.Response{StatusCode: http.StatusCreated, Body: http.NoBody, Request: r}, err
}

// BenchmarkChecksums sends a block of 4 MiB, with and without its checksum, without a network.
func BenchmarkChecksums(b *testing.B) {
	block := make([]byte, 4<<20)
	for name, policies := range map[string][]policy.Policy{"without": nil, "with": {storage.Checksums{}}} {
		pipeline := runtime.NewPipeline("test", "v1", runtime.PipelineOptions{PerCall: policies}, &policy.ClientOptions{Transport: reads{}})
		b.Run(name, func(b *testing.B) {
			b.SetBytes(int64(len(block)))
			for b.Loop() {
				r, err := runtime.NewRequest(b.Context(), http.MethodPut, "http://127.0.0.1/blob")
				if err == nil {
					err = r.SetBody(streaming.NopCloser(bytes.NewReader(block)), "application/octet-stream")
				}
				if err != nil {
					b.Fatal(err)
				}
				answer, err := pipeline.Do(r)
				if err != nil {
					b.Fatal(err)
				}
				answer.Body.Close()
			}
		})
	}
}
