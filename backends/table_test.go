package backends

import (
	"maps"
	"slices"
	"testing"

	"github.com/warmlayer/warmlayer/internal/cachespec"
)

// Every type of cache that can be written has a backend, and every backend has a type.
func TestTableHasAllTypes(t *testing.T) {
	t.Parallel()
	if got, want := slices.Sorted(maps.Keys(openers)), cachespec.Types(cachespec.To); !slices.Equal(got, want) {
		t.Errorf("the backends are %q, the types of caches %q", got, want)
	}
}
