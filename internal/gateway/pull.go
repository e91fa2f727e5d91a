package gateway

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"

	digest "github.com/opencontainers/go-digest"

	"github.com/warmlayer/warmlayer/backends"
)

// source is the merged cache that a request is about; there is none in other repositories.
func (g *Gateway) source(r *http.Request) (*source, error) {
	g.mu.Lock()
	m := g.sources[r.PathValue("repo")]
	g.mu.Unlock()
	if m == nil {
		return nil, backends.ErrAbsent
	}
	return m.wait(r.Context())
}

// getManifest serves GET and HEAD. A destination answers that it has none, so
// that BuildKit always sends what it made.
func (g *Gateway) getManifest(w http.ResponseWriter, r *http.Request) {
	s, err := g.source(r)
	if errors.Is(err, backends.ErrAbsent) {
		refuse(w, http.StatusNotFound, "MANIFEST_UNKNOWN", "no such scope")
		return
	}
	if err != nil {
		fail(w, r, err)
		return
	}
	desc := s.manifest.Descriptor()
	w.Header().Set("Content-Type", desc.MediaType)
	w.Header().Set("Content-Length", strconv.FormatInt(desc.Size, 10))
	w.Header().Set("Docker-Content-Digest", desc.Digest.String())
	_, _ = w.Write(s.manifest.Raw) // a client that is gone is no fault
}

func sendConfig(w http.ResponseWriter, config []byte) {
	w.Header().Set("Content-Length", strconv.Itoa(len(config)))
	_, _ = w.Write(config)
}

// getBlob serves GET and HEAD, of a source or of a destination.
func (g *Gateway) getBlob(w http.ResponseWriter, r *http.Request) {
	d, err := digest.Parse(r.PathValue("digest"))
	if err != nil {
		refuse(w, http.StatusBadRequest, "DIGEST_INVALID", "not a digest")
		return
	}
	if dest := g.destination(r); dest != nil {
		dest.head(w, r, d)
		return
	}
	s, err := g.source(r)
	if errors.Is(err, backends.ErrAbsent) {
		refuse(w, http.StatusNotFound, "NAME_UNKNOWN", "no such repository")
		return
	}
	if err != nil {
		fail(w, r, err)
		return
	}
	if d == s.manifest.Config.Digest {
		sendConfig(w, s.config)
		return
	}
	b, ok := s.blobs[d]
	if !ok {
		refuse(w, http.StatusNotFound, "BLOB_UNKNOWN", "no scope names this blob")
		return
	}
	if g.isLost(d) {
		// Else a client that goes on where a damaged copy broke off would get its end.
		refuse(w, http.StatusNotFound, "BLOB_UNKNOWN", "the store's copy is lost")
		return
	}
	g.sendBlob(w, r, b.store, d, b.size)
}

// sendBlob streams a blob from an offset. What arrives damaged, or not at all, is
// remembered as lost; a transfer that has begun is broken off, since BuildKit
// would take a short answer for a slow one and ask again.
func (g *Gateway) sendBlob(w http.ResponseWriter, r *http.Request, store backends.Scopes, d digest.Digest, size int64) {
	offset, length, err := parseRange(r.Header.Get("Range"), size)
	if err != nil {
		refuse(w, http.StatusRequestedRangeNotSatisfiable, "SIZE_INVALID", err.Error())
		return
	}
	w.Header().Set("Content-Type", "application/octet-stream")
	w.Header().Set("Docker-Content-Digest", d.String())
	w.Header().Set("Accept-Ranges", "bytes")
	w.Header().Set("Content-Length", strconv.FormatInt(length, 10))
	status := http.StatusOK
	if length != size {
		w.Header().Set("Content-Range", fmt.Sprintf("bytes %d-%d/%d", offset, offset+length-1, size))
		status = http.StatusPartialContent
	}
	if r.Method == http.MethodHead {
		w.WriteHeader(status)
		return
	}
	content, err := store.Open(r.Context(), d, offset)
	if err != nil {
		g.lose(r.Context(), d)
		w.Header().Del("Content-Length")
		w.Header().Del("Content-Range")
		fail(w, r, err)
		return
	}
	defer content.Close()
	w.WriteHeader(status)
	if err := copyBlob(w, content, d, length, length == size); errors.Is(err, errDamaged) {
		g.lose(r.Context(), d)
		panic(http.ErrAbortHandler)
	}
}

// errDamaged says that a store handed out something else than it should, or less.
var errDamaged = errors.New("the store's copy is damaged or cut off")

// copyBlob copies length bytes; where that is the whole blob, the last of them
// only once the digest is right, so that a damaged copy never looks complete.
func copyBlob(w io.Writer, content io.Reader, d digest.Digest, length int64, whole bool) error {
	verifier := d.Verifier()
	content = io.TeeReader(stored{content}, verifier)
	held := min(length, 1)
	if _, err := io.CopyN(w, content, length-held); err != nil {
		return asDamaged(err)
	}
	last := make([]byte, held)
	if _, err := io.ReadFull(content, last); err != nil {
		return asDamaged(err)
	}
	if whole && !verifier.Verified() {
		return errDamaged
	}
	_, err := w.Write(last)
	return err
}

// stored marks errors of reading a store, to tell them from those of writing to a
// client that left.
type stored struct{ io.Reader }

func (s stored) Read(p []byte) (int, error) {
	n, err := s.Reader.Read(p)
	if err != nil && !errors.Is(err, io.EOF) {
		err = fmt.Errorf("%w: %w", errDamaged, err)
	}
	return n, err
}

// asDamaged takes a store that ends early for what it is.
func asDamaged(err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return errDamaged
	}
	return err
}

// parseRange reads "bytes=N-" and "bytes=N-M" (RFC 9110, 14.1.2), the forms that
// containerd's client sends, and gives the offset and the number of bytes. An
// empty header asks for everything.
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
