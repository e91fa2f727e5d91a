// Package layout keeps caches in a directory that many processes share.
//
//	dir := &layout.Layout{Dir: "/cache", Writes: true}
//	err := dir.Put(ctx, layer, body) // blobs first
//	err = dir.PutManifest(ctx, "b-main", manifest, []ocispecs.Descriptor{layer})
package layout

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/gofrs/flock"
	digest "github.com/opencontainers/go-digest"
	specs "github.com/opencontainers/image-spec/specs-go"
	ocispecs "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/warmlayer/warmlayer/internal/storage"
	"github.com/warmlayer/warmlayer/internal/waiting"
)

// Layout is a directory in the form of an OCI image layout, as BuildKit's local
// cache keeps one: blobs/sha256/<hex>, and an index.json whose entries carry the
// tag in the annotation org.opencontainers.image.ref.name
// (BuildKit v0.34.2, client/ociindex; OCI image-spec v1.1, image-layout.md).
//
// It differs from BuildKit's in four ways. It writes each file under a temporary name and
// renames it. It waits for the lock of the index, index.json.lock: BuildKit's client makes one try for
// it, and removes its file after use, so a lock on a removed file is taken anew. It keeps every blob
// that is young enough to belong to an export that still runs. And it gives up when a context ends,
// also while the file system hangs.
type Layout struct {
	Dir    string
	Reset  bool // PutManifest removes what no tag names
	Writes bool // blobs that are looked up become young
}

// Manifest is a manifest, or an index, as it is stored.
type Manifest struct {
	Raw       []byte
	MediaType string
}

// Version tells manifests apart: their digest.
func (m Manifest) Version() string { return m.descriptor().Digest.String() }

func (m Manifest) descriptor() ocispecs.Descriptor {
	return ocispecs.Descriptor{MediaType: m.MediaType, Digest: digest.FromBytes(m.Raw), Size: int64(len(m.Raw))}
}

func (l *Layout) blob(d digest.Digest) string {
	return filepath.Join(l.Dir, ocispecs.ImageBlobsDir, d.Algorithm().String(), d.Encoded())
}

func (l *Layout) index() string { return filepath.Join(l.Dir, ocispecs.ImageIndexFile) }

// Manifest is the one with this tag. It is an [storage.ErrAbsent] where the index does not name the
// tag, and another error where the index or the manifest is damaged.
func (l *Layout) Manifest(ctx context.Context, tag string) (Manifest, error) {
	return waiting.Within(ctx, func() (Manifest, error) { return l.manifest(tag) })
}

func (l *Layout) manifest(tag string) (Manifest, error) {
	index, err := l.readIndex()
	if err != nil {
		return Manifest{}, fmt.Errorf("read %s: %w", l.index(), err)
	}
	i := slices.IndexFunc(index.Manifests, named(tag))
	if i < 0 {
		return Manifest{}, fmt.Errorf("read %s in %s: %w", tag, l.Dir, storage.ErrAbsent)
	}
	m, err := l.document(index.Manifests[i])
	if err != nil {
		return Manifest{}, fmt.Errorf("read %s in %s: %w", tag, l.Dir, err)
	}
	return m, nil
}

// document reads a manifest that the index names.
func (l *Layout) document(desc ocispecs.Descriptor) (Manifest, error) {
	if err := desc.Digest.Validate(); err != nil {
		return Manifest{}, fmt.Errorf("digest %q: %w", desc.Digest, err)
	}
	raw, err := waiting.ReadRegular(l.blob(desc.Digest))
	if err != nil {
		return Manifest{}, err
	}
	if digest.FromBytes(raw) != desc.Digest {
		return Manifest{}, fmt.Errorf("content is not %s", desc.Digest)
	}
	return Manifest{raw, desc.MediaType}, nil
}

func named(tag string) func(ocispecs.Descriptor) bool {
	return func(d ocispecs.Descriptor) bool { return d.Annotations[ocispecs.AnnotationRefName] == tag }
}

// readIndex returns an empty index when the file does not exist yet. With a [damagedIndex] it
// returns what can be kept.
func (l *Layout) readIndex() (ocispecs.Index, error) {
	index := ocispecs.Index{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispecs.MediaTypeImageIndex}
	raw, err := waiting.ReadRegular(l.index())
	if errors.Is(err, fs.ErrNotExist) {
		return index, nil
	}
	if err != nil && !errors.Is(err, waiting.ErrTooLarge) { // one that is cut off is damaged
		return index, err
	}
	return parseIndex(raw, index)
}

