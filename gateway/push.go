package gateway

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strconv"
	"sync"

	digest "github.com/opencontainers/go-digest"
	ocispecs "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/warmlayer/warmlayer/backends"
	"github.com/warmlayer/warmlayer/scope"
)

// destination takes one export for several stores. A store that fails is left
// out from then on, and the others go on.
type destination struct {
	stores []backends.Store
	lost   func(digest.Digest) bool // a store may have such a blob, and it is no good

	mu       sync.Mutex
	failed   []error // for each store, why it was left out
	asked    map[digest.Digest]answer
	manifest *backends.Manifest // what BuildKit sent, not yet in any store
}

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

// answer is what the stores said of a blob.
type answer struct {
	there   bool  // a store has it
	size    int64 // there; may be [backends.UnknownSize]
	lacking []int // the indexes of the stores to send it to
}

// lacking asks which stores are to be sent a blob. An upload follows upon BuildKit's own
// question, so that the answer to that serves for both.
func (d *destination) lacking(ctx context.Context, blob digest.Digest) []int {
	d.mu.Lock()
	a, ok := d.asked[blob]
	delete(d.asked, blob)
	d.mu.Unlock()
	if !ok {
		a = d.ask(ctx, blob)
	}
	return slices.DeleteFunc(a.lacking, func(i int) bool { return d.why(i) != nil })
}

// ask asks all stores at once, and leaves out from then on those that fail.
func (d *destination) ask(ctx context.Context, blob digest.Digest) answer {
	sizes := make([]map[digest.Digest]int64, len(d.stores))
	var wg sync.WaitGroup
	for i, store := range d.stores {
		if d.why(i) != nil {
			continue
		}
		wg.Go(func() {
			var err error
			if sizes[i], err = store.Stat(ctx, []digest.Digest{blob}); err != nil {
				d.drop(i, err)
			}
		})
	}
	wg.Wait()
	a := answer{size: backends.UnknownSize}
	for i := range d.stores {
		size, ok := sizes[i][blob]
		switch {
		case d.why(i) != nil:
		case !ok || d.lost(blob):
			a.lacking = append(a.lacking, i)
		default:
			a.there, a.size = true, max(a.size, size)
		}
	}
	return a
}

func (d *destination) remember(blob digest.Digest, a answer) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.asked == nil {
		d.asked = map[digest.Digest]answer{}
	}
	d.asked[blob] = a
}

func (d *destination) why(i int) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.failed[i]
}

func (d *destination) drop(i int, err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.failed[i] = err
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

// put streams one body into several stores. It fails when the body is not what it
// should be, which is no store's fault, and when no store is left.
func (d *destination) put(ctx context.Context, desc ocispecs.Descriptor, body io.Reader) error {
	lacking := d.lacking(ctx, desc.Digest)
	pipes := make([]*io.PipeWriter, len(lacking))
	outcome := make([]error, len(lacking))
	var wg sync.WaitGroup
	for n, i := range lacking {
		reader, writer := io.Pipe()
		pipes[n] = writer
		wg.Go(func() {
			outcome[n] = d.stores[i].Put(ctx, desc, reader)
			// A store that has failed, or has enough, must not hold up the others.
			_, _ = io.Copy(io.Discard, reader)
		})
	}
	err := fanOut(pipes, desc.Digest, body)
	wg.Wait()
	if err != nil {
		return fmt.Errorf("receive blob %s: %w", desc.Digest, err)
	}
	for n, i := range lacking {
		if outcome[n] != nil {
			d.drop(i, outcome[n])
		}
	}
	return d.allFailed()
}

// fanOut writes the body to every pipe, and ends each with an error unless the
// content was the digest's.
func fanOut(pipes []*io.PipeWriter, d digest.Digest, body io.Reader) error {
	verifier := d.Verifier()
	writers := []io.Writer{verifier}
	for _, p := range pipes {
		writers = append(writers, p)
	}
	_, err := io.Copy(io.MultiWriter(writers...), body)
	if err == nil && !verifier.Verified() {
		err = errors.New("content does not match the digest")
	}
	for _, p := range pipes {
		_ = p.CloseWithError(err) // never fails; a nil error is io.EOF
	}
	return err
}

// allFailed is the reason of each store, when none is left.
func (d *destination) allFailed() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, err := range d.failed {
		if err == nil {
			return nil
		}
	}
	return errors.Join(d.failed...)
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

// commit makes the received manifest the scope's cache in every store, each with
// its own outcome.
func (d *destination) commit(ctx context.Context, n scope.Name, records []backends.Record) []error {
	outcome := make([]error, len(d.stores))
	d.mu.Lock()
	copy(outcome, d.failed)
	manifest := d.manifest
	d.mu.Unlock()
	var wg sync.WaitGroup
	for i, store := range d.stores {
		if outcome[i] != nil {
			continue
		}
		wg.Go(func() { outcome[i] = commitTo(ctx, store, n, manifest, records[i]) })
	}
	wg.Wait()
	return outcome
}

func commitTo(ctx context.Context, store backends.Store, n scope.Name, m *backends.Manifest, r backends.Record) error {
	if m == nil {
		return errors.New("no manifest was received")
	}
	annotated, err := m.WithRecord(r)
	if err != nil {
		return err
	}
	return store.PutManifest(ctx, n, annotated)
}
