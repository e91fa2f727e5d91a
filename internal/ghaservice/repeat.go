package ghaservice

import (
	"context"
	"errors"
	"time"

	actionscache "github.com/tonistiigi/go-actions-cache"
)

// whileDown repeats a request while the service answers 5xx, up to readTries.
func whileDown(ctx context.Context, request func() error) error {
	for try := 1; ; try++ {
		err := request()
		var answer actionscache.HTTPError
		if !errors.As(err, &answer) || answer.StatusCode < 500 || try == readTries {
			return err
		}
		if err := pause(ctx, try); err != nil {
			return err
		}
	}
}

// readTries is how often a request is made while the service or its storage answers 5xx, or the storage 429.
const readTries = 3

// pause waits before the next try: 1 second after the first, 2 after the second.
func pause(ctx context.Context, try int) error { return sleep(ctx, time.Duration(try)*time.Second) }

func sleep(ctx context.Context, wait time.Duration) error {
	select {
	case <-time.After(wait):
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
