package gateway

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"

	cacheconfig "github.com/moby/buildkit/cache/remotecache/v1/types"
	digest "github.com/opencontainers/go-digest"
	ocispecs "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/warmlayer/warmlayer/backends"
	"github.com/warmlayer/warmlayer/internal/storage"
)

// fanout is the export that is received in the request's repository; nil when there is none.
func (g *Gateway) fanout(r *http.Request) *Fanout {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.accepted[r.PathValue("repo")]
}

// head answers whether every store that has not failed has the blob.
func (f *Fanout) head(w http.ResponseWriter, r *http.Request, blob digest.Digest) {
	if r.Method != http.MethodHead {
		refuse(w, http.StatusNotFound, "BLOB_UNKNOWN", "exports are not read back")
		return
	}
	if strings.HasPrefix(r.Header.Get("Accept"), cacheconfig.CacheConfigMediaTypeV0) {
		f.expectConfig(blob) // each export has its own
		refuse(w, http.StatusNotFound, "BLOB_UNKNOWN", "configs are always taken")
		return
	}
	a := f.ask(blob)
	size, ok := f.complete(a, blob)
	if !ok {
		f.remember(blob, a)
		refuse(w, http.StatusNotFound, "BLOB_UNKNOWN", "not in every store")
		return
	}
	if size != backends.UnknownSize {
		w.Header().Set("Content-Length", strconv.FormatInt(size, 10))
	}
	w.Header().Set("Docker-Content-Digest", blob.String())
}

// startUpload opens an upload, or says that none is needed: a mount from another
// repository succeeds when the stores have the blob (distribution-spec v1.1,
// "Mounting a blob from another repository").
func (g *Gateway) startUpload(w http.ResponseWriter, r *http.Request) {
	repo, f := r.PathValue("repo"), g.fanout(r)
	if f == nil {
		refuse(w, http.StatusForbidden, "DENIED", "this repository is only read")
		return
	}
	if mount, err := digest.Parse(r.URL.Query().Get("mount")); err == nil {
		if _, ok := f.complete(f.ask(mount), mount); ok {
			created(w, fmt.Sprintf("/v2/%s/blobs/%s", repo, mount), mount)
			return
		}
	}
	if err := f.allFailed(); err != nil {
		noStoreLeft(w, err)
		return
	}
	w.Header().Set("Location", fmt.Sprintf("/v2/%s/blobs/uploads/%s", repo, rand.Text()))
	w.WriteHeader(http.StatusAccepted)
}

func created(w http.ResponseWriter, location string, d digest.Digest) {
	w.Header().Set("Location", location)
	w.Header().Set("Docker-Content-Digest", d.String())
	w.WriteHeader(http.StatusCreated)
}

// putBlob reads a whole blob and sends it to the stores that lack it.
func (g *Gateway) putBlob(w http.ResponseWriter, r *http.Request) {
	repo, f := r.PathValue("repo"), g.fanout(r)
	blob, err := digest.Parse(r.URL.Query().Get("digest"))
	if f == nil || err != nil || r.ContentLength < 0 {
		refuse(w, http.StatusBadRequest, "BLOB_UPLOAD_INVALID", "a digest and a length are wanted")
		return
	}
	desc := ocispecs.Descriptor{MediaType: "application/octet-stream", Digest: blob, Size: r.ContentLength}
	switch err := f.put(r.Context(), desc, r.Body); {
	case err == nil:
	case errors.Is(err, errTooLarge):
		refuse(w, http.StatusRequestEntityTooLarge, "SIZE_INVALID", err.Error())
		return
	case errors.Is(err, storage.ErrMismatch):
		refuse(w, http.StatusBadRequest, "DIGEST_INVALID", err.Error())
		return
	case f.allFailed() != nil:
		noStoreLeft(w, err)
		return
	default:
		fail(w, r, err)
		return
	}
	created(w, fmt.Sprintf("/v2/%s/blobs/%s", repo, blob), blob)
}

// noStoreLeft ends an export. The status is below 500, since BuildKit retries for some seconds
// after a status of 500 and above (v0.34.2, util/resolver/retryhandler): the stores have failed,
// and have done their own retries.
func noStoreLeft(w http.ResponseWriter, err error) {
	refuse(w, http.StatusFailedDependency, "UNKNOWN", err.Error())
}

// putManifest holds what BuildKit sends until it is committed.
func (g *Gateway) putManifest(w http.ResponseWriter, r *http.Request) {
	f := g.fanout(r)
	if f == nil {
		refuse(w, http.StatusForbidden, "DENIED", "this repository is only read")
		return
	}
	raw, err := io.ReadAll(http.MaxBytesReader(w, r.Body, backends.MaxManifest))
	if err != nil {
		refuse(w, http.StatusBadRequest, "MANIFEST_INVALID", err.Error())
		return
	}
	m, err := backends.ParseManifest(raw, r.Header.Get("Content-Type"))
	if err != nil {
		refuse(w, http.StatusBadRequest, "MANIFEST_INVALID", err.Error())
		return
	}
	f.mu.Lock()
	f.manifest = &m
	f.mu.Unlock()
	created(w, r.URL.Path, m.Descriptor().Digest)
}
