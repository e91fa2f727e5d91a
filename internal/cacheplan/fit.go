package cacheplan

import (
	"errors"
	"fmt"

	digest "github.com/opencontainers/go-digest"

	"github.com/warmlayer/warmlayer/backends"
	"github.com/warmlayer/warmlayer/internal/cachegraph"
	"github.com/warmlayer/warmlayer/internal/gateway"
)

// Reduced says that a cache was written without some of the build's results. It is no failure.
type Reduced struct {
	Dropped, Of int
	Why         error
}

func (e *Reduced) Error() string {
	return fmt.Sprintf("%d of %d results were left out: %v", e.Dropped, e.Of, e.Why)
}

func (e *Reduced) Unwrap() error { return e.Why }

// fit is a cache without the results that need damaged blobs, and within the
// bounds of what BuildKit imports. The note is a [Reduced] when results were left out. When none
// would remain it is an error, so that the store keeps the cache that it has.
func fit(sent gateway.Sent, damaged map[digest.Digest]error) (fitted gateway.Sent, note, err error) {
	why := unfit(sent, damaged)
	switch {
	case why == nil:
		return sent, nil, nil
	case sent.Config == nil:
		return gateway.Sent{}, nil, why
	}
	without := map[digest.Digest]bool{}
	for d := range damaged {
		without[d] = true
	}
	out, err := cachegraph.Fit(sent.Config, sent.Manifest.Layers, without, backends.MaxConfig)
	if err != nil {
		return gateway.Sent{}, nil, fmt.Errorf("%w, and it cannot be reduced: %w", why, err)
	}
	kept := out.Results()
	if kept == 0 {
		return gateway.Sent{}, nil, fmt.Errorf("the former cache is kept: %w", why)
	}
	m, err := backends.NewManifest(out.JSON, out.Layers, sent.Manifest.Record)
	return gateway.Sent{Manifest: m, Config: out.JSON}, &Reduced{out.Dropped, out.Dropped + kept, why}, err
}

// unfit is why a cache must not be written as it was sent; nil when it may be.
func unfit(sent gateway.Sent, damaged map[digest.Digest]error) error {
	for _, l := range sent.Manifest.Layers {
		if err := damaged[l.Digest]; err != nil {
			return err
		}
	}
	if n := sent.Manifest.Config.Size; n > backends.MaxConfig {
		return fmt.Errorf("the cache config has %d bytes, and BuildKit imports at most %d", n, backends.MaxConfig)
	}
	if sent.Config == nil {
		return nil
	}
	if _, err := cachegraph.Parse(sent.Config, sent.Manifest.Layers); errors.Is(err, cachegraph.ErrTooLarge) {
		return err
	}
	return nil
}
