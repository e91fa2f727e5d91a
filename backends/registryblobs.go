package backends

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/remote/transport"
	"github.com/google/go-containerregistry/pkg/v1/static"
	"github.com/google/go-containerregistry/pkg/v1/types"
	digest "github.com/opencontainers/go-digest"
	ocispecs "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/warmlayer/warmlayer/internal/storage"
)

// Put implements [Store]. A blob of more than wholeBlob bytes is streamed, without a second try unless it can be read
// again from its beginning. BuildKit writes layers itself.
func (r *Registry) Put(ctx context.Context, desc ocispecs.Descriptor, content io.Reader) error {
	var err error
	if desc.Size <= wholeBlob {
		var raw []byte
		if raw, err = io.ReadAll(storage.Verify(content, desc)); err == nil {
			err = r.putWhole(ctx, desc, raw)
		}
	} else {
		err = r.write(ctx, &streamed{desc: desc, content: content})
	}
	if err != nil {
		return fmt.Errorf("write %s@%s: %w", r.Repository, desc.Digest, err)
	}
	return nil
}

func (r *Registry) write(ctx context.Context, layer v1.Layer) error {
	options, err := r.options(ctx, transport.PushScope)
	if err == nil {
		err = remote.WriteLayer(r.Repository, layer, options...)
	}
	return err
}

// putWhole sends a blob with two requests, as containerd does; package remote makes four. It is for blobs that are
// probably new. After any other failure than a firm one package remote begins again, which also retries.
func (r *Registry) putWhole(ctx context.Context, desc ocispecs.Descriptor, raw []byte) error {
	response, err := r.call(ctx, transport.PushScope, http.MethodPost, r.blobs("uploads/"), nil, nil, http.StatusAccepted)
	if err == nil {
		response.Body.Close()
		var at *url.URL
		if at, err = response.Location(); err == nil {
			query := at.Query()
			query.Set("digest", desc.Digest.String())
			at.RawQuery = query.Encode()
			response, err = r.call(ctx, transport.PushScope, http.MethodPut, at.String(), binary, raw, http.StatusCreated, http.StatusOK, http.StatusNoContent)
		}
	}
	if err == nil {
		response.Body.Close()
		return nil
	}
	var refused *transport.Error
	if errors.As(err, &refused) && slices.Contains(firm, refused.StatusCode) {
		return err
	}
	return r.write(ctx, static.NewLayer(raw, types.MediaType(desc.MediaType)))
}

var binary = http.Header{"Content-Type": {"application/octet-stream"}}

// firm are answers that say nothing of the way in which a blob was sent, and would be given again.
var firm = []int{http.StatusUnauthorized, http.StatusForbidden, http.StatusTooManyRequests}

// streamed is a blob as go-containerregistry puts one that does not fit into memory.
type streamed struct {
	desc    ocispecs.Descriptor
	content io.Reader
	read    bool
}

// Compressed is the content, from its beginning.
func (s *streamed) Compressed() (io.ReadCloser, error) {
	if again, ok := s.content.(io.Seeker); s.read && !ok {
		return nil, errors.New("the blob can be read once only")
	} else if s.read {
		if _, err := again.Seek(0, io.SeekStart); err != nil {
			return nil, err
		}
	}
	s.read = true
	return io.NopCloser(storage.Verify(s.content, s.desc)), nil
}

// Uncompressed is as Compressed: nothing asks for it.
func (s *streamed) Uncompressed() (io.ReadCloser, error) { return s.Compressed() }

// Digest is that of the descriptor, which the content is compared with as it is read.
func (s *streamed) Digest() (v1.Hash, error) { return v1.NewHash(s.desc.Digest.String()) }

// DiffID is as Digest: nothing asks for it.
func (s *streamed) DiffID() (v1.Hash, error) { return s.Digest() }

// Size is that of the descriptor.
func (s *streamed) Size() (int64, error) { return s.desc.Size, nil }

// MediaType is that of the descriptor.
func (s *streamed) MediaType() (types.MediaType, error) {
	return types.MediaType(s.desc.MediaType), nil
}

// Open implements [Scopes]. Package remote would ask for the whole blob, and hash what is hashed where it is used.
func (r *Registry) Open(ctx context.Context, d digest.Digest, offset int64) (io.ReadCloser, error) {
	blob, err := r.open(ctx, d, offset)
	if isNotFound(err) {
		err = ErrAbsent
	}
	if err != nil {
		return nil, fmt.Errorf("open %s@%s: %w", r.Repository, d, err)
	}
	return blob, nil
}

func (r *Registry) open(ctx context.Context, d digest.Digest, offset int64) (io.ReadCloser, error) {
	header := http.Header{}
	if offset > 0 {
		header.Set("Range", fmt.Sprintf("bytes=%d-", offset))
	}
	response, err := r.call(ctx, transport.PullScope, http.MethodGet, r.blobs(d.String()), header, nil,
		http.StatusOK, http.StatusPartialContent)
	if err != nil {
		return nil, err
	}
	if response.StatusCode == http.StatusOK { // of a registry that sends no part of a blob
		if _, err := io.CopyN(io.Discard, response.Body, offset); err != nil {
			return nil, errors.Join(err, response.Body.Close())
		}
	}
	return response.Body, nil
}
