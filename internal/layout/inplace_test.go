package layout

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/gofrs/flock"
)

// TestInPlace: a lock counts only while its file has its name, which BuildKit's client removes.
func TestInPlace(t *testing.T) {
	t.Parallel()
	lock := flock.New(filepath.Join(t.TempDir(), "lock"))
	if ok, err := lock.TryLock(); !ok || err != nil || !inPlace(lock) {
		t.Fatal(ok, err, inPlace(lock))
	}
	defer lock.Unlock() //nolint:errcheck // it ends with the test
	if err := os.Remove(lock.Path()); err != nil {
		t.Fatal(err)
	}
	if inPlace(lock) {
		t.Error("a file without a name")
	}
	if err := os.WriteFile(lock.Path(), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	if inPlace(lock) {
		t.Error("another file has the name")
	}
}
