package gateway

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"

	digest "github.com/opencontainers/go-digest"
	ocispecs "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/warmlayer/warmlayer/backends"
	"github.com/warmlayer/warmlayer/internal/storage"
)

// cache is the cache that is offered in the request's repository; an [backends.ErrAbsent] when
// there is none. It waits until the cache is complete.
func (g *Gateway) cache(r *http.Request) (Cache, error) {
	g.mu.Lock()
	offered := g.offered[r.PathValue("repo")]
	g.mu.Unlock()
	if offered == nil {
		return Cache{}, backends.ErrAbsent
	}
	return offered(r.Context())
}

// getManifest serves GET and HEAD. A repository for exports has no manifest, so BuildKit always
// sends its own.
func (g *Gateway) getManifest(w http.ResponseWriter, r *http.Request) {
	c, err := g.cache(r)
	if errors.Is(err, backends.ErrAbsent) {
		refuse(w, http.StatusNotFound, "MANIFEST_UNKNOWN", "no such scope")
		return
	}
	if err != nil {
		fail(w, r, err)
		return
	}
	desc := c.Manifest.Descriptor()
	w.Header().Set("Content-Type", desc.MediaType)
	w.Header().Set("Content-Length", strconv.FormatInt(desc.Size, 10))
	w.Header().Set("Docker-Content-Digest", desc.Digest.String())
	_, _ = w.Write(c.Manifest.Raw) // an error means that the client has disconnected
}

func sendConfig(w http.ResponseWriter, config []byte) {
	w.Header().Set("Content-Length", strconv.Itoa(len(config)))
	_, _ = w.Write(config)
}

// getBlob serves GET and HEAD, for a cache that is offered and for an export.
func (g *Gateway) getBlob(w http.ResponseWriter, r *http.Request) {
	d, err := digest.Parse(r.PathValue("digest"))
	if err != nil {
		refuse(w, http.StatusBadRequest, "DIGEST_INVALID", "not a digest")
		return
	}
	if f := g.fanout(r); f != nil {
		f.head(w, r, d)
		return
	}
	c, err := g.cache(r)
	if errors.Is(err, backends.ErrAbsent) {
		refuse(w, http.StatusNotFound, "NAME_UNKNOWN", "no such repository")
		return
	}
	if err != nil {
		fail(w, r, err)
		return
	}
	if d == c.Manifest.Config.Digest {
		sendConfig(w, c.Config)
		return
	}
	b, ok := c.Blobs[d]
	if !ok {
		refuse(w, http.StatusNotFound, "BLOB_UNKNOWN", "no scope names this blob")
		return
	}
	if g.isLost(d) {
		// A client that continues where a damaged copy was interrupted would get the rest of it.
		refuse(w, http.StatusNotFound, "BLOB_UNKNOWN", "the store's copy is lost")
		return
	}
	g.sendBlob(w, r, b.Store, ocispecs.Descriptor{Digest: d, Size: b.Size})
}

// sendBlob streams a blob from an offset. A blob that is damaged or missing is recorded as lost.
// The connection of a transfer that has begun is then closed, since BuildKit treats a short answer
// as a slow one and asks again.
func (g *Gateway) sendBlob(w http.ResponseWriter, r *http.Request, store backends.Scopes, desc ocispecs.Descriptor) {
	offset, length, err := parseRange(r.Header.Get("Range"), desc.Size)
	if err != nil {
		refuse(w, http.StatusRequestedRangeNotSatisfiable, "SIZE_INVALID", err.Error())
		return
	}
	w.Header().Set("Content-Type", "application/octet-stream")
	w.Header().Set("Docker-Content-Digest", desc.Digest.String())
	w.Header().Set("Accept-Ranges", "bytes")
	w.Header().Set("Content-Length", strconv.FormatInt(length, 10))
	status := http.StatusOK
	if length != desc.Size {
		w.Header().Set("Content-Range", fmt.Sprintf("bytes %d-%d/%d", offset, offset+length-1, desc.Size))
		status = http.StatusPartialContent
	}
	if r.Method == http.MethodHead {
		w.WriteHeader(status)
		return
	}
	content, err := open(r.Context(), store, desc, offset)
	if err != nil {
		g.lose(r.Context(), desc.Digest, err)
		w.Header().Del("Content-Length")
		w.Header().Del("Content-Range")
		fail(w, r, err)
		return
	}
	defer content.Close()
	w.WriteHeader(status)
	if err := copyBlob(w, content, desc, length); errors.Is(err, ErrDamaged) {
		g.lose(r.Context(), desc.Digest, err)
		panic(http.ErrAbortHandler)
	}
}

