package ghaservice

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob/blockblob"
	actionscache "github.com/tonistiigi/go-actions-cache"

	"github.com/warmlayer/warmlayer/internal/storage"
)

// create creates an entry. The error is an [os.ErrExist] when the key is taken.
//
// Version 2 is not left to the library (v0.0.0-20260930145529, cache_v2.go): its client of the storage
// repeats a request ten times, with ten seconds to two minutes between, and sends no checksums. As in
// GitHub's own client (actions/toolkit, packages/cache, cacheTwirpClient.ts), calls are repeated while
// the service answers 5xx. One that was carried out all the same has taken the key, or ended the entry.
func (e *Entries) create(ctx context.Context, key string, content actionscache.Blob) error {
	if !e.spec.V2 {
		return e.cache.Save(ctx, key, content)
	}
	var begun callAnswer
	err := whileDown(ctx, func() error {
		return e.call(ctx, "CreateCacheEntry", callMessage{Key: key, Version: entryVersion}, &begun)
	})
	if err != nil {
		return err
	}
	if err := e.send(ctx, begun.URL, content); err != nil {
		return err
	}
	size, calls := content.Size(), 0
	err = whileDown(ctx, func() error {
		calls++
		return e.call(ctx, "FinalizeCacheEntryUpload", callMessage{Key: key, Version: entryVersion, Size: &size}, &callAnswer{})
	})
	if err != nil && calls > 1 && !e.WriteOnly() {
		if _, missing := e.lookUp(ctx, key); missing == nil {
			return nil
		}
	}
	return err
}

// entryVersion is the version of all entries of BuildKit (go-actions-cache, cache.go, version). The
// service finds entries by key and version.
var entryVersion = func() string {
	sum := sha256.Sum256([]byte("|go-actionscache-1.0"))
	return hex.EncodeToString(sum[:])
}()

// How an entry's content is sent: in blocks of this size in bytes, of which so many are sent at the
// same time. They are in memory meanwhile. A smaller content is one request.
const (
	blockSize    = 4 << 20
	blocksAtOnce = 2
)

// sending bounds the tries of a request to the storage: three more, within some ten seconds.
var sending = policy.RetryOptions{MaxRetries: 3, RetryDelay: time.Second, MaxRetryDelay: 8 * time.Second}

// send sends the content of an entry to the URL that the service gave.
func (c *Client) send(ctx context.Context, url string, content actionscache.Blob) error {
	options := &blockblob.ClientOptions{ClientOptions: policy.ClientOptions{
		Transport: c.http, Retry: sending,
		PerCallPolicies: []policy.Policy{storage.Checksums{}},
		Telemetry:       policy.TelemetryOptions{ApplicationID: storage.UserAgent},
	}}
	client, err := blockblob.NewClientWithNoCredential(url, options)
	if err != nil {
		return fmt.Errorf("use the URL that the service gave for the entry: %w", err)
	}
	_, err = client.UploadStream(ctx, io.NewSectionReader(content, 0, content.Size()), &blockblob.UploadStreamOptions{
		BlockSize: blockSize, Concurrency: blocksAtOnce,
	})
	return err
}

// callMessage and callAnswer have the fields of the calls that create an entry (actions/toolkit,
// packages/cache, generated from results/api/v1/cache.proto).
type callMessage struct {
	Key     string `json:"key"`
	Version string `json:"version"`
	Size    *int64 `json:"size_bytes,omitempty"`
}

type callAnswer struct {
	OK      bool   `json:"ok"`
	Message string `json:"message"`
	URL     string `json:"signed_upload_url"`
}

// call makes a call of version 2. As with the library's calls, a limit of requests is waited for, up
// to the line's timeout.
func (c *Client) call(ctx context.Context, method string, message callMessage, answer *callAnswer) error {
	body, err := json.Marshal(message)
	if err != nil {
		return err
	}
	end := time.Now().Add(c.spec.Timeout)
	var limited error
	for {
		if err := c.backoff.Wait(ctx, time.Until(end)); err != nil {
			return errors.Join(limited, err)
		}
		header, err := c.post(ctx, method, body, answer)
		var refusal actionscache.HTTPError
		if !errors.As(err, &refusal) || refusal.StatusCode != http.StatusTooManyRequests {
			c.backoff.Reset()
			return err
		}
		limited = err
		seconds, err := strconv.Atoi(header.Get("Retry-After"))
		if err != nil {
			c.backoff.Delay()
			continue
		}
		wait := time.Duration(seconds) * time.Second
		if wait > time.Until(end) {
			return fmt.Errorf("%w: it asks for a wait of %s, and timeout is %s", limited, wait, c.spec.Timeout)
		}
		if err := sleep(ctx, wait); err != nil {
			return err
		}
	}
}

// post sends a call once. The header is the answer's.
func (c *Client) post(ctx context.Context, method string, body []byte, answer *callAnswer) (http.Header, error) {
	url := strings.TrimRight(c.spec.URL, "/") + "/twirp/github.actions.results.api.v1.CacheService/" + method
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, url, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	request.Header = http.Header{
		"Authorization": {"Bearer " + c.spec.Token}, "Content-Type": {"application/json"}, "User-Agent": {storage.UserAgent},
	}
	got, err := c.http.Do(request)
	if err != nil {
		return nil, err
	}
	defer got.Body.Close()
	content, err := io.ReadAll(io.LimitReader(got.Body, maxAnswer))
	if err != nil {
		return nil, err
	}
	if got.StatusCode/100 != 2 {
		return got.Header, callError(got.StatusCode, content)
	}
	if err := json.Unmarshal(content, answer); err != nil {
		return nil, fmt.Errorf("%s: the service's answer is not JSON: %w", method, err)
	}
	if !answer.OK {
		return nil, fmt.Errorf("%s: the service refuses the entry %s", method, answer.Message)
	}
	return got.Header, nil
}

// maxAnswer is the largest answer in bytes that is read.
const maxAnswer = 32 << 10

// callError is an error of Twirp in the library's types: its code, or the status where a proxy answers.
func callError(status int, content []byte) error {
	var twirp struct{ Code string }
	if json.Unmarshal(content, &twirp) != nil || twirp.Code == "" {
		return actionscache.HTTPError{StatusCode: status, Err: fmt.Errorf("HTTP status %d", status)}
	}
	err := actionscache.GithubAPIError{Message: twirp.Code, TypeKey: twirp.Code}
	if twirp.Code == "already_exists" {
		err.TypeKey = "AlreadyExists" // an os.ErrExist
	}
	return actionscache.HTTPError{StatusCode: status, Err: err}
}
