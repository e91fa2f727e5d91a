package ghaservice

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	digest "github.com/opencontainers/go-digest"
	actionscache "github.com/tonistiigi/go-actions-cache"

	"github.com/warmlayer/warmlayer/internal/storage"
)

// Entries is the service as a store of objects: each is an entry. Its errors are the service's
// answers, without the key; what is certainly missing is an [storage.ErrAbsent].
type Entries struct {
	*Client
	list      sync.Once
	keys      map[string]struct{} // keys of the blobs that the token reaches; nil without a list
	abandoned atomic.Bool         // a build took a key and did not complete the entry in time
}

// At is the address of an entry, for people.
func (e *Entries) At(key string) string { return "cache entry " + key }

// Head looks an entry up. The service does not report its size. A token that may only
// write cannot look up: every entry is absent, and saving it again is refused.
func (e *Entries) Head(ctx context.Context, key string) (int64, error) {
	if e.WriteOnly() {
		return 0, storage.ErrAbsent
	}
	e.list.Do(func() { e.keys = e.listKeys(ctx) })
	// GitHub's lists may lag behind: a listed key exists, any other has to be looked up.
	if _, ok := e.keys[key]; ok {
		return storage.UnknownSize, nil
	}
	entry, err := e.findBlob(ctx, key)
	if err != nil {
		return 0, err
	}
	e.found.Store(key, located{entry, time.Now()})
	return storage.UnknownSize, nil
}

// listTimeout bounds the listing, and leaves time for look-ups before probe-timeout.
const listTimeout = 3 * time.Second

// listKeys lists the keys of all blobs. It is nil without ghtoken, and when the listing fails.
func (e *Entries) listKeys(ctx context.Context) map[string]struct{} {
	if e.rest == nil || e.cache == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, listTimeout)
	defer cancel()
	listed, err := e.cache.AllKeys(ctx, e.rest, BlobPrefix)
	if err != nil {
		return nil
	}
	keys := map[string]struct{}{}
	for key := range listed {
		key, _, _ = strings.Cut(key, "#") // see saveNext
		keys[key] = struct{}{}
	}
	return keys
}

// lookUp finds the entry with this key, or returns [storage.ErrAbsent]. Services ignore a key's case.
func (e *Entries) lookUp(ctx context.Context, key string) (*actionscache.Entry, error) {
	entry, err := e.load(ctx, key)
	if err == nil && !strings.EqualFold(entry.Key, key) {
		return nil, storage.ErrAbsent
	}
	return entry, err
}

// findBlob finds the entry of a blob, or returns [storage.ErrAbsent]: the one with this key, or else
// one in a series after it (see save).
func (e *Entries) findBlob(ctx context.Context, key string) (*actionscache.Entry, error) {
	entry, err := e.load(ctx, key)
	if err != nil {
		return nil, err
	}
	if found, _, _ := strings.Cut(entry.Key, "#"); !strings.EqualFold(found, key) {
		return nil, storage.ErrAbsent
	}
	return entry, nil
}

// load finds the newest entry whose key has the prefix, or returns [storage.ErrAbsent].
func (e *Entries) load(ctx context.Context, prefix string) (*actionscache.Entry, error) {
	if e.err != nil {
		return nil, e.err
	}
	if e.lookups.Acquire(ctx, 1) != nil {
		return nil, context.Cause(ctx)
	}
	defer e.lookups.Release(1)
	var entry *actionscache.Entry
	err := whileDown(ctx, func() (err error) {
		entry, err = e.cache.Load(ctx, prefix)
		return err
	})
	switch {
	case err != nil:
		return nil, plainly(err)
	case entry == nil:
		return nil, storage.ErrAbsent
	}
	return entry, nil
}

// located is an entry, and when its signed URL was asked for.
type located struct {
	*actionscache.Entry
	at time.Time
}

// freshURL is how long a signed URL is certainly valid: GitHub's are for some minutes. A refusal is then
// about something else, and another URL would be refused too.
const freshURL = time.Minute

// Get streams an entry. It uses the result of an earlier look-up, once.
func (e *Entries) Get(ctx context.Context, key string, offset int64) (storage.Object, error) {
	kept, known := e.found.LoadAndDelete(key)
	found, _ := kept.(located)
	if !known {
		entry, err := e.findBlob(ctx, key)
		if err != nil {
			return storage.Object{}, err
		}
		found.Entry = entry
	}
	body, err := e.Download(ctx, found.URL, offset)
	if errors.Is(err, errExpired) && known && time.Since(found.at) > freshURL {
		return e.Get(ctx, key, offset) // with a new URL
	}
	return storage.Object{ReadCloser: body}, err
}

