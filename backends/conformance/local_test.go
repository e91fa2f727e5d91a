package conformance

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/warmlayer/warmlayer/internal/testkit"
)

func TestLocal(t *testing.T) {
	t.Parallel()
	conform(t, harness{open: openLocal})
}

func TestLocalRemote(t *testing.T) {
	t.Parallel()
	conform(t, harness{open: openLocal, remote: true, eager: true})
}

// openLocal is a new directory, and a repository for the images.
func openLocal(t *testing.T) store {
	t.Helper()
	dir := filepath.Join(testkit.Temp(t), "cache")
	return store{
		line: "type=local,dest=" + dir, image: testkit.StartRegistry(t).Host + "/app",
		names: func(t testing.TB) []string {
			index, err := os.ReadFile(filepath.Join(dir, "index.json"))
			if err != nil {
				t.Fatal(err)
			}
			return []string{string(index)}
		},
	}
}
