package cachegraph

import (
	"bytes"
	"errors"
	"fmt"

	digest "github.com/opencontainers/go-digest"
)

// ErrTooLarge says that a cache config is beyond the bounds within which configs are read.
// BuildKit has no such bounds: a config of 922 KB with 3,000 results on a chain of 5,000
// layers makes its importer take 40 s and 12 GB (v0.34.2, cache/remotecache/v1/parse.go, which
// copies the whole chain for each result).
var ErrTooLarge = errors.New("too large to be read")

// ErrContradicts says that records of one digest have different numbers of inputs. No step has that, and
// BuildKit, which compares only the inputs that both have, may make such a record its own input: then its
// daemon ends with a stack overflow (v0.34.2, cache/remotecache/v1/chains.go, Add and computeID).
var ErrContradicts = errors.New("records of one digest have different numbers of inputs")

// Harmful reports whether an error of [Parse] is of a config that BuildKit would import nevertheless.
func Harmful(err error) bool { return errors.Is(err, ErrTooLarge) || errors.Is(err, ErrContradicts) }

// consistent is nil, or an [ErrContradicts].
func consistent(all []*record) error {
	inputs := make(map[digest.Digest]int, len(all))
	for _, r := range all {
		if n, known := inputs[r.digest]; known && n != len(r.inputs) {
			return fmt.Errorf("%w: %s", ErrContradicts, r.digest)
		}
		inputs[r.digest] = len(r.inputs)
	}
	return nil
}

// The bounds of one config. Realistic builds stay far below them: a thousand steps, each with
// a result of 50 layers, expand to 50,000 layers.
const (
	// maxElements bounds the commas of the JSON text, and so the memory that parsing takes.
	maxElements = 500_000
	maxRecords  = 50_000
	maxLayers   = 50_000
	// MaxExpanded bounds the layers of all results together, each with all of its parents:
	// BuildKit's importer takes about 800 bytes for each.
	MaxExpanded = 200_000
)

// maxWork bounds the links that one merge looks at. The merge of six configs of a thousand
// steps looks at about 100,000.
const maxWork = 10_000_000

func tooMany(n int, what string, bound int) error {
	return fmt.Errorf("%w: %d %s, and at most %d are read", ErrTooLarge, n, what, bound)
}

// CheckText bounds a JSON document, a config or a manifest, before it is parsed. Each element
// of a list but the first follows a comma. The error is an [ErrTooLarge].
func CheckText(document []byte) error {
	if n := bytes.Count(document, []byte{','}); n > maxElements {
		return tooMany(n, "elements in its JSON", maxElements)
	}
	return nil
}

// budget counts what a merge may still look at.
type budget struct{ left int }

func newBudget() *budget { return &budget{maxWork} }

// spend takes n links from the budget. The error is an [ErrTooLarge] when it is used up.
func (b *budget) spend(n int) error {
	if b.left -= n; b.left < 0 {
		return fmt.Errorf("%w: its records match in too many ways (bound of %d comparisons)", ErrTooLarge, maxWork)
	}
	return nil
}
