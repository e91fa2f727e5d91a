package testkit

import (
	"bytes"
	"context"
	"io"
	"sync"

	digest "github.com/opencontainers/go-digest"
	ocispecs "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/warmlayer/warmlayer/backends"
	"github.com/warmlayer/warmlayer/scope"
)

// Store is a [backends.Store] in memory, with the faults that a test sets. Set the exported fields
// while no method runs.
type Store struct {
	PutFault  error                               // of every Put
	StatFault error                               // of every Stat
	OpenFault error                               // of every Open
	Stream    func(context.Context) io.ReadCloser // returned for every blob; nil: its content
	HoldPut   chan struct{}                       // delays every Put until it is closed; nil: no delay
	HoldStat  chan struct{}                       // delays every Stat until it is closed, or for one that receives
	Refusals  int                                 // of Swap, which says that another build has written, though none has
	Succeeded int                                 // Swaps after which another build writes what is there and more

	mu     sync.Mutex
	asked  [][]digest.Digest
	blobs  map[digest.Digest][]byte
	scopes map[scope.Name]backends.Manifest
}

// NewStore is an empty store.
func NewStore() *Store {
	return &Store{blobs: map[digest.Digest][]byte{}, scopes: map[scope.Name]backends.Manifest{}}
}

// Manifest implements [backends.Scopes].
func (s *Store) Manifest(_ context.Context, n scope.Name) (backends.Manifest, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	m, ok := s.scopes[n]
	if !ok {
		return m, backends.ErrAbsent
	}
	m.Version = m.Descriptor().Digest.String()
	return m, nil
}

// PutManifest implements [backends.Scopes].
func (s *Store) PutManifest(_ context.Context, n scope.Name, m backends.Manifest) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.scopes[n] = m
	return nil
}

// Swap implements [backends.Scopes].
func (s *Store) Swap(_ context.Context, n scope.Name, version string, m backends.Manifest) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	present := ""
	if m, ok := s.scopes[n]; ok {
		present = m.Descriptor().Digest.String()
	}
	if version != backends.AnyVersion && (version != present || s.Refusals > 0) {
		s.Refusals--
		return backends.ErrReplaced
	}
	s.scopes[n] = m
	if s.Succeeded > 0 {
		s.Succeeded--
		return backends.ErrReplaced
	}
	return nil
}

// Stat implements [backends.Scopes].
func (s *Store) Stat(_ context.Context, digests []digest.Digest) (map[digest.Digest]int64, error) {
	if s.HoldStat != nil {
		<-s.HoldStat
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.asked = append(s.asked, digests)
	sizes := map[digest.Digest]int64{}
	for _, d := range digests {
		if blob, ok := s.blobs[d]; ok {
			sizes[d] = int64(len(blob))
		}
	}
	return sizes, s.StatFault
}

// Open implements [backends.Scopes].
func (s *Store) Open(ctx context.Context, d digest.Digest, offset int64) (io.ReadCloser, error) {
	if s.Stream != nil {
		return s.Stream(ctx), nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	blob, ok := s.blobs[d]
	switch {
	case s.OpenFault != nil:
		return nil, s.OpenFault
	case !ok:
		return nil, backends.ErrAbsent
	}
	return io.NopCloser(bytes.NewReader(blob[min(offset, int64(len(blob))):])), nil
}

// Put implements [backends.Store]. It does not verify the content.
func (s *Store) Put(_ context.Context, desc ocispecs.Descriptor, r io.Reader) error {
	if s.PutFault != nil {
		return s.PutFault
	}
	content, err := io.ReadAll(r)
	if err != nil {
		return err
	}
	if s.HoldPut != nil {
		<-s.HoldPut
	}
	s.Set(desc.Digest, content)
	return nil
}

// Set gives a blob any content. A nil content removes the blob.
func (s *Store) Set(d digest.Digest, content []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.blobs[d] = content; content == nil {
		delete(s.blobs, d)
	}
}

// Add adds blobs with their correct content.
func (s *Store) Add(contents ...string) {
	for _, c := range contents {
		s.Set(digest.FromString(c), []byte(c))
	}
}

// Has reports whether the store has a blob with this content, under its digest.
func (s *Store) Has(content string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	blob, ok := s.blobs[digest.FromString(content)]
	return ok && string(blob) == content
}

// Len is the number of blobs and the number of scopes.
func (s *Store) Len() (blobs, scopes int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.blobs), len(s.scopes)
}

// Asked are the lists of blobs of each Stat since the last Asked.
func (s *Store) Asked() [][]digest.Digest {
	s.mu.Lock()
	defer s.mu.Unlock()
	asked := s.asked
	s.asked = nil
	return asked
}
