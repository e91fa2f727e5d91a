package backends

import (
	"bytes"
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
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	digest "github.com/opencontainers/go-digest"
	actionscache "github.com/tonistiigi/go-actions-cache"
)

// entries is the service of a GHA cache: its objects are entries, which never change.
type entries struct {
	*GHA
	list sync.Once
	keys map[string]struct{} // of all blobs that the token reaches; nil when nobody lists them
}

func (e *entries) at(key string) string { return "cache entry " + key }

// head tells whether there is an entry. The service says nothing of its size. Who may
// only write finds out by trying.
func (e *entries) head(ctx context.Context, key string) (int64, error) {
	if e.blind() {
		return 0, ErrAbsent
	}
	e.list.Do(func() { e.keys = e.listKeys(ctx) })
	// GitHub's lists may lag behind, so that only what is in one is certain.
	if _, ok := e.keys[key]; ok {
		return UnknownSize, nil
	}
	entry, err := e.lookUp(ctx, key)
	if err != nil {
		return 0, err
	}
	e.found.Store(key, entry)
	return UnknownSize, nil
}

// listFor bounds the listing, so that a probe has time left to look up.
const listFor = 3 * time.Second

// listKeys is nil where the user gave no token for it, or it could not be had.
func (e *entries) listKeys(ctx context.Context) map[string]struct{} {
	if e.rest == nil || e.cache == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, listFor)
	defer cancel()
	keys, err := e.cache.AllKeys(ctx, e.rest, blobPrefix)
	if err != nil {
		return nil
	}
	return keys
}

// lookUp finds an entry by its whole key. Services do not tell capitals from small letters.
func (e *entries) lookUp(ctx context.Context, key string) (*actionscache.Entry, error) {
	entry, err := e.load(ctx, key)
	if err == nil && !strings.EqualFold(entry.Key, key) {
		return nil, ErrAbsent
	}
	return entry, err
}