// Check tells why the index cannot be read, nil when it can or is missing.
func (l *Layout) Check(ctx context.Context) error {
	if _, err := waiting.Within(ctx, l.readIndex); err != nil {
		return fmt.Errorf("read %s: %w", l.index(), err)
	}
	return nil
}

// Stat returns the sizes in bytes of those blobs that are there. In a directory that is written, it sets the time of each blob
// that it finds to now: an export relies on these blobs, and a concurrent reset keeps young ones.
func (l *Layout) Stat(ctx context.Context, digests []digest.Digest) (map[digest.Digest]int64, error) {
	return waiting.Within(ctx, func() (map[digest.Digest]int64, error) { return l.stat(ctx, digests) })
}

func (l *Layout) stat(ctx context.Context, digests []digest.Digest) (map[digest.Digest]int64, error) {
	sizes := map[digest.Digest]int64{}
	for _, d := range digests {
		info, err := os.Stat(l.blob(d))
		if errors.Is(err, fs.ErrNotExist) || err == nil && !info.Mode().IsRegular() {
			continue
		}
		if err == nil {
			err = ctx.Err()
		}
		if err != nil {
			return nil, fmt.Errorf("stat blob: %w", err)
		}
		if l.Writes {
			if err := touch(l.blob(d)); errors.Is(err, fs.ErrNotExist) {
				continue
			}
		}
		sizes[d] = info.Size()
	}
	return sizes, nil
}

func touch(path string) error {
	now := time.Now()
	return os.Chtimes(path, now, now)
}

// Open streams a blob from the byte at offset. A blob that is not there is an [storage.ErrAbsent].
func (l *Layout) Open(ctx context.Context, d digest.Digest, offset int64) (io.ReadCloser, error) {
	return waiting.Within(ctx, func() (io.ReadCloser, error) { return l.open(ctx, d, offset) })
}

func (l *Layout) open(ctx context.Context, d digest.Digest, offset int64) (io.ReadCloser, error) {
	f, err := waiting.OpenRegular(l.blob(d))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("open blob %s in %s: %w", d, l.Dir, storage.ErrAbsent)
	}
	if err != nil {
		return nil, fmt.Errorf("open blob: %w", err)
	}
	if _, err := f.Seek(offset, io.SeekStart); err != nil {
		return nil, errors.Join(fmt.Errorf("open blob: %w", err), f.Close())
	}
	return waiting.Streamed(ctx, f), nil
}

// Put streams a blob into the directory. Content that does not match the descriptor leaves nothing
// behind.
func (l *Layout) Put(ctx context.Context, desc ocispecs.Descriptor, r io.Reader) error {
	_, err := waiting.Within(ctx, func() (struct{}, error) { return struct{}{}, l.put(ctx, desc, r) })
	return err
}

func (l *Layout) put(ctx context.Context, desc ocispecs.Descriptor, r io.Reader) error {
	err := l.write(ctx, l.blob(desc.Digest), waiting.UntilDone(ctx, storage.Verify(r, desc)))
	if err != nil {
		return fmt.Errorf("write blob in %s: %w", l.Dir, err)
	}
	return nil
}

