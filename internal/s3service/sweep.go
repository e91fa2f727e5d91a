package s3service

import (
	"context"
	"errors"
	"strconv"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"

	"github.com/warmlayer/warmlayer/internal/storage"
	"github.com/warmlayer/warmlayer/internal/waiting"
)

// S3 removes an object whatever has happened to it since it was listed. So a sweep leaves a mark beside the objects, and writes it again before it
// lists each page. A build that has touched an old object looks for the mark. Where there is one, the build waits until it changes or goes, because
// the page that was listed before the object was touched is then done: a later page, or a later sweep, finds the object young. Then it looks whether
// the object is still there.
const (
	mark      = "warmlayer-sweep"
	maxMark   = 2 * time.Minute // a mark that is older belongs to a sweep that has died; a page takes seconds
	lookAgain = 200 * time.Millisecond
)

func markOf(key string) string { return key[:strings.LastIndex(key, "/")+1] + mark }

// sweep is a sweep of objects that is going on.
type sweep struct {
	bucket *Bucket
	key    string // of the mark
	pages  int
}

// BeginSweep lets builds know, until end is called, that objects with a prefix are being removed. next is called before each page but the first is
// listed.
func (b *Bucket) BeginSweep(ctx context.Context, prefix string) (next func(context.Context) error, end func(), err error) {
	s := &sweep{bucket: b, key: markOf(prefix)}
	return s.next, s.end, s.next(ctx)
}

// next renews the mark before a page is listed.
func (s *sweep) next(ctx context.Context) error {
	client, err := waiting.Within(ctx, s.bucket.client)
	if err != nil {
		return err
	}
	s.pages++
	page := strconv.Itoa(s.pages) + " " + time.Now().String()
	_, err = client.PutObject(ctx, &s3.PutObjectInput{Bucket: &s.bucket.spec.Bucket, Key: &s.key, Body: strings.NewReader(page)})
	return s3Error(err)
}

// end removes the mark. One that stays is too old soon.
func (s *sweep) end() {
	ctx, cancel := context.WithTimeout(context.Background(), maxMark)
	defer cancel()
	_ = s.bucket.Remove(ctx, s.key)
}

// renewing writes an object and, where it was old and could not be touched, makes sure that no sweep has removed it meanwhile; else again writes it
// once more.
func (b *Bucket) renewing(ctx context.Context, client *s3.Client, key string, write, again func() error) error {
	err := write()
	if _, old := b.old.LoadAndDelete(key); err != nil || !old {
		return err
	}
	if _, err := b.afterSweep(ctx, client, key); !errors.Is(err, storage.ErrAbsent) {
		return err
	}
	return again()
}

// afterSweep waits until no sweep can remove an object that was just touched, and then looks for it once more: its size.
func (b *Bucket) afterSweep(ctx context.Context, client *s3.Client, key string) (int64, error) {
	beside := markOf(key)
	tick := time.NewTicker(lookAgain)
	defer tick.Stop()
	for first := ""; ; {
		found, err := client.HeadObject(ctx, &s3.HeadObjectInput{Bucket: &b.spec.Bucket, Key: &beside})
		none := noSuchKey(err) || isForbidden(err) || err == nil && time.Since(aws.ToTime(found.LastModified)) > maxMark
		switch {
		case err != nil && !none:
			return 0, s3Error(err)
		case none, first != "" && aws.ToString(found.ETag) != first:
			head, err := client.HeadObject(ctx, &s3.HeadObjectInput{Bucket: &b.spec.Bucket, Key: &key})
			if err != nil {
				return 0, s3Error(err)
			}
			return aws.ToInt64(head.ContentLength), nil
		}
		first = aws.ToString(found.ETag)
		select {
		case <-ctx.Done():
			return 0, context.Cause(ctx)
		case <-tick.C:
		}
	}
}
