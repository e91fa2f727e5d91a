package backends

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"

	digest "github.com/opencontainers/go-digest"
	"golang.org/x/sync/errgroup"

	"github.com/warmlayer/warmlayer/internal/crash"
	"github.com/warmlayer/warmlayer/internal/ghaservice"
	"github.com/warmlayer/warmlayer/scope"
)

// ghaStore is a GHA cache as a store. A blob is an entry. Each scope has two series of
// entries: the index, and the record.
type ghaStore struct {
	*objects
	cache   *GHA
	entries *ghaservice.Entries
}

func (c *GHA) store() *ghaStore {
	e := &ghaservice.Entries{Client: c.client}
	return &ghaStore{&objects{service: e, blobs: ghaservice.BlobPrefix}, c, e}
}

// Claims implements [Claiming].
func (s *ghaStore) Claims() string {
	return "a build took its key and has not sent it, and GitHub frees such a key within a day"
}

// recordEntry is the content of a record's entry. It names the index that it describes,
// because other tools replace the index and leave the record.
type recordEntry struct {
	Index       digest.Digest     `json:"index"`
	Annotations map[string]string `json:"annotations"`
}

func recordKey(index string) string { return "warmlayer-record-" + strings.TrimPrefix(index, "index-") }

// Manifest implements [Scopes]. It reads index and record concurrently. Without a readable
// record the cache has the zero Record.
func (s *ghaStore) Manifest(ctx context.Context, n scope.Name) (Manifest, error) {
	if why := s.cache.withholds(n); why != "" {
		return Manifest{}, Withheld(why)
	}
	key := s.cache.indexKey(n)
	var index, record []byte
	eg, egCtx := errgroup.WithContext(ctx)
	eg.Go(func() (err error) {
		defer crash.Catch()
		index, err = s.readNewest(egCtx, key)
		return err
	})
	eg.Go(func() error {
		defer crash.Catch()
		record, _ = s.readNewest(egCtx, recordKey(key))
		return nil
	})
	err := eg.Wait()
	if err != nil {
		return Manifest{}, s.fault("read", key, err)
	}
	m, err := configManifest(index, parseRecordEntry(record, index))
	if err != nil {
		return Manifest{}, s.fault("read", key, err)
	}
	last, _ := s.entries.Last(key)
	m.Version = strconv.Itoa(last.Number)
	return m, nil
}

// readNewest reads the newest version of a series of small entries, and remembers its number.
func (s *ghaStore) readNewest(ctx context.Context, key string) ([]byte, error) {
	entry, number, err := s.entries.Newest(ctx, key)
	if errors.Is(err, ErrAbsent) {
		s.entries.Saw(key, ghaservice.Version{})
	}
	if err != nil {
		return nil, err
	}
	body, err := s.entries.Download(ctx, entry.URL, 0)
	if err != nil {
		return nil, err
	}
	defer body.Close()
	content, err := io.ReadAll(io.LimitReader(body, maxObjectDocument+1))
	if err == nil && len(content) > maxObjectDocument {
		err = fmt.Errorf("it is larger than %d bytes", maxObjectDocument)
	}
	if err != nil {
		return nil, err
	}
	s.entries.Saw(key, ghaservice.Version{Number: number, Content: digest.FromBytes(content)})
	return content, nil
}

// parseRecordEntry is as lenient as parseRecord. A record of another index is ignored.
func parseRecordEntry(content, index []byte) Record {
	var e recordEntry
	if json.Unmarshal(content, &e) != nil || e.Index != digest.FromBytes(index) {
		return Record{}
	}
	return parseRecord(e.Annotations)
}

// PutManifest implements [Scopes]. An index that BuildKit itself wrote is kept, and only the
// record is added.
func (s *ghaStore) PutManifest(ctx context.Context, n scope.Name, m Manifest) error {
	key := s.cache.indexKey(n)
	index, err := s.annotated(ctx, m)
	if err != nil {
		return s.fault("write", key, err)
	}
	eg, egCtx := errgroup.WithContext(ctx)
	if last, _ := s.entries.Last(key); m.Inline == nil || last.Content != digest.FromBytes(index) {
		eg.Go(func() error {
			defer crash.Catch()
			return s.write(egCtx, key, index)
		})
	}
	eg.Go(func() error {
		defer crash.Catch()
		return s.writeRecord(egCtx, key, index, m.Record)
	})
	return eg.Wait()
}

// writeRecord saves the record of an index; the zero value leaves that out.
func (s *ghaStore) writeRecord(ctx context.Context, key string, index []byte, r Record) error {
	if r == (Record{}) {
		return nil
	}
	record, err := json.Marshal(recordEntry{digest.FromBytes(index), r.annotations()})
	if err != nil {
		return s.fault("write", recordKey(key), err)
	}
	return s.write(ctx, recordKey(key), record)
}

// Swap implements [Scopes]: a version after the given one is saved.
func (s *ghaStore) Swap(ctx context.Context, n scope.Name, present string, m Manifest) error {
	if present == AnyVersion || s.entries.WriteOnly() {
		return s.PutManifest(ctx, n, m)
	}
	key := s.cache.indexKey(n)
	number, err := strconv.Atoi(cmp.Or(present, "0"))
	var index []byte
	if err == nil {
		index, err = s.annotated(ctx, m)
	}
	if err == nil {
		number, err = s.entries.Follow(ctx, key, number, index)
	}
	if err != nil {
		return s.fault("write", key, err)
	}
	s.entries.Saw(key, ghaservice.Version{Number: number, Content: digest.FromBytes(index)})
	return s.writeRecord(ctx, key, index, m.Record)
}

// write saves the next version in a series.
func (s *ghaStore) write(ctx context.Context, key string, content []byte) error {
	number, err := s.lastNumber(ctx, key)
	if err == nil {
		number, err = s.entries.Replace(ctx, key, number, content)
	}
	if err != nil {
		return s.fault("write", key, err)
	}
	s.entries.Saw(key, ghaservice.Version{Number: number, Content: digest.FromBytes(content)})
	return nil
}

// lastNumber is the number of the newest version: the one that was read, or else the service
// is asked. Where look-ups are forbidden it is the time in Unix seconds, which is greater than
// the number of any series that is counted by one.
func (s *ghaStore) lastNumber(ctx context.Context, key string) (int, error) {
	if s.entries.WriteOnly() {
		return int(time.Now().Unix()), nil
	}
	if last, ok := s.entries.Last(key); ok {
		return last.Number, nil
	}
	_, number, err := s.entries.Newest(ctx, key)
	if errors.Is(err, ErrAbsent) {
		return 0, nil
	}
	return number, err
}