// ErrDamaged says that the content of a store's copy is wrong or truncated.
var ErrDamaged = errors.New("the store's copy is damaged or cut off")

// copyBlob copies length bytes, and verifies them when they are the whole blob. The error is an
// ErrDamaged when the store is at fault, and another one when the client has disconnected.
func copyBlob(w io.Writer, content io.Reader, desc ocispecs.Descriptor, length int64) error {
	content = io.LimitReader(content, length)
	if length == desc.Size {
		content = storage.Verify(content, desc)
	}
	n, err := io.Copy(w, stored{content})
	if err == nil && n < length {
		return ErrDamaged
	}
	return err
}

// resumptions is how often the transfer of a blob is continued after its connection broke.
const resumptions = 3

// open streams a blob of a store from an offset, and continues where a connection broke.
func open(ctx context.Context, store backends.Scopes, desc ocispecs.Descriptor, offset int64) (io.ReadCloser, error) {
	body, err := store.Open(ctx, desc.Digest, offset)
	if err != nil {
		return nil, err
	}
	return &resumed{ReadCloser: body, at: offset, again: func(at int64) (io.ReadCloser, error) {
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		return store.Open(ctx, desc.Digest, at)
	}}, nil
}

// resumed is a transfer that is continued.
type resumed struct {
	io.ReadCloser
	at    int64 // the next byte
	times int
	again func(at int64) (io.ReadCloser, error)
}

func (r *resumed) Read(p []byte) (int, error) {
	n, err := r.ReadCloser.Read(p)
	r.at += int64(n)
	if err == nil || errors.Is(err, io.EOF) || r.times == resumptions {
		return n, err
	}
	r.times++
	body, openErr := r.again(r.at)
	if openErr != nil {
		return n, err
	}
	_ = r.Close() // it is broken
	r.ReadCloser = body
	return n, nil
}

// stored wraps the errors of reading a store in an ErrDamaged, which separates them from those of
// writing to a client.
type stored struct{ io.Reader }

func (s stored) Read(p []byte) (int, error) {
	n, err := s.Reader.Read(p)
	if err != nil && !errors.Is(err, io.EOF) {
		err = fmt.Errorf("%w: %w", ErrDamaged, err)
	}
	return n, err
}

// parseRange reads "bytes=N-" and "bytes=N-M" (RFC 9110, 14.1.2), the forms that
// containerd's client sends, and returns the offset and the number of bytes. An
// empty header asks for the whole blob.
func parseRange(header string, size int64) (offset, length int64, err error) {
	if header == "" {
		return 0, size, nil
	}
	wanted, bytes := strings.CutPrefix(header, "bytes=")
	first, last, ok := strings.Cut(wanted, "-")
	offset, err = strconv.ParseInt(first, 10, 64)
	if !bytes || !ok || err != nil || offset < 0 || offset >= size {
		return 0, 0, fmt.Errorf("range %q of %d bytes", header, size)
	}
	end := size - 1
	if last != "" {
		if end, err = strconv.ParseInt(last, 10, 64); err != nil || end < offset {
			return 0, 0, fmt.Errorf("range %q of %d bytes", header, size)
		}
	}
	return offset, min(end, size-1) - offset + 1, nil
}