// load finds the newest entry whose key begins so, or [ErrAbsent].
func (e *entries) load(ctx context.Context, prefix string) (*actionscache.Entry, error) {
	if e.err != nil {
		return nil, e.err
	}
	select {
	case e.lookups <- struct{}{}:
		defer func() { <-e.lookups }()
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
	for try := 1; ; try++ {
		entry, err := e.cache.Load(ctx, prefix)
		var answer actionscache.HTTPError
		switch {
		case err == nil && entry == nil:
			return nil, ErrAbsent
		case err == nil:
			return entry, nil
		case !errors.As(err, &answer) || answer.StatusCode < 500 || try == readTries:
			return nil, plainly(err)
		}
		if err := pause(ctx, try); err != nil {
			return nil, err
		}
	}
}

// readTries is how often the service, or its storage, is asked that has a fault of its own.
const readTries = 3

// pause waits before the next try, longer each time.
func pause(ctx context.Context, try int) error {
	select {
	case <-time.After(time.Duration(try) * time.Second):
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// get streams an entry. One that was looked up before is not looked up again.
func (e *entries) get(ctx context.Context, key string, offset int64) (io.ReadCloser, map[string]string, error) {
	var err error
	found, looked := e.found.LoadAndDelete(key)
	entry, _ := found.(*actionscache.Entry)
	if !looked {
		if entry, err = e.lookUp(ctx, key); err != nil {
			return nil, nil, err
		}
	}
	body, err := e.download(ctx, entry.URL, offset)
	if errors.Is(err, errExpired) && looked {
		return e.get(ctx, key, offset)
	}
	return body, nil, err
}

// put makes an entry.
func (e *entries) put(ctx context.Context, key string, content []byte, _ map[string]string) error {
	return e.save(ctx, key, actionscache.NewBlob(content), bytes.NewReader(nil))
}

func (e *entries) upload(ctx context.Context, key string, body io.Reader, size int64) error {
	return e.save(ctx, key, &stream{from: body, size: size}, body)
}

// save makes an entry, unless there is one with that key: then another build is about to
// end it, or has. Or another cache of this one, which gets the same body at the same
// speed: what is left of it is read all the same.
func (e *entries) save(ctx context.Context, key string, content actionscache.Blob, body io.Reader) error {
	if e.err != nil {
		return e.err
	}
	err := e.cache.Save(ctx, key, content)
	if !errors.Is(err, os.ErrExist) {
		return plainly(err)
	}
	if _, err := io.Copy(io.Discard, body); err != nil || e.blind() {
		return err
	}
	return e.await(ctx, key)
}

// How long another build may take for an entry that it has begun, and how often it is
// asked for. Nobody sees whether that build is still at it.
const (
	awaitFor   = time.Minute
	awaitEvery = time.Second
)

// await waits for an entry to be there, since an index must not name a blob that is not.
func (e *entries) await(ctx context.Context, key string) error {
	ctx, cancel := context.WithTimeoutCause(ctx, awaitFor, fmt.Errorf("another build began it, and did not end within %s", awaitFor))
	defer cancel()
	tick := time.NewTicker(awaitEvery)
	defer tick.Stop()
	for {
		if _, err := e.lookUp(ctx, key); !errors.Is(err, ErrAbsent) {
			return err
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-tick.C:
		}
	}
}

// version is one of a mutable entry's.
type version struct {
	number  int // 0: there is none
	content digest.Digest
}

// last is the newest version of a mutable entry that was seen, and whether one was looked for.
func (c *GHA) last(key string) (version, bool) {
	v, ok := c.seen.Load(key)
	if !ok {
		return version{}, false
	}
	return v.(version), true
}

func (c *GHA) saw(key string, v version) { c.seen.Store(key, v) }

// newest is the newest version of a mutable entry, as BuildKit keeps its index: a series
// of entries <key>#<n>. There is none with the number 0.
func (e *entries) newest(ctx context.Context, key string) (*actionscache.Entry, int, error) {
	entry, err := e.load(ctx, key+"#")
	if err != nil {
		return nil, 0, err
	}
	number, err := strconv.Atoi(entry.Key[strings.LastIndex(entry.Key, "#")+1:])
	if err != nil || number < 1 {
		return nil, 0, fmt.Errorf("%q is no version of it", entry.Key)
	}
	for !e.v2 {
		// Servers of version 1 keep the time in seconds (nektos/act v0.2.89,
		// pkg/artifactcache): of two versions of one second either is the newest to them.
		next, err := e.lookUp(ctx, key+"#"+strconv.Itoa(number+1))
		if errors.Is(err, ErrAbsent) {
			break
		}
		if err != nil {
			return nil, 0, err
		}
		entry, number = next, number+1
	}
	return entry, number, nil
}

// replaceTries is how many other builds may write an index at the same time.
const replaceTries = 10

// replace makes the next version after the one with a number. If another build has made,
// or has begun, that version, the one after it: the last one counts.
func (e *entries) replace(ctx context.Context, key string, number int, content []byte) (int, error) {
	if e.err != nil {
		return 0, e.err
	}
	for range replaceTries {
		number++
		err := e.cache.Save(ctx, key+"#"+strconv.Itoa(number), actionscache.NewBlob(content))
		if !errors.Is(err, os.ErrExist) {
			return number, plainly(err)
		}
	}
	return 0, fmt.Errorf("the last %d versions of it were all begun by others", replaceTries)
}

// errExpired says that a URL is refused: signed ones hold for some minutes.
var errExpired = errors.New("its storage refuses the URL")

// download streams what lies at an entry's URL from an offset. The library's own way
// connects anew for every read that does not begin at 0.
func (e *entries) download(ctx context.Context, url string, offset int64) (io.ReadCloser, error) {
	for try := 1; ; try++ {
		request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
		if err != nil {
			return nil, plainly(err)
		}
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
			return nil, ErrAbsent
		case answer.StatusCode == http.StatusForbidden || answer.StatusCode == http.StatusUnauthorized:
			return nil, errExpired
		case answer.StatusCode < 500 || try == readTries:
			return nil, fmt.Errorf("its storage answers %s", answer.Status)
		}
		if err := pause(ctx, try); err != nil {
			return nil, err
		}
	}
}

// query is that of a URL in a message. The service's own URLs carry signatures there.
var query = regexp.MustCompile(`\?[^\s"']*`)

// plainError is an error in fewer words, without the queries of URLs.
type plainError struct {
	text string
	err  error
}

func (e *plainError) Error() string { return e.text }
func (e *plainError) Unwrap() error { return e.err }

// plainly says in one line what the service, or Azure's storage behind it, answered.
func plainly(err error) error {
	if err == nil {
		return nil
	}
	text := err.Error()
	var storage *azcore.ResponseError
	if errors.As(err, &storage) {
		text = "its storage answers " + azureError(storage).Error()
	}
	return &plainError{query.ReplaceAllString(text, "?…"), err}
}