// write makes path a file with the content, at once or not at all.
func (l *Layout) write(ctx context.Context, path string, content io.Reader) (err error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	staged, err := l.stage()
	if err != nil {
		return err
	}
	defer staged.Close() // ends the lock
	defer func() {
		if err != nil {
			err = errors.Join(err, os.Remove(staged.Name()))
		}
	}()
	// A file of its own for writing: its Close tells what a network file system could not write.
	f, err := os.OpenFile(staged.Name(), os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	_, err = io.Copy(f, content)
	if err := errors.Join(err, f.Chmod(0o644), f.Close(), context.Cause(ctx)); err != nil {
		return err
	}
	return os.Rename(staged.Name(), path)
}

// PutManifest writes a manifest and gives it a tag. While it holds the index's lock it checks that
// every blob of the manifest still exists, so that the index names complete caches only, and that
// the tag's manifest has a version, "" for none. Where it has another one, the error is a
// [storage.ErrReplaced]; with [storage.AnyVersion] it does not matter.
func (l *Layout) PutManifest(ctx context.Context, tag, version string, m Manifest, blobs []ocispecs.Descriptor) error {
	_, err := waiting.Within(ctx, func() (struct{}, error) { return struct{}{}, l.putManifest(ctx, tag, version, m, blobs) })
	return err
}

func (l *Layout) putManifest(ctx context.Context, tag, version string, m Manifest, blobs []ocispecs.Descriptor) error {
	desc := m.descriptor()
	if err := l.put(ctx, desc, bytes.NewReader(m.Raw)); err != nil {
		return err
	}
	unlock, err := l.lock(ctx)
	if err != nil {
		return fmt.Errorf("lock %s: %w", l.index(), err)
	}
	defer unlock()
	l.removeAbandoned()
	if err := l.checkBlobs(ctx, append(slices.Clone(blobs), desc)); err != nil {
		return fmt.Errorf("write %s in %s: %w", tag, l.Dir, err)
	}
	index, err := l.readIndex()
	var damaged *damagedIndex
	if err != nil && !errors.As(err, &damaged) {
		return fmt.Errorf("read %s: %w", l.index(), err)
	}
	if i := slices.IndexFunc(index.Manifests, named(tag)); version != storage.AnyVersion && version != versionAt(index, i) {
		return fmt.Errorf("write %s in %s: %w", tag, l.Dir, storage.ErrReplaced)
	}
	desc.Annotations = map[string]string{ocispecs.AnnotationRefName: tag}
	index.Manifests = append(slices.DeleteFunc(index.Manifests, named(tag)), desc)
	if err := l.writeIndex(ctx, index); err != nil {
		return fmt.Errorf("write %s: %w", l.index(), err)
	}
	if !l.Reset {
		return nil
	}
	_, err = l.sweep(ctx, index, Sweep{Grace: grace})
	return err
}

// versionAt is the version of an entry, "" where there is none.
func versionAt(index ocispecs.Index, i int) string {
	if i < 0 {
		return ""
	}
	return index.Manifests[i].Digest.String()
}

func (l *Layout) checkBlobs(ctx context.Context, descs []ocispecs.Descriptor) error {
	missing, err := storage.Missing(ctx, l, descs)
	if err != nil || len(missing) == 0 {
		return err
	}
	for _, d := range missing {
		// The file may exist in another size. Without it the next export writes the blob again.
		if err := os.Remove(l.blob(d)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return fmt.Errorf("blob %s is gone", missing[0])
}

func (l *Layout) writeIndex(ctx context.Context, index ocispecs.Index) error {
	raw, err := json.Marshal(index)
	if err != nil {
		return err
	}
	mark, err := json.Marshal(ocispecs.ImageLayout{Version: ocispecs.ImageLayoutVersion})
	if err != nil {
		return err
	}
	if err := l.write(ctx, filepath.Join(l.Dir, ocispecs.ImageLayoutFile), bytes.NewReader(mark)); err != nil {
		return err
	}
	return l.write(ctx, l.index(), bytes.NewReader(raw))
}

// lock waits for the index's lock until ctx ends.
func (l *Layout) lock(ctx context.Context) (unlock func(), err error) {
	if err := os.MkdirAll(l.Dir, 0o755); err != nil {
		return nil, err
	}
	path := l.index() + ".lock"
	if info, err := os.Stat(path); err == nil && !info.Mode().IsRegular() {
		return nil, waiting.NotRegular(path)
	}
	for try := 1; ; try++ {
		lock := flock.New(path)
		if _, err := lock.TryLockContext(ctx, 20*time.Millisecond); err != nil {
			if ctx.Err() != nil {
				err = fmt.Errorf("another process holds it: %w", context.Cause(ctx))
			}
			return nil, err
		}
		if inPlace(lock) || try == lockTries {
			return func() { _ = lock.Unlock() }, nil // closing the file unlocks it, even when Unlock fails
		}
		_ = lock.Unlock()
	}
}

// lockTries bounds how often a lock is taken anew because BuildKit's client has removed its file
// meanwhile. On a file system whose files change their numbers it may look so each time.
const lockTries = 10

// inPlace reports whether a lock's file still has its name.
func inPlace(lock *flock.Flock) bool {
	held, err := lock.Stat()
	now, missing := os.Stat(lock.Path())
	return err == nil && missing == nil && os.SameFile(held, now)
}

// Held reports whether an error is that of BuildKit's client about the index's lock, which another
// process held (v0.34.2, client/ociindex, Put). Every other error about the lock goes on.
func (l *Layout) Held(err error) bool {
	return err != nil && strings.HasSuffix(err.Error(), "could not lock "+l.index()+".lock")
}

// Unlocked waits until no process holds the index's lock, or ctx ends.
func (l *Layout) Unlocked(ctx context.Context) error {
	unlock, err := waiting.Within(ctx, func() (func(), error) { return l.lock(ctx) })
	if err != nil {
		return fmt.Errorf("lock %s: %w", l.index(), err)
	}
	unlock()
	return nil
}
