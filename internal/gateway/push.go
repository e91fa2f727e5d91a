package gateway

import (
	"crypto/rand"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"

	cacheconfig "github.com/moby/buildkit/cache/remotecache/v1/types"
	digest "github.com/opencontainers/go-digest"
	ocispecs "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/warmlayer/warmlayer/backends"
)

func (g *Gateway) destination(r *http.Request) *destination {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.destinations[r.PathValue("repo")]
}

// head answers whether every store that still takes part has the blob.
func (d *destination) head(w http.ResponseWriter, r *http.Request, blob digest.Digest) {
	if r.Method != http.MethodHead {
		refuse(w, http.StatusNotFound, "BLOB_UNKNOWN", "exports are not read back")
		return
	}
	if strings.HasPrefix(r.Header.Get("Accept"), cacheconfig.CacheConfigMediaTypeV0) {
		// A cache's config is a new one each time.
		refuse(w, http.StatusNotFound, "BLOB_UNKNOWN", "configs are always taken")
		return
	}
	a := d.ask(r.Context(), blob)
	if len(a.lacking) > 0 || !a.there {
		d.remember(blob, a)
		refuse(w, http.StatusNotFound, "BLOB_UNKNOWN", "not in every store")
		return
	}
	if a.size != backends.UnknownSize {
		w.Header().Set("Content-Length", strconv.FormatInt(a.size, 10))
	}
	w.Header().Set("Docker-Content-Digest", blob.String())
}

// startUpload opens an upload, or says that none is needed: a mount from another
// repository succeeds when the stores have the blob (distribution-spec v1.1,
// "Mounting a blob from another repository").
func (g *Gateway) startUpload(w http.ResponseWriter, r *http.Request) {
	repo, d := r.PathValue("repo"), g.destination(r)
	if d == nil {
		refuse(w, http.StatusForbidden, "DENIED", "this repository is only read")
		return
	}
	if mount, err := digest.Parse(r.URL.Query().Get("mount")); err == nil {
		if a := d.ask(r.Context(), mount); a.there && len(a.lacking) == 0 {
			created(w, fmt.Sprintf("/v2/%s/blobs/%s", repo, mount), mount)
			return
		}
	}
	if err := d.allFailed(); err != nil {
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

// putBlob takes a whole blob and sends it on to the stores that lack it.
func (g *Gateway) putBlob(w http.ResponseWriter, r *http.Request) {
	repo, d := r.PathValue("repo"), g.destination(r)
	blob, err := digest.Parse(r.URL.Query().Get("digest"))
	if d == nil || err != nil || r.ContentLength < 0 {
		refuse(w, http.StatusBadRequest, "BLOB_UPLOAD_INVALID", "a digest and a length are wanted")
		return
	}
	desc := ocispecs.Descriptor{MediaType: "application/octet-stream", Digest: blob, Size: r.ContentLength}
	if err := d.put(r.Context(), desc, r.Body); err != nil && d.allFailed() != nil {
		noStoreLeft(w, err)
		return
	} else if err != nil {
		fail(w, r, err)
		return
	}
	created(w, fmt.Sprintf("/v2/%s/blobs/%s", repo, blob), blob)
}

// noStoreLeft ends an export. The status is not one of the 500s, upon which BuildKit
// would try for seconds more (v0.33.1, util/resolver/retryhandler): a store that was
// left out stays out, and has tried again by itself.
func noStoreLeft(w http.ResponseWriter, err error) {
	refuse(w, http.StatusFailedDependency, "DENIED", err.Error())
}

// maxManifest bounds what a manifest may hold in memory; registries commonly take 4 MiB.
const maxManifest = 16 << 20

// putManifest keeps what BuildKit sends until it is committed.
func (g *Gateway) putManifest(w http.ResponseWriter, r *http.Request) {
	d := g.destination(r)
	if d == nil {
		refuse(w, http.StatusForbidden, "DENIED", "this repository is only read")
		return
	}
	raw, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxManifest))
	if err != nil {
		refuse(w, http.StatusBadRequest, "MANIFEST_INVALID", err.Error())
		return
	}
	m, err := backends.ParseManifest(raw, r.Header.Get("Content-Type"))
	if err != nil {
		refuse(w, http.StatusBadRequest, "MANIFEST_INVALID", err.Error())
		return
	}
	d.mu.Lock()
	d.manifest = &m
	d.mu.Unlock()
	created(w, r.URL.Path, m.Descriptor().Digest)
}