// Put saves a small entry. Entries have no metadata, and only one version.
func (e *Entries) Put(ctx context.Context, key string, content []byte, _ map[string]string, _ string) error {
	return e.save(ctx, key, actionscache.NewBlob(content), nil)
}

// Upload streams an entry of size bytes.
func (e *Entries) Upload(ctx context.Context, key string, body io.Reader, size int64) error {
	return e.save(ctx, key, &stream{from: body, size: size}, body)
}

// save creates the entry of a blob, whose content is a stream of body unless body is nil. When the
// key is taken, another build has saved or is saving the same content, or another cache of this build
// is. All caches of a build receive the same body at the same time, so the body is read to its end
// before the other upload is awaited.
//
// A build that is cancelled leaves its key taken, and the entry can neither be read nor replaced. GitHub
// removes it within a day (actions/cache#485, #1612). The blob is then saved in a series after the key,
// <key>#1, <key>#2, …. Both warmlayer and BuildKit (v0.34.2, cache/remotecache/gha/gha.go, loadEntry)
// find it there, because the service looks a key up as a prefix too.
func (e *Entries) save(ctx context.Context, key string, content actionscache.Blob, body io.Reader) error {
	if e.err != nil {
		return e.err
	}
	err := e.create(ctx, key, content)
	if !errors.Is(err, os.ErrExist) {
		return plainly(err)
	}
	if e.WriteOnly() {
		return drain(body)
	}
	var full error // why there is no copy of the body
	if body != nil {
		kept, err := spool(body)
		if err != nil {
			return err
		}
		defer kept.Close()
		content, full = kept, kept.err
	}
	complete, err := e.await(ctx, key, e.findBlob)
	if complete || err != nil {
		return err
	}
	if full != nil {
		return fmt.Errorf("another build began this entry and did not complete it, and the blob could not be kept for another entry: %w", full)
	}
	_, err = e.saveNext(ctx, key, 0, content)
	return err
}

// How long an entry that another build has begun is awaited, and how often it is looked up. The
// service does not tell whether that build still runs. After the first entry that was not completed in
// this time no other is awaited: a build that was cancelled leaves several.
const (
	awaitTimeout  = 10 * time.Second
	awaitInterval = time.Second
)

// await waits until an entry exists, because an index must not name a missing blob, and reports
// whether it does.
func (e *Entries) await(ctx context.Context, key string, find func(context.Context, string) (*actionscache.Entry, error)) (complete bool, err error) {
	end := time.After(awaitTimeout)
	tick := time.NewTicker(awaitInterval)
	defer tick.Stop()
	for {
		_, err := find(ctx, key)
		switch {
		case err == nil:
			return true, nil
		case !errors.Is(err, storage.ErrAbsent):
			return false, err
		case e.abandoned.Load():
			return false, nil
		}
		select {
		case <-ctx.Done():
			return false, context.Cause(ctx)
		case <-end:
			e.abandoned.Store(true)
		case <-tick.C:
		}
	}
}

// Version is one version of a series of entries.
type Version struct {
	Number  int // 0: the series is empty
	Content digest.Digest
}

// Last is the newest known version of a series. It reports false when the series was not read.
func (c *Client) Last(key string) (Version, bool) {
	v, ok := c.seen.Load(key)
	if !ok {
		return Version{}, false
	}
	return v.(Version), true
}

// Saw remembers the newest version of a series.
func (c *Client) Saw(key string, v Version) { c.seen.Store(key, v) }

// Newest finds the newest version in a series <key>#1, <key>#2, …, the form in which BuildKit
// keeps its index.
func (e *Entries) Newest(ctx context.Context, key string) (*actionscache.Entry, int, error) {
	entry, err := e.load(ctx, key+"#")
	if err != nil {
		return nil, 0, err
	}
	number, err := strconv.Atoi(entry.Key[strings.LastIndex(entry.Key, "#")+1:])
	if err != nil || number < 1 {
		return nil, 0, fmt.Errorf("%q does not end with a version's number", entry.Key)
	}
	for !e.spec.V2 {
		// Servers of version 1 keep the time in seconds (nektos/act v0.2.89,
		// pkg/artifactcache), so they may return either of two versions of one second.
		next, err := e.lookUp(ctx, key+"#"+strconv.Itoa(number+1))
		if errors.Is(err, storage.ErrAbsent) {
			break
		}
		if err != nil {
			return nil, 0, err
		}
		entry, number = next, number+1
	}
	return entry, number, nil
}

