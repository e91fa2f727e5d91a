package storage_test

import (
	"fmt"
	"testing"

	digest "github.com/opencontainers/go-digest"

	"github.com/warmlayer/warmlayer/internal/storage"
)

// TestMarks: the set has all that was added, and hardly anything else.
func TestMarks(t *testing.T) {
	t.Parallel()
	const many = 100_000
	m := storage.NewMarks()
	name := func(i int) digest.Digest { return digest.FromString(fmt.Sprint(i)) }
	for i := range many {
		m.Add(name(i))
	}
	wrong := 0
	for i := range 2 * many {
		switch has := m.Has(name(i)); {
		case i < many && !has:
			t.Fatalf("%d is missing", i)
		case i >= many && has:
			wrong++
		}
	}
	if wrong > 0 {
		t.Errorf("%d of %d others count as added", wrong, many)
	}
	m.Add("md5:00") // a digest that another program chose: shorter, and no reason to fail
	m.Add(digest.SHA512.FromString("longer"))
	if !m.Has(digest.SHA512.FromString("longer")) {
		t.Error("a longer digest is missing")
	}
}
