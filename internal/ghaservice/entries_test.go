package ghaservice_test

import (
	"io"
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"

	"github.com/warmlayer/warmlayer/internal/cachespec"
	"github.com/warmlayer/warmlayer/internal/ghaservice"
	"github.com/warmlayer/warmlayer/internal/storage"
)

// TestDownloadRepeats: a storage that is busy, or fails once, is asked again.
func TestDownloadRepeats(t *testing.T) {
	t.Parallel()
	for _, status := range []int{http.StatusTooManyRequests, http.StatusInternalServerError} {
		t.Run(http.StatusText(status), func(t *testing.T) {
			t.Parallel()
			var asked atomic.Int32
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if r.UserAgent() != storage.UserAgent {
					t.Errorf("User-Agent: %s", r.UserAgent())
				}
				if asked.Add(1) == 1 {
					w.WriteHeader(status)
					return
				}
				_, _ = io.WriteString(w, "content")
			}))
			t.Cleanup(server.Close)
			entries := &ghaservice.Entries{Client: ghaservice.New(&cachespec.GHA{})}
			body, err := entries.Download(t.Context(), server.URL, 0)
			if err != nil {
				t.Fatal(err)
			}
			defer body.Close()
			if got, err := io.ReadAll(body); string(got) != "content" || err != nil {
				t.Errorf("%q, %v", got, err)
			}
		})
	}
}