// replaceTries is how many numbers are tried when other builds take them at the same time.
const replaceTries = 10

// Replace saves the version after number and returns its number. It skips numbers that
// another build has taken: the highest number counts.
func (e *Entries) Replace(ctx context.Context, key string, number int, content []byte) (int, error) {
	if e.err != nil {
		return 0, e.err
	}
	return e.saveNext(ctx, key, number, actionscache.NewBlob(content))
}

// saveNext saves an entry in a series, under the first number after the given one that is not taken,
// and returns it.
func (e *Entries) saveNext(ctx context.Context, key string, number int, content actionscache.Blob) (int, error) {
	for range replaceTries {
		number++
		err := e.create(ctx, key+"#"+strconv.Itoa(number), content)
		if !errors.Is(err, os.ErrExist) {
			return number, plainly(err)
		}
	}
	return 0, fmt.Errorf("other builds have taken each of the next %d versions", replaceTries)
}

// Follow saves the version after number, and returns its number, unless another build has written that
// one. A number that a build has taken and left without content is skipped.
func (e *Entries) Follow(ctx context.Context, key string, number int, content []byte) (int, error) {
	if e.err != nil {
		return 0, e.err
	}
	for range replaceTries {
		number++
		next := key + "#" + strconv.Itoa(number)
		err := e.create(ctx, next, actionscache.NewBlob(content))
		if !errors.Is(err, os.ErrExist) {
			return number, plainly(err)
		}
		complete, err := e.await(ctx, next, e.lookUp)
		if err != nil {
			return 0, err
		}
		if complete {
			return 0, storage.ErrReplaced
		}
	}
	return 0, fmt.Errorf("other builds have taken each of the next %d versions and completed none", replaceTries)
}

// errExpired says that the storage refuses a signed URL, most likely because it is too old.
var errExpired = errors.New("the service's storage refuses the URL")

// Download streams the content at an entry's URL from the byte at offset. The library's
// reader would open a new connection for every read that does not begin at 0.
func (e *Entries) Download(ctx context.Context, url string, offset int64) (io.ReadCloser, error) {
	for try := 1; ; try++ {
		request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
		if err != nil {
			return nil, plainly(err)
		}
		request.Header.Set("User-Agent", storage.UserAgent)
		want := http.StatusOK
		if offset > 0 {
			request.Header.Set("Range", fmt.Sprintf("bytes=%d-", offset))
			want = http.StatusPartialContent
		}
		answer, err := e.http.Do(request)
		if err != nil {
			return nil, plainly(err)
		}
		if answer.StatusCode == want {
			return answer.Body, nil
		}
		answer.Body.Close()
		switch {
		case answer.StatusCode == http.StatusNotFound:
			return nil, storage.ErrAbsent
		case answer.StatusCode == http.StatusForbidden || answer.StatusCode == http.StatusUnauthorized:
			return nil, errExpired
		case answer.StatusCode < 500 && answer.StatusCode != http.StatusTooManyRequests || try == readTries:
			return nil, fmt.Errorf("the service's storage answers %s", answer.Status)
		}
		if err := pause(ctx, try); err != nil {
			return nil, err
		}
	}
}

// query matches the query of a URL in a message. Queries of the service's URLs hold signatures.
var query = regexp.MustCompile(`\?[^\s"']*`)

// plainError is an error with a text of one line, without the queries of URLs.
type plainError struct {
	text string
	err  error
}

func (e *plainError) Error() string { return e.text }
func (e *plainError) Unwrap() error { return e.err }

// plainly gives an answer of the service, or of Azure's storage behind it, as a [plainError].
func plainly(err error) error {
	if err == nil {
		return nil
	}
	text := err.Error()
	var azure *azcore.ResponseError
	if errors.As(err, &azure) {
		text = "the service's storage answers " + storage.AzureError(azure).Error()
	}
	return &plainError{query.ReplaceAllString(text, "?…"), err}
}
